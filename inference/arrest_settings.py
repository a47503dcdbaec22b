"""What a fit of the arrest model to single patients models: fit.toml with [tables] and structure "arrest"."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from mezikd.model.parameters import DECLARED, Parameter, with_priors
from pydantic import Field, ValidationInfo, field_validator, model_validator

from .covariates import WithCovariates
from .files import read_text
from .patient_settings import Checks, Correlation, PatientSampler
from .settings import OneLine, Section, Study, number, whole

EFFECTS = ("exposure", "anc0", "maturation", "progression")
"""In what patients differ, as in model/patients.py; doses are given as delivered, so their intensity is no effect."""
SDS = ("exposure_sd", "anc0_sd", "maturation_sd", "progression_frailty_sd")
"""Declared parameters that are the SDs of the log of these."""
RELATIVE = ("exposure", "maturation")
"""What is 1 in the typical patient: named in [parameters] for its covariates, or a column of exposures."""
OF_PATIENTS = (
    *RELATIVE, "half_life_hours", "ec50", "hill", "ikaros_half_life_days", "blood_half_life_hours", "reserve_ratio", "saturation",
    "feedback", "cell_death", "anc0", "infection_rate", "progression_rate", "ec50_tumour",
)  # fmt: skip
"""What covariates can act on: positive parameters that every patient has its own of."""
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


class Prior(WithCovariates):
    """Prior of a declared parameter, and covariates; what is left out is as declared in model/parameters.py.

    The last three are of ``exposure`` alone: every patient's own, from an earlier analysis.
    """

    centre: float | None = Field(default=None, description="prior median, in the parameter's unit: a number")
    spread: float | None = number(0.0, 10.0, "prior SD on the working scale; 0 fixes the parameter", None)  # type: ignore[arg-type]
    column: OneLine | None = Field(
        default=None,
        min_length=1,
        description="column of exposures (AUC, or average concentration), of adsl by patient or of adex by record: a name",
    )
    reference: float | None = Field(
        default=None, gt=0, description="exposure of a dose of 1 mg that counts as 1: a number above 0"
    )
    dose: OneLine | None = Field(
        default=None,
        min_length=1,
        description="column of adsl with the dose, mg, that each exposure is of: a name (none: all are of 1 mg)",
    )

    @model_validator(mode="after")
    def _given(self) -> "Prior":
        if (self.column is None) != (self.reference is None) or (self.column is None and self.dose is not None):
            raise ValueError("needs column and reference, and dose where exposures are not of 1 mg, or none of them")
        if self.column is not None and self.covariates:
            raise ValueError("has a column and covariates: what is given is not explained by covariates too")
        return self


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
    effects: Correlation = Field(default=Correlation(), description="section: correlation, lkj_shape")
    joint: Joint | None = Field(default=None, description="section: evidence, shared, between_trial_sd")
    checks: Checks = Field(default=Checks(), description="section: prediction_corrected")
    sampler: ArrestSampler = Field(default=ArrestSampler(), description="section")

    @field_validator("parameters")
    @classmethod
    def _known(cls, value: dict[str, Prior]) -> Any:
        known = (*READ, *REGIONAL, *RELATIVE)
        extra = [n for n in value if n not in known]
        if extra:
            raise ValueError(
                f"has {', '.join(extra)}: a fit of single patients reads {', '.join(READ)} and regions' effects"
            )
        for name, p in value.items():
            _check_use(name, p, value)
        if all(p.fixed for p in declared_in(value)):
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
        """All declared parameters: those named in [parameters] with their prior, the others fixed; coefficients of covariates."""
        return declared_in(self.parameters)

    @property
    def exposure(self) -> Prior | None:
        """Where every patient's exposure is given, if it is."""
        found = self.parameters.get("exposure")
        return found if found is not None and found.column is not None else None

    @property
    def differs(self) -> tuple[str, ...]:
        """In what patients differ: EFFECTS, but for an exposure that is given."""
        return EFFECTS if self.exposure is None else tuple(e for e in EFFECTS if e != "exposure")

    @property
    def sds(self) -> tuple[str, ...]:
        """Parameters that are the SDs of these."""
        return tuple(sd for e, sd in zip(EFFECTS, SDS, strict=True) if e in self.differs)


def _check_use(name: str, p: Prior, every: Mapping[str, Prior]) -> None:
    """Raise ValueError where a parameter has what is not of its kind."""
    if p.column is not None and name != "exposure":
        raise ValueError(f"gives {name} by a column: only exposure can be given")
    if p.covariates and name not in OF_PATIENTS:
        raise ValueError(f"has covariates of {name}: they can act on {', '.join(OF_PATIENTS)}")
    if name in RELATIVE:
        if (p.centre, p.spread) != (None, None):
            raise ValueError(f"has a prior of {name}, which is 1 in the typical patient: give covariates alone")
        if p.column is None and not p.covariates:
            raise ValueError(f"has {name} without covariates{' or column' if name == 'exposure' else ''}: leave it out")
        if p.column is not None and "exposure_sd" in every:
            raise ValueError("has exposure_sd, but exposures are given by a column: leave one of them out")
        return
    regional = f"{name.removesuffix('_rate')}_region_"
    if "REGION" in p.covariates and (twice := [n for n in every if n.startswith(regional)]):
        raise ValueError(f"has {twice[0]} and the covariate REGION of {name}: leave one of them out")
    support = next(d.support for d in DECLARED if d.name == name)
    if p.centre is not None and ((support != "real" and p.centre <= 0.0) or (support == "unit" and p.centre >= 1.0)):
        raise ValueError(
            f"has centre {p.centre:g} of {name}, which lies {'in (0, 1)' if support == 'unit' else 'above 0'}"
        )


def declared_in(parameters: Mapping[str, Prior]) -> tuple[Parameter, ...]:
    """Return all declared parameters, and the coefficients of covariates, whose priors are normal.

    Those of ``parameters`` have their prior, the others are fixed at their centre.
    """
    known = {p.name: p for p in DECLARED}
    changes = {
        n: (known[n].centre if p.centre is None else p.centre, known[n].spread if p.spread is None else p.spread)
        for n, p in parameters.items() if n in known
    }  # fmt: skip
    coefficients = (
        Parameter(
            t.coefficient(n), t.key, "1", "real", t.centre, t.spread, "fit.toml", "assumption", t.meaning(n), t.spread == 0.0
        )
        for n, p in parameters.items() for t in p.terms
    )  # fmt: skip
    return *(fixed_unless(p, p.name in changes) for p in with_priors(changes)), *coefficients


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
