"""What a fit of patients' own data models: fit.toml with a section [tables], checked and frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from .covariates import Term, WithCovariates
from .errors import input_error
from .files import read_text
from .settings import OneLine, Sampling, Section, Study, number, read_toml, whole

PK = ("ka", "cl", "v1", "q", "v2")
"""Absorption 1/h, clearance L/h, central volume L, exchange L/h, peripheral volume L."""
MARROW = ("mtt", "anc0", "gamma")
"""Mean transit time h, baseline 10^9/L, exponent of the feedback."""
LAG = "lag"
"""Lag of absorption h (NONMEM's ALAG1): there only where fit.toml declares it."""
EFFECT = {"linear": ("slope",), "emax": ("emax", "ec50")}
UNITS = {
    "ka": "1/h", "lag": "h", "cl": "L/h", "v1": "L", "q": "L/h", "v2": "L", "mtt": "h", "anc0": "10^9/L", "gamma": "1",
    "slope": "per unit of concentration", "emax": "1", "ec50": "unit of concentration",
}  # fmt: skip
MEANING = {
    "ka": "absorption rate", "lag": "lag of absorption", "cl": "clearance", "v1": "central volume", "q": "exchange with the periphery",
    "v2": "peripheral volume", "mtt": "mean transit time through the marrow", "anc0": "baseline ANC",
    "gamma": "exponent of the feedback of blood on proliferation", "slope": "kill for a unit of concentration",
    "emax": "largest kill", "ec50": "concentration of half the largest kill",
}  # fmt: skip


class Tables(Section):
    """Where the patients' records are."""

    file: OneLine = Field(min_length=1, description="file of records, NONMEM-style: a name in double quotes")
    dvid: dict[str, Literal["concentration", "anc"]] = Field(
        default={"1": "concentration", "2": "anc"},
        description='what each DVID is: { "1" = "concentration", "2" = "anc" }',
    )


class Model(Section):
    """Structure: PK in closed form, or an exposure that is given; Friberg's kill model in the marrow."""

    structure: Literal["friberg"] = Field(
        default="friberg", description='neutrophil model: "friberg", or "arrest" (daily doses without concentrations)'
    )
    compartments: int = whole(1, 2, "compartments of the drug", 2)
    exposure: OneLine | None = Field(
        default=None,
        min_length=1,
        description="column of the table with the concentration (or exposure) that acts on proliferation, from each row until "
        "the next, instead of PK: a name in double quotes",
    )
    effect: Literal["linear", "emax"] = Field(
        default="linear", description='effect of the concentration on proliferation: "linear" (at most 1) or "emax"'
    )
    first_step_hours: float = number(0.01, 24.0, "first step after a record, h", 1.0)
    largest_step_hours: float = number(0.05, 24.0, "largest step, h", 6.0)
    steady_state_days: float = number(
        1.0, 1000.0, "days before a steady-state dose (SS 1) in which the marrow comes to its own steady state", 120.0
    )

    @model_validator(mode="after")
    def _without_pk(self) -> "Model":
        of_pk = [
            n for n in ("compartments", "steady_state_days") if getattr(self, n) != type(self).model_fields[n].default
        ]
        if self.exposure is not None and of_pk:
            raise ValueError(
                f"has {', '.join(of_pk)}, but the exposure is given (column {self.exposure}): there is no PK"
            )
        return self

    @property
    def pk(self) -> tuple[str, ...]:
        """Parameters of the drug's concentration, the lag aside; none where it is given."""
        if self.exposure is not None:
            return ()
        return PK if self.compartments == 2 else PK[:3]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of the structure, in order."""
        return (*self.pk, *MARROW, *EFFECT[self.effect])


class Population(WithCovariates):
    """A population parameter: log-normal prior, individual effects, covariates; or every patient's own value in a column."""

    centre: float | None = Field(default=None, gt=0, description="prior median: a number above 0")
    spread: float | None = number(0.0, 5.0, "prior SD of the log; 0 fixes it", None)
    individual: bool = Field(default=False, description="whether patients differ: true or false")
    column: OneLine | None = Field(
        default=None,
        min_length=1,
        description="column of the table with every patient's own value, from an earlier analysis: a name in double quotes",
    )

    @model_validator(mode="after")
    def _estimated_or_given(self) -> "Population":
        if self.column is None and (self.centre is None or self.spread is None):
            raise ValueError("needs centre and spread, or column alone")
        estimated = self.centre, self.spread, self.individual, self.covariates
        if self.column is not None and estimated != (None, None, False, {}):
            raise ValueError("has a column, and what is given there is not estimated: column stands alone")
        return self

    @property
    def typical(self) -> float:
        """Prior median; 1, which a column multiplies."""
        return 1.0 if self.centre is None else self.centre

    @property
    def prior_sd(self) -> float:
        """Of the log; 0 where the parameter is fixed or given by a column."""
        return self.spread or 0.0

    @property
    def terms(self) -> tuple[Term, ...]:
        """What covariates, or the column of patients' own values, add to the log of the parameter."""
        if self.column is not None:
            return (Term("power", self.column, "", 1.0, 0.0),)
        return super().terms


class Correlation(Section):
    """Prior of the correlation of individual effects."""

    correlation: Literal["lkj", "none"] = Field(default="none", description='correlation of effects: "lkj" or "none"')
    lkj_shape: float = number(0.1, 100.0, "shape of the LKJ prior", 1.0)


class Effects(Correlation):
    """Prior of the individual effects' SDs and correlation."""

    sd_scale: float = Field(default=0.5, gt=0, description="scale of their half-normal prior: a number above 0")
    sd_upper: float = number(0.1, 10.0, "largest SD of an effect (log)", 3.0)


class Residual(Section):
    """Residual error of one observable."""

    error: Literal["lognormal", "proportional", "additive"] = Field(
        default="lognormal", description='"lognormal", "proportional" or "additive"'
    )
    prior: Literal["half_normal", "half_cauchy"] = Field(
        default="half_normal", description='prior of its SD: "half_normal" or "half_cauchy"'
    )
    scale: float = Field(default=0.5, gt=0, description="scale of that prior: a number above 0")


class Residuals(Section):
    """Residual errors of both observables."""

    concentration: Residual = Field(default=Residual(), description="section: error, prior, scale")
    anc: Residual = Field(default=Residual(), description="section: error, prior, scale")


class Checks(Section):
    """Predictive checks."""

    prediction_corrected: bool = Field(
        default=False, description="whether the visual predictive check is also prediction-corrected: true or false"
    )


class PatientSampler(Sampling):
    """NUTS, or chains side by side."""

    method: Literal["nuts", "side_by_side"] = Field(
        default="side_by_side",
        description='"side_by_side" (all chains in one program, trajectories of one length) or "nuts"',
    )
    chains: int = whole(2, 256, "chains", 16)


class PatientFit(Section):
    """All of fit.toml of a fit to patients' own data."""

    study: Study = Field(description="section: name, title, citation")
    tables: Tables = Field(description="section: file, dvid")
    model: Model = Field(default=Model(), description="section")
    parameters: Annotated[dict[str, Population], Field(description="one section a parameter: [parameters.cl]")]
    effects: Effects = Field(default=Effects(), description="section")
    residual: Residuals = Field(default=Residuals(), description="sections residual.concentration, residual.anc")
    checks: Checks = Field(default=Checks(), description="section: prediction_corrected")
    sampler: PatientSampler = Field(default=PatientSampler(), description="section")

    @field_validator("parameters")
    @classmethod
    def _of_the_structure(cls, value: dict[str, Population], info: ValidationInfo) -> Any:
        model = info.data.get("model", Model())
        missing = [n for n in model.names if n not in value]
        extra = [n for n in value if n not in (*model.names, LAG)]
        if model.exposure is not None and (pk := [n for n in value if n in (*PK, LAG)]):
            raise ValueError(
                f"has {', '.join(pk)}, but the exposure is given (column {model.exposure} in [model]): there is no PK"
            )
        if extra:
            raise ValueError(f"has {', '.join(extra)}: the structure knows {', '.join(model.names)}, and {LAG}")
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}: the structure needs {', '.join(model.names)}")
        return {n: value[n] for n in (*model.names, LAG) if n in value}

    @property
    def given(self) -> dict[str, str]:
        """Columns of patients' own values, by parameter."""
        return {n: p.column for n, p in self.parameters.items() if p.column is not None}


def load_patient_settings[Root: Section](folder: Path, root: type[Root] = PatientFit) -> Root:
    """Return the settings in ``folder``/fit.toml, as ``root``.

    Raises
    ------
    InputError: not TOML, an unknown or missing key, or a value outside its range.
    """
    return read_toml(folder / "fit.toml", root)[0]


def has_tables(folder: Path) -> bool:
    """Return whether fit.toml in ``folder`` describes a fit to patients' own tables: it has a section [tables]."""
    path = folder / "fit.toml"
    return path.is_file() and any(line.strip().startswith("[tables") for line in read_text(path).splitlines())


SAMPLER_OPTIONS = ("chains", "warmup", "draws", "seed", "method")


def with_patient_overrides[Root: Section](
    folder: Path, overrides: Mapping[str, int | str], root: type[Root] = PatientFit
) -> Root:
    """Return the settings in ``folder`` with options of the command line in place.

    Raises
    ------
    InputError: as ``load_patient_settings``, an option that such a fit does not have, or a value outside its range.
    """
    settings = load_patient_settings(folder, root)
    data = settings.model_dump()
    for option, value in overrides.items():
        name = f"--{option.replace('_', '-')}"
        if option not in SAMPLER_OPTIONS:
            allowed = ", ".join(f"--{o}" for o in SAMPLER_OPTIONS)
            raise input_error(name, "is of a fit to reported numbers", "leave it out", allowed=allowed)
        data["sampler"][option] = value
    if "draws" in overrides:  # exactly as many as asked for
        data["sampler"]["more_draws"] = 0
    try:
        return root.model_validate(data)
    except ValidationError as error:
        option = str(error.errors()[0]["loc"][1])
        allowed = PatientSampler.model_fields[option].description
        raise input_error(
            f"--{option}", f"value {overrides[option]} is not allowed", "give another value", allowed=allowed
        ) from None
