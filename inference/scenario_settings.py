"""What a scenario file may say: scenarios one by one, a grid of them, how to predict and what counts how much.

A file holds [[scenario]] tables or a [grid] (or both), and may name sets of rules, courses of G-CSF and region mixes once,
as [rules.NAME], [gcsf.NAME] and [regions.NAME]. What a scenario leaves out is as in the fitted trial.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from .settings import DAYS_PER_WEEK, OneLine, Section, number, one_line_text, whole

HIGHEST_DOSE_MG = 10.0
LONGEST_NAME = 80
MAXIMUM_SCENARIOS = 200
TRIAL_RULES, NO_RULES, TRIAL_REGIONS, NO_GCSF, EMERGENT = "trial", "off", "trial", "none", "emergent"
"""Words that need no definition in the file."""
NAME = one_line_text(LONGEST_NAME)
DOSE = f"planned dose: a number of mg, above 0 and at most {HIGHEST_DOSE_MG:g}"
DAYS_ON = "dosing days from day 1 of a cycle: a whole number, 1 to 84, at most cycle_days"
CYCLE = "length of a cycle in days: a whole number, 7 to 84, a multiple of 7"
SCHEDULE = 'dosing days and length of the cycle, such as "21/28": the cycle a multiple of 7, up to 84'
RDI = 'relative dose intensity: a share above 0 and at most 1, set for every patient, or "emergent"'


def schedule_problem(days_on: int, cycle_days: int) -> str | None:
    """Return what is wrong with a schedule, or None."""
    if cycle_days % DAYS_PER_WEEK:
        return f"has a cycle of {cycle_days} days, not a multiple of 7"
    if not DAYS_PER_WEEK <= cycle_days <= 84:
        return f"has a cycle of {cycle_days} days"
    if days_on < 1:
        return "has no day of dosing"
    return f"is {days_on} days on in a cycle of {cycle_days} days" if days_on > cycle_days else None


def parse_schedule(text: str) -> tuple[int, int]:
    """Return (days on, cycle length) of a text such as "21/28"."""
    on, cycle = text.split("/")
    return int(on), int(cycle)


def _schedule(text: str) -> str:
    if not re.fullmatch(r"\d{1,3}/\d{1,3}", text, re.ASCII):
        raise ValueError("is no schedule")
    if problem := schedule_problem(*parse_schedule(text)):
        raise ValueError(problem)
    return text


def _share(value: float) -> float:
    if 1.0 < value <= 100.0:
        raise ValueError(f"looks like a percentage (did you mean {value / 100.0:g}?)")
    if not 0.0 < value <= 1.0:
        raise ValueError("is not allowed")
    return value


def _kind(value: Any) -> str:
    return "as a word" if isinstance(value, str) else "as a value"


Dose = Annotated[float, Field(gt=0, le=HIGHEST_DOSE_MG)]
Name = Annotated[OneLine, Field(min_length=1, max_length=LONGEST_NAME)]
Schedule = Annotated[str, AfterValidator(_schedule)]
DoseIntensity = Annotated[
    Annotated[Literal["emergent"], Tag("as a word")] | Annotated[float, AfterValidator(_share), Tag("as a value")],
    Discriminator(_kind),
]


class Rules(Section):
    """When mezigdomide is held, resumed, reduced and stopped; what is left out is as in the fitted trial."""

    hold_below: float | None = number(0.1, 2.0, "a count below this (10^9/L) holds the drug", None)
    resume_at: float = number(0.1, 3.0, "count (10^9/L) that ends a hold, at least hold_below", 1.0)
    reduce_after_hold: int | None = whole(
        0, 20, "dosing resumes one level lower after this hold and every later one; 0 never", None
    )
    maximum_delay_days: int | None = whole(7, 728, "a hold longer than this ends mezigdomide for good", None)
    hold_febrile: bool = Field(default=False, description="febrile neutropenia holds the drug: true or false")

    @field_validator("resume_at")
    @classmethod
    def _not_below_hold(cls, value: float, info: ValidationInfo) -> float:
        hold = info.data.get("hold_below")
        # Without a limit of its own the trial's holds: always below 0.5.
        if value < (0.5 if hold is None else hold):
            raise ValueError(f"is below the {'0.5' if hold is None else f'{hold:g}'} that holds the drug")
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_resume(cls, data: Any) -> Any:
        # A default is not validated: a hold limit above the default resume limit must be met as if it were typed.
        if isinstance(data, dict) and "hold_below" in data and "resume_at" not in data:
            return {**data, "resume_at": 1.0}
        return data


class Gcsf(Section):
    """When G-CSF is given."""

    policy: Literal["none", "reactive", "primary"] = Field(
        description='"none" (as fitted), "reactive" (after grade 4 or febrile neutropenia) or "primary" (every cycle)'
    )
    course_days: int = whole(1, 28, "days of one course", 5)
    start_day: int = whole(1, 84, "day of the cycle on which a primary course starts", 8)
    from_december_2024: bool = Field(
        default=False, description="the policy applies only from December 2024, as in the trial: true or false"
    )


class Regions(Section):
    """Shares of the patients by region; they add up to 1."""

    usa: float = number(0.0, 1.0, "share of patients in the USA", 0.0)
    europe: float = number(0.0, 1.0, "share of patients in Europe", 0.0)
    asia: float = number(0.0, 1.0, "share of patients in Asia", 0.0)
    rest_of_world: float = number(0.0, 1.0, "share of patients elsewhere", 0.0)

    def shares(self) -> tuple[float, float, float, float]:
        """Return the shares in the order of parameters.REGIONS."""
        return self.usa, self.europe, self.asia, self.rest_of_world

    @model_validator(mode="after")
    def _add_up(self) -> "Regions":
        total = sum(self.shares())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"adds up to {total:g}, not to 1")
        return self


RulesChoice = Annotated[Annotated[str, Tag("as a word")] | Annotated[Rules, Tag("as a value")], Discriminator(_kind)]
GcsfChoice = Annotated[Annotated[str, Tag("as a word")] | Annotated[Gcsf, Tag("as a value")], Discriminator(_kind)]
RegionsChoice = Annotated[
    Annotated[str, Tag("as a word")] | Annotated[Regions, Tag("as a value")], Discriminator(_kind)
]
RULES = 'name of [rules.NAME], "trial" (as fitted), "off" (planned doses whatever the counts), or a table of rules'
GCSF = 'name of [gcsf.NAME], "none", "reactive", "primary", or a table with policy, course_days, start_day'
REGIONS = 'name of [regions.NAME], "trial", one region, or a table of shares adding up to 1'


class Scenario(Section):
    """One scenario; what is left out is as in the fitted trial."""

    name: Name = Field(description=NAME)
    dose_mg: Dose | None = Field(default=None, description=DOSE)
    days_on: int | None = Field(default=None, ge=1, le=84, description=DAYS_ON)
    cycle_days: int | None = Field(default=None, ge=7, le=84, description=CYCLE)
    levels_mg: tuple[Dose, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        max_length=7,
        description="dose levels of reductions: 1 to 7 numbers of mg, descending, none above dose_mg",
    )
    rdi: DoseIntensity = Field(default=EMERGENT, description=RDI)
    rules: RulesChoice = Field(default=TRIAL_RULES, description=RULES)
    gcsf: GcsfChoice = Field(default=NO_GCSF, description=GCSF)
    regions: RegionsChoice = Field(default=TRIAL_REGIONS, description=REGIONS)


def _list(default: Any, what: str) -> Any:
    return Field(default=default, strict=False, min_length=1, description=f"list of at least one: {what}")


class Grid(Section):
    """The product of its lists; names are made from the values."""

    dose_mg: tuple[Dose, ...] | None = _list(None, DOSE)
    schedule: tuple[Schedule, ...] | None = _list(None, SCHEDULE)
    rdi: tuple[DoseIntensity, ...] = _list((EMERGENT,), RDI)
    rules: tuple[str, ...] = _list((TRIAL_RULES,), 'names of [rules.NAME], "trial" or "off"')
    gcsf: tuple[str, ...] = _list((NO_GCSF,), 'names of [gcsf.NAME], "none", "reactive" or "primary"')
    regions: tuple[str, ...] = _list((TRIAL_REGIONS,), 'names of [regions.NAME], "trial" or one region')


class Prediction(Section):
    """How scenarios are simulated."""

    horizon_months: int = whole(1, 60, "months that are simulated", 24)
    patients: int = Field(
        default=512,
        ge=64,
        le=65536,
        multiple_of=2,
        description="simulated patients a draw: an even number, 64 to 65536",
    )
    draws: int = whole(20, 100_000, "draws of the posterior", 400)
    seed: int = whole(0, 2**31 - 1, "seed of the simulation", 1)
    reference: Name | None = Field(
        default=None, description="name of the scenario that the others are compared with [default: the fitted regimen]"
    )


class Utility(Section):
    """Weights of the benefit-risk sum, in months of PFS if ``pfs_month`` is 1. The defaults are arbitrary."""

    pfs_month: float = number(-100, 100, "weight of one month of restricted mean PFS", 1.0)
    severe_infection: float = number(-100, 100, "weight of a severe infection (negative: a harm)", -3.0)
    febrile_neutropenia: float = number(-100, 100, "weight of febrile neutropenia (negative: a harm)", -1.5)

    @model_validator(mode="after")
    def _some_weight(self) -> "Utility":
        if self.pfs_month == self.severe_infection == self.febrile_neutropenia == 0.0:
            raise ValueError("is nothing: every weight is 0")
        return self


class ScenarioFile(Section):
    """All of a scenario file."""

    scenario: tuple[Scenario, ...] = Field(default=(), strict=False, description="[[scenario]] tables")
    grid: Grid | None = Field(
        default=None, description="section with lists: dose_mg, schedule, rdi, rules, gcsf, regions"
    )
    rules: dict[str, Rules] = Field(default={}, description="sets of rules by name: [rules.NAME]")
    gcsf: dict[str, Gcsf] = Field(default={}, description="courses of G-CSF by name: [gcsf.NAME]")
    regions: dict[str, Regions] = Field(default={}, description="region mixes by name: [regions.NAME]")
    prediction: Prediction = Field(default=Prediction(), description="section: how scenarios are simulated")
    utility: Utility = Field(default=Utility(), description="section: weights of the benefit-risk sum")
