"""What if: a regimen with its dose rules and supportive care, as a user states it (model.md, section 1).

A scenario is a plain description. The exact simulator (exact.py) turns it into arrays, so that scenarios of one horizon share
one compiled program.
"""

from dataclasses import dataclass, field
from typing import Literal

from .regimen import Regimen


@dataclass(frozen=True)
class DoseRules:
    """When mezigdomide is held, resumed, reduced and stopped. ``None``: as in the fitted trial, by a fitted probability."""

    hold_below: float | None = None
    """A count below this (10^9/L) at a dosing visit holds the drug, one above never does. None: below 0.5 always,
    between 0.5 and 1.0 with the fitted probability ``hold_grade3``."""
    resume_at: float = 1.0
    """A count of at least this, taken weekly while on hold, ends the hold."""
    reduce_after_hold: int | None = None
    """Dosing resumes one level lower after this hold and every later one; 0: never. None: after each hold with the
    fitted probability ``reduce_after_hold``."""
    maximum_delay_days: int | None = None
    """A hold longer than this ends mezigdomide for good (carfilzomib and dexamethasone go on). None: no limit."""
    hold_febrile: bool = False
    """Whether febrile neutropenia holds the drug whatever the count."""


@dataclass(frozen=True)
class Gcsf:
    """When G-CSF is given. In the fit its average use is inside the fitted parameters: ``none`` is the fitted trial."""

    policy: Literal["none", "reactive", "primary"] = "none"
    """``reactive``: a course after grade 4 or febrile neutropenia; ``primary``: a course in every cycle from the first."""
    course_days: int = 5
    """Days of one course."""
    start_day: int = 8
    """First day of the course in each cycle under ``primary``."""
    from_december_2024: bool = False
    """Calendar option: the policy applies only from December 2024, as in the trial, 13.5 months before its data cutoff."""


@dataclass(frozen=True)
class Scenario:
    """One answer to "what if"."""

    regimen: Regimen = field(default_factory=Regimen)
    rules: DoseRules | None = DoseRules()
    """None: planned doses are given whatever the counts."""
    rdi: float | None = None
    """Relative dose intensity set for every patient; no rule acts. None: it emerges from rules and other causes."""
    gcsf: Gcsf = Gcsf()
    arm: Literal["mezikd", "kd"] = "mezikd"
    """``kd``: no mezigdomide."""
