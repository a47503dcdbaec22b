"""The reported outcomes that the model can produce, each with its estimand."""

from dataclasses import dataclass
from typing import Literal

Statistic = Literal["count", "quartiles", "median", "hazard_ratio", "survival_probability"]
Relation = Literal["part", "whole"]

ARMS = ("mezikd", "kd", "both", "mezikd_vs_kd")
REGIONS = ("usa", "europe", "asia", "rest_of_world")
SUBGROUPS = ("all", *REGIONS)
EACH = ("mezikd", "kd")


@dataclass(frozen=True)
class Outcome:
    """One outcome and statistic that an evidence row may hold."""

    text: str
    """As in the column ``outcome``."""
    statistic: Statistic
    unit: str
    arms: tuple[str, ...]
    estimand: str
    """What the model computes for it."""
    fittable: bool
    """Whether it may have the role ``fit``; every outcome may be a ``check``."""
    check_only: tuple[str, ...] = ()
    """Arms in which it may nevertheless only be a ``check``."""
    regional: tuple[str, ...] = ()
    """Arms in which it may be given by region."""
    given: str | None = None
    """Outcome text of the count on which a fitted row is conditional, and whose row it must name."""
    relation: Relation = "part"
    """``part``: these patients are among those of ``given``. ``whole``: those are among these."""
    within: tuple[str, ...] = ()
    """Outcome texts of counts that cannot be smaller than this one."""

    def roles(self, arm: str) -> tuple[str, ...]:
        """Return the roles that the outcome may have in ``arm``."""
        return ("fit", "check") if self.fittable and arm not in self.check_only else ("check",)

    def subgroups(self, arm: str) -> tuple[str, ...]:
        """Return the subgroups in which the outcome may be given for ``arm``."""
        return SUBGROUPS if arm in self.regional else ("all",)


NEUTROPENIA, INFECTION, SEVERE = "neutropenia grade 3 or 4", "infection any grade", "infection grade 3 or 4"
DEATH, PFS = "death from any cause", "progression-free survival"


def _count(text: str, estimand: str, fittable: bool, arms: tuple[str, ...] = EACH, **more) -> Outcome:
    return Outcome(text, "count", more.pop("unit", "patients"), arms, estimand, fittable, **more)


_DECLARED = (
    # neutrophils and dosing
    _count(
        NEUTROPENIA,
        "patients with a count below 1.0 x 10^9/L at a visit while on treatment",
        True,
        regional=("mezikd",),
        within=("neutropenia any grade",),
    ),
    _count(
        "neutropenia any grade",
        "patients with a count below the lower limit of normal at a visit while on treatment",
        False,
    ),
    _count(
        "febrile neutropenia grade 3 or 4",
        "patients with a grade 3 or 4 neutropenia episode that is febrile",
        False,
    ),
    _count(
        "mezigdomide delayed or paused for neutropenia",
        "patients with at least one hold for neutropenia, among those with grade 3 or 4 neutropenia",
        True,
        ("mezikd",),
        given=NEUTROPENIA,
        within=(NEUTROPENIA,),
    ),
    Outcome(
        "duration of grade 3 or 4 neutropenia",
        "quartiles",
        "days",
        EACH,
        "days from the first count below 1.0 x 10^9/L to the next count above, quartiles over first episodes",
        True,
        # The model's control arm has no course of counts over time.
        check_only=("kd",),
        given=NEUTROPENIA,
    ),
    Outcome(
        "relative dose intensity, mezigdomide",
        "quartiles",
        "percent",
        ("mezikd",),
        "delivered over planned dose while on treatment, quartiles over treated patients",
        True,
    ),
    _count(
        "mezigdomide dose reduced, any cause",
        "patients with at least one reduction of the dose level",
        True,
        ("mezikd",),
    ),
    # infection
    _count(
        SEVERE,
        "patients with a first grade 3 or 4 infection while on treatment or within 28 days of its end",
        True,
        regional=("mezikd",),
        within=(INFECTION,),
    ),
    _count(
        INFECTION,
        "patients with any infection; fitted as milder ones among patients without a severe one",
        True,
        given=SEVERE,
        relation="whole",
    ),
    _count(
        "infection, worst grade 4",
        "share of patients with a severe infection whose worst is grade 4",
        True,
        given=SEVERE,
        within=(SEVERE,),
    ),
    _count(
        "infection, worst grade 3",
        "patients with a severe infection whose worst is grade 3",
        False,
        within=(SEVERE,),
    ),
    _count("fatal infection", "patients with a fatal infection", False, within=(INFECTION,)),
    Outcome(
        "time to onset of grade 3 or 4 infection",
        "quartiles",
        "days",
        EACH,
        "days from first dose to the first severe infection, quartiles among patients with one",
        True,
        given=SEVERE,
    ),
    _count(
        "infection concurrent with grade >=3 neutropenia",
        "patients with an infection while below 1.0 x 10^9/L, among those with any infection",
        True,
        unit="patients with infection",
        given=INFECTION,
        within=(INFECTION,),
    ),
    # progression, death, treatment
    Outcome(PFS, "median", "months", EACH, "Kaplan-Meier median of progression or death", True),
    Outcome(PFS, "hazard_ratio", "ratio", ("mezikd_vs_kd",), "Cox hazard ratio of progression or death", True),
    _count("progression or death", "patients with the event before data cutoff", True),
    Outcome(
        "time to progression",
        "median",
        "months",
        EACH,
        "Kaplan-Meier median, death without progression censored",
        False,
    ),
    Outcome(
        "time to progression",
        "hazard_ratio",
        "ratio",
        ("mezikd_vs_kd",),
        "Cox hazard ratio, death without progression censored",
        False,
    ),
    Outcome(
        "duration of treatment",
        "quartiles",
        "months",
        EACH,
        "first to last dose or data cutoff, quartiles over treated patients",
        True,
    ),
    Outcome(
        "follow-up",
        "quartiles",
        "months",
        ("both",),
        "randomisation to death or data cutoff, quartiles",
        True,
    ),
    _count("at least one year of treatment", "patients on treatment for 365.25 days or longer", False),
    _count("continuing treatment at data cutoff", "patients on treatment at data cutoff", False),
    _count("stopped for disease progression", "patients whose treatment stopped at progression", False),
    _count(DEATH, "patients dead at data cutoff", True),
    _count("death from progressive disease", "deaths after progression", False, within=(DEATH,)),
    _count(
        "death from adverse event or other cause",
        "deaths without progression, fatal infections among them",
        False,
        within=(DEATH,),
    ),
    Outcome("overall survival", "hazard_ratio", "ratio", ("mezikd_vs_kd",), "Cox hazard ratio of death", False),
)

VOCABULARY: dict[tuple[str, str], Outcome] = {(o.text, o.statistic): o for o in _DECLARED}
"""Known outcomes by (text, statistic)."""

SUMS = (
    (SEVERE, ("infection, worst grade 3", "infection, worst grade 4"), "equal"),
    (DEATH, ("death from progressive disease", "death from adverse event or other cause"), "at least"),
)
"""(whole, disjoint parts, how the whole compares with their sum) among counts of one arm and subgroup."""


def texts() -> tuple[str, ...]:
    """Return the known outcome texts in order, each once."""
    return tuple(dict.fromkeys(o.text for o in _DECLARED))


def statistics(text: str) -> tuple[str, ...]:
    """Return the statistics in which an outcome is known."""
    return tuple(o.statistic for o in _DECLARED if o.text == text)
