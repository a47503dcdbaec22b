"""What is modelled and how it is sampled: fit.toml, checked and frozen."""

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .errors import input_error
from .files import read_text
from .settings_errors import declaration, settings_error

DAYS_PER_WEEK = 7
REQUIRED: Any = ...


def whole(low: int, high: int, meaning: str, default: Any = REQUIRED) -> Any:
    """Declare a whole number; the description becomes the error's list of what is allowed."""
    return Field(default, ge=low, le=high, description=f"{meaning}: a whole number, {low} to {high}")


def number(low: float, high: float, meaning: str, default: Any = REQUIRED) -> Any:
    """Declare a number."""
    return Field(default, ge=low, le=high, description=f"{meaning}: a number, {low:g} to {high:g}")


def _text(meaning: str, longest: int) -> Any:
    return Field(min_length=1, max_length=longest, description=f"{meaning}: {one_line_text(longest)}")


def one_line_text(longest: int) -> str:
    """Return in words what ``OneLine`` of at most ``longest`` characters is."""
    return f"text in double quotes, 1 to {longest} characters on one line"


def _one_line(value: str) -> str:
    if value != value.strip() or not value.isprintable():
        raise ValueError("begins or ends with a space, or holds a line break or another character that is not printed")
    return value


OneLine = Annotated[str, AfterValidator(_one_line)]


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("is not a power of two")
    return value


def _virtual(meaning: str, default: int) -> Any:
    # A power of two per region is what makes a Sobol sequence balanced; 32 leaves 8 patients a region.
    return Field(default, ge=32, le=65536, description=f"{meaning}: a power of two, 32 to 65536")


VirtualPatients = Annotated[int, AfterValidator(_power_of_two)]


class Section(BaseModel):
    """A table of a TOML file: strict, frozen, no unknown key, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Study(Section):
    """Which study the numbers come from."""

    name: OneLine = _text("short name of the study", 80)
    title: OneLine = _text("title of the report", 1000)
    citation: OneLine = _text("where it was published", 1000)


class Regions(Section):
    """Randomised patients by region."""

    usa: int = whole(0, 100_000, "patients randomised in the USA")
    europe: int = whole(0, 100_000, "patients randomised in Europe")
    asia: int = whole(0, 100_000, "patients randomised in Asia")
    rest_of_world: int = whole(0, 100_000, "patients randomised elsewhere")

    def total(self) -> int:
        """Return the number of patients of all regions."""
        return self.usa + self.europe + self.asia + self.rest_of_world


class Arm(Section):
    """Size of one arm."""

    randomised: int = whole(1, 100_000, "patients randomised to the arm")
    treated: int = whole(1, 100_000, "patients who received at least one dose (at most those randomised)")
    regions: Regions = Field(
        description="patients by region: usa, europe, asia, rest_of_world, adding up to randomised"
    )

    @field_validator("treated")
    @classmethod
    def _within_randomised(cls, value: int, info: ValidationInfo) -> int:
        randomised = info.data.get("randomised", value)
        if value > randomised:
            raise ValueError(f"is more than the {randomised} randomised")
        return value

    @field_validator("regions")
    @classmethod
    def _add_up(cls, value: Regions, info: ValidationInfo) -> Regions:
        randomised = info.data.get("randomised", value.total())
        if value.total() != randomised:
            raise ValueError(f"adds up to {value.total()}, not to the {randomised} randomised")
        return value


class Trial(Section):
    """Both arms: mezigdomide with carfilzomib and dexamethasone, and carfilzomib and dexamethasone alone."""

    mezikd: Arm = Field(description="the mezigdomide arm: randomised, treated, regions")
    kd: Arm = Field(description="the control arm: randomised, treated, regions")


class Regimen(Section):
    """Planned dosing of mezigdomide."""

    dose_mg: float = Field(gt=0, le=10, description="starting dose: a number of mg, above 0 and at most 10")
    cycle_days: int = whole(7, 84, "length of a cycle in days (a multiple of 7)")
    days_on: int = whole(1, 84, "dosing days from day 1 of a cycle (at most cycle_days)")
    levels_mg: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        default=(1.0, 0.6, 0.3),
        strict=False,
        min_length=1,
        description="dose levels of reductions: numbers of mg, above 0 and at most 10, descending",
    )

    @field_validator("cycle_days")
    @classmethod
    def _whole_weeks(cls, value: int) -> int:
        if value % DAYS_PER_WEEK:
            raise ValueError("is not a multiple of 7")
        return value

    @field_validator("days_on")
    @classmethod
    def _within_cycle(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("cycle_days", value):
            raise ValueError(f"is more than the cycle of {info.data['cycle_days']} days")
        return value

    @field_validator("levels_mg")
    @classmethod
    def _descending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(a <= b for a, b in pairwise(value)):
            raise ValueError("is not descending")
        return value


class Visits(Section):
    """When neutrophils are counted (an assumption: the schedule is not public)."""

    weekly_cycles: int = whole(0, 100, "first cycles with a count every week", 2)
    later_days: tuple[int, ...] = Field(
        default=(1, 15),
        strict=False,
        min_length=1,
        description="days of later cycles with a count: ascending, each 1 plus a multiple of 7, in a cycle",
    )

    @field_validator("later_days")
    @classmethod
    def _on_weeks(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(day < 1 or (day - 1) % DAYS_PER_WEEK for day in value):
            raise ValueError("has a day that is not 1 plus a multiple of 7")
        if any(a >= b for a, b in pairwise(value)):
            raise ValueError("is not ascending")
        return value


class Model(Section):
    """Structure and resolution of the model."""

    structure: Literal["arrest", "friberg"] = Field(
        default="arrest",
        description='neutrophil model: "arrest" (maturation arrest with reserve) or "friberg" (kill)',
    )
    tumour: Literal["memory", "no_memory"] = Field(
        default="memory",
        description='tumour effect: "memory" (about a cycle) or "no_memory" (the week\'s own doses)',
    )
    infection: Literal["neutrophils", "no_neutrophils"] = Field(
        default="neutrophils",
        description='infection hazard: "neutrophils" (rises as ANC falls below 1.0) or "no_neutrophils"',
    )
    daily_cycles: int = whole(1, 33, "cycles in which patients are followed day by day", 6)
    steps_per_day: int = whole(1, 8, "integration steps a day", 1)


class Patients(Section):
    """Virtual patients of the likelihood (not the trial's own numbers)."""

    mezikd: VirtualPatients = _virtual("virtual patients of the mezigdomide arm", 256)
    kd: VirtualPatients = _virtual("virtual patients of the control arm", 128)
    seed: int = whole(0, 2**31 - 1, "seed of their scrambled Sobol points", 1)


class Likelihood(Section):
    """How the reported numbers, which share patients, are joined."""

    covariance: Literal["simulated", "independent"] = Field(
        default="simulated",
        description='how reported numbers vary together: "simulated" or "independent"',
    )
    leave_out: Literal[
        "nothing", "neutropenia", "dosing", "infection", "progression and death", "treatment and follow-up"
    ] = Field(
        default="nothing",
        description='group of fitted numbers to be predicted from the others: "nothing", "neutropenia", "dosing", '
        '"infection", "progression and death" or "treatment and follow-up"',
    )
    covariance_trials: int = whole(100, 100_000, "simulated trials that give that covariance", 400)


class Sampling(Section):
    """How long and how carefully to sample."""

    chains: int = whole(1, 64, "chains", 4)
    warmup: int = whole(10, 100_000, "warm-up draws a chain", 300)
    draws: int = whole(10, 100_000, "kept draws a chain", 500)
    more_draws: int = whole(0, 100_000, "further draws a chain, at most, while they mix too slowly for the gate", 0)
    seed: int = whole(0, 2**31 - 1, "seed of the sampler", 1)
    target_accept: float = number(0.5, 0.99, "target acceptance probability", 0.8)
    max_tree_depth: int = whole(3, 15, "doublings of a trajectory", 8)


class Sampler(Sampling):
    """NUTS, HMC along an emulator, or chains side by side."""

    method: Literal["nuts", "emulated", "side_by_side"] = Field(
        default="nuts",
        description='"nuts", "emulated" (trajectories along an emulator, accepted by the model: several times faster on a '
        'CPU), or "side_by_side" (many chains in one program, trajectories of one length, for a GPU)',
    )


class FitSettings(Section):
    """All of fit.toml."""

    study: Study = Field(description="section: name, title, citation")
    trial: Trial = Field(description="sections trial.mezikd and trial.kd")
    regimen: Regimen = Field(description="section: dose_mg, days_on, cycle_days, levels_mg")
    visits: Visits = Field(
        default=Visits(), validate_default=True, description=Visits.model_fields["later_days"].description
    )
    model: Model = Field(default=Model(), description="section")
    patients: Patients = Field(default=Patients(), description="section")
    likelihood: Likelihood = Field(default=Likelihood(), description="section")
    sampler: Sampler = Field(default=Sampler(), description="section")

    @field_validator("visits")
    @classmethod
    def _visits_within_cycle(cls, value: Visits, info: ValidationInfo) -> Visits:
        regimen = info.data.get("regimen")
        if regimen is not None and value.later_days[-1] > regimen.cycle_days:
            raise ValueError(f"later_days goes beyond the cycle of {regimen.cycle_days} days")
        return value


OVERRIDES = {
    "chains": ("sampler", "chains"),
    "warmup": ("sampler", "warmup"),
    "draws": ("sampler", "draws"),
    "seed": ("sampler", "seed"),
    "virtual_patients": ("patients", "mezikd"),
    "structure": ("model", "structure"),
    "tumour": ("model", "tumour"),
    "infection": ("model", "infection"),
    "leave_out": ("likelihood", "leave_out"),
    "method": ("sampler", "method"),
}
"""Options of `mezikd fit` and the keys that they replace; Kd has half of ``virtual_patients``."""


def read_toml[Root: Section](path: Path, root: type[Root]) -> tuple[Root, str]:
    """Return what a TOML file says, as ``root``, and its text.

    Raises
    ------
    InputError: not TOML, an unknown or missing key, or a value outside its range.
    """
    text = read_text(path)
    try:
        return root.model_validate(tomllib.loads(text)), text
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        raise input_error(path, f"not TOML: {error}", "correct that line: key = value", line=line) from None
    except ValidationError as error:
        raise settings_error(path, text, error, root) from None


def load_settings(folder: Path) -> FitSettings:
    """Return the settings in ``folder``/fit.toml.

    Raises
    ------
    InputError: not TOML, an unknown or missing key, or a value outside its range.
    """
    return read_toml(Path(folder) / "fit.toml", FitSettings)[0]


def with_overrides(settings: FitSettings, overrides: Mapping[str, int | str]) -> FitSettings:
    """Return ``settings`` with options of the command line (keys of ``OVERRIDES``) in place.

    Raises
    ------
    InputError: a value outside the range of its key.
    """
    data = settings.model_dump()
    for option, value in overrides.items():
        section, key = OVERRIDES[option]
        data[section][key] = value
    if "draws" in overrides:  # exactly as many as asked for
        data["sampler"]["more_draws"] = 0
    if "virtual_patients" in overrides:
        data["patients"]["kd"] = max(32, data["patients"]["mezikd"] // 2)
    try:
        return FitSettings.model_validate(data)
    except ValidationError as error:
        at = error.errors()[0]["loc"][:2]
        # The control arm's number follows the mezigdomide arm's, so a bad one has its cause there too.
        options = [o for o, loc in OVERRIDES.items() if loc == at] or ["virtual_patients"]
        option = options[0]
        raise input_error(
            f"--{option.replace('_', '-')}",
            f"value {overrides[option]} is not allowed",
            "give another value",
            allowed=declaration(FitSettings, at)[0].description,
        ) from None
