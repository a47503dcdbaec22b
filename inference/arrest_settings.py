"""What a fit of the arrest model to single patients models: fit.toml with [tables] and structure "arrest"."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from mezikd.model.parameters import DECLARED, Parameter, with_priors
from pydantic import Field, ValidationInfo, field_validator

from .files import read_text
from .patient_settings import Checks, PatientSampler
from .settings import Section, Study, number, whole

EFFECTS = ("exposure", "anc0", "maturation", "progression")
"""In what patients differ, as in model/patients.py; doses are given as delivered, so their intensity is no effect."""
SDS = ("exposure_sd", "anc0_sd", "maturation_sd", "progression_frailty_sd")
"""Declared parameters that are the SDs of the log of these."""
READ = (
    "half_life_hours", "exposure_sd", "ec50", "hill", "emax", "ikaros_half_life_days", "blood_half_life_hours", "maturation_sd",
    "reserve_ratio", "saturation", "feedback", "cell_death", "theta", "anc0", "anc0_sd", "sigma_anc", "infection_rate",
    "infection_early_mezikd", "infection_early_kd", "infection_early_days", "infection_drug", "infection_neutropenia",
    "infection_frailty_sd", "infection_fatal", "progression_rate", "progression_shape", "progression_frailty_sd",
    "tumour_effect", "ec50_tumour", "tumour_memory_days", "death_rate", "post_progression_death",
)  # fmt: skip
"""Declared parameters that the likelihood of single patients reads; regions aside, the others stand for dose rules and visits."""
REGIONAL = tuple(p.name for p in DECLARED if "_region_" in p.name)


class AdamTables(Section):
    """Where the patients' tables are."""

    file: str = Field(
        default=".", min_length=1, description='folder of adsl and its kin: "." or a name in double quotes'
    )


class ArrestModel(Section):
    """Structure: the maturation arrest under daily doses, as in a fit to reported numbers."""

    structure: Literal["arrest"] = Field(description='neutrophil model: "arrest"')
    steps_per_day: int = whole(1, 24, "integration steps a day", 1)
    infection: bool = Field(default=True, description="whether times to severe infection are fitted: true or false")
    progression: bool = Field(default=True, description="whether times to progression are fitted: true or false")
    death: bool = Field(default=True, description="whether deaths are fitted: true or false")


class Prior(Section):
    """Prior of a declared parameter; what is left out is as declared in model/parameters.py."""

    centre: float | None = Field(default=None, description="prior median, in the parameter's unit: a number")
    spread: float | None = number(0.0, 10.0, "prior SD on the working scale; 0 fixes the parameter", None)  # type: ignore[arg-type]


class ArrestSampler(PatientSampler):
    """Chains side by side: the other method needs a matrix of all coordinates."""

    method: Literal["side_by_side"] = Field(default="side_by_side", description='"side_by_side"')
    chains: int = whole(2, 256, "chains", 8)


class Joint(Section):
    """Reported numbers of another trial, fitted together with the patients."""

    evidence: str = Field(
        min_length=1,
        description='the other trial: "built-in", or a folder with fit.toml and evidence.csv, seen from this one',
    )
    shared: tuple[str, ...] = Field(
        strict=False,
        min_length=1,
        description='parameters that both trials have up to a deviation of their own: a list of names, for example ["ec50"]',
    )
    between_trial_sd: float = number(
        0.001, 5.0, "scale of the half-normal prior of that deviation's SD (working scale)"
    )

    @field_validator("shared")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [n for i, n in enumerate(value) if n in value[:i]]:
            raise ValueError(f"names {twice[0]} twice")
        return value


class ArrestFit(Section):
    """All of fit.toml of a fit of the arrest model to single patients."""

    study: Study = Field(description="section: name, title, citation")
    tables: AdamTables = Field(default=AdamTables(), description="section: file")
    model: ArrestModel = Field(description="section")
    parameters: Annotated[dict[str, Prior], Field(description="parameters that are estimated: [parameters] ec50 = {}")]
    joint: Joint | None = Field(default=None, description="section: evidence, shared, between_trial_sd")
    checks: Checks = Field(default=Checks(), description="section: prediction_corrected")
    sampler: ArrestSampler = Field(default=ArrestSampler(), description="section")

    @field_validator("parameters")
    @classmethod
    def _known(cls, value: dict[str, Prior]) -> Any:
        known = (*READ, *REGIONAL)
        extra = [n for n in value if n not in known]
        if extra:
            raise ValueError(
                f"has {', '.join(extra)}: a fit of single patients reads {', '.join(READ)} and regions' effects"
            )
        if not any(p.spread != 0.0 for p in value.values()):
            raise ValueError("leaves no parameter free: name those to estimate, for example anc0 = {}")
        return value

    @field_validator("joint")
    @classmethod
    def _estimated(cls, value: Joint | None, info: ValidationInfo) -> Joint | None:
        of_patients = info.data.get("parameters")
        if value is None or of_patients is None:
            return value
        estimated = [p.name for p in declared_in(of_patients) if not p.fixed]
        if extra := [n for n in value.shared if n not in estimated]:
            raise ValueError(f"shares {', '.join(extra)}: [parameters] estimates {', '.join(estimated)}")
        return value

    @property
    def declared(self) -> tuple[Parameter, ...]:
        """All declared parameters: those named in [parameters] with their prior, the others fixed at their centre."""
        return declared_in(self.parameters)


def declared_in(parameters: Mapping[str, Prior]) -> tuple[Parameter, ...]:
    """Return all declared parameters: those of ``parameters`` with their prior, the others fixed at their centre."""
    known = {p.name: p for p in DECLARED}
    changes = {
        n: (known[n].centre if p.centre is None else p.centre, known[n].spread if p.spread is None else p.spread)
        for n, p in parameters.items()
    }
    return tuple(fixed_unless(p, p.name in changes) for p in with_priors(changes))


def fixed_unless(p: Parameter, free: bool) -> Parameter:
    """Return ``p``, fixed at its centre unless ``free`` and of a prior with a spread."""
    return replace(p, fixed=not free or p.spread == 0.0)


def is_arrest(folder: Path) -> bool:
    """Return whether fit.toml in ``folder`` asks for the arrest model; what is wrong with the file is told by its reader."""
    try:
        asked = tomllib.loads(read_text(folder / "fit.toml")).get("model", {})
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(asked, dict) and asked.get("structure") == "arrest"
