"""A scenario as arrays: scenarios of one horizon have equal shapes, so all of them run through one compiled program."""

from typing import NamedTuple

import numpy as np

from .history import NEVER
from .regimen import DAYS_PER_MONTH
from .rules import LOG_GRADE4
from .scenario import DoseRules, Scenario

LEVELS = 8
"""Dose levels a plan has room for."""
POLICY_MONTHS = 13.5
"""December 2024 comes this long before the data cutoff of 2026-01-15, months."""
NO_DRUG, DRUG, DRUG_AND_GCSF = 0, 1, 2
"""What the days of a plan can bring; decides at run time how much of the daily step is computed."""


class HoldPlan(NamedTuple):
    """The dose rules; scalars."""

    fitted_hold: np.ndarray
    """Whether a count between 0.5 and 1.0 holds with the fitted probability."""
    log_hold: np.ndarray
    """Log of the count below which the drug is held for certain."""
    log_resume: np.ndarray
    """Log of the count from which it is resumed."""
    fitted_reduction: np.ndarray
    """Whether dosing resumes one level lower with the fitted probability."""
    reduce_from: np.ndarray
    """Number of the first hold after which dosing resumes one level lower for certain; NEVER: no such hold."""
    maximum_delay: np.ndarray
    """Days on hold beyond which the drug ends for good; NEVER: no limit."""
    febrile: np.ndarray
    """Whether febrile neutropenia holds the drug."""


class GcsfPlan(NamedTuple):
    """The G-CSF policy; ``weeks`` in front where a field has days."""

    primary: np.ndarray
    """Whether prophylaxis is planned on each day, shape ``(weeks, 7)``."""
    reactive: np.ndarray
    """Whether grade 4 or febrile neutropenia starts a course."""
    course_days: np.ndarray
    """Length of such a course."""
    start_before_cutoff: np.ndarray
    """The policy acts from this many days before the patient's data cutoff; NEVER: from the first dose."""


class Plan(NamedTuple):
    """What is planned for every patient of a scenario, over ``weeks`` weeks."""

    drug: np.ndarray
    """Whether mezigdomide is planned: which arm's rates apply."""
    mode: np.ndarray
    """NO_DRUG, DRUG or DRUG_AND_GCSF."""
    planned: np.ndarray
    """Planned dose, mg, shape ``(weeks, 7)``; 0 without mezigdomide."""
    visit: np.ndarray
    """Whether a count is scheduled on day 1 of the week, shape ``(weeks,)``."""
    due: np.ndarray
    """Whether that count may hold the drug: a dose is planned and rules act. Shape ``(weeks,)``."""
    cycle_days: np.ndarray
    factors: np.ndarray
    """Dose of each level over the planned dose, shape ``(LEVELS,)``, the lowest repeated."""
    lowest: np.ndarray
    """Index of the lowest level."""
    fixed_rdi: np.ndarray
    """Whether every patient takes the share ``rdi`` of the planned dose; else each has an intensity of their own."""
    rdi: np.ndarray
    holds: HoldPlan
    gcsf: GcsfPlan


def plan_of(scenario: Scenario, weeks: int) -> Plan:
    """Return the plan of ``scenario`` over ``weeks`` weeks.

    Raises ``ValueError`` where the regimen has more than LEVELS dose levels.
    """
    regimen, drug = scenario.regimen, scenario.arm == "mezikd"
    levels = regimen.level_factors()
    if len(levels) > LEVELS:
        raise ValueError(f"levels_mg: {len(levels)} levels at or below {regimen.dose_mg} mg; at most {LEVELS}")
    act = drug and scenario.rules is not None and scenario.rdi is None
    visit = regimen.is_visit(weeks)
    with_gcsf = scenario.gcsf.policy != "none"
    return Plan(
        drug=np.array(drug),
        mode=np.array(DRUG_AND_GCSF if with_gcsf else DRUG if drug else NO_DRUG, np.int32),
        planned=regimen.planned(weeks) * drug,
        visit=visit,
        due=visit & regimen.is_dosing(weeks) & act,
        cycle_days=np.array(float(regimen.cycle_days)),
        factors=np.pad(levels, (0, LEVELS - len(levels)), mode="edge"),
        lowest=np.array(len(levels) - 1, np.int32),
        fixed_rdi=np.array(scenario.rdi is not None),
        rdi=np.array(1.0 if scenario.rdi is None else scenario.rdi),
        holds=_holds(scenario.rules or DoseRules(), act),
        gcsf=_gcsf(scenario, weeks),
    )


def _holds(rules: DoseRules, act: bool) -> HoldPlan:
    fitted_hold, n = rules.hold_below is None, rules.reduce_after_hold
    delay = rules.maximum_delay_days
    return HoldPlan(
        fitted_hold=np.array(fitted_hold),
        log_hold=np.array(LOG_GRADE4 if rules.hold_below is None else np.log(rules.hold_below)),
        log_resume=np.log(np.array(rules.resume_at)),
        fitted_reduction=np.array(n is None),
        reduce_from=np.array(float(n) if n else NEVER),
        maximum_delay=np.array(NEVER if delay is None else float(delay)),
        febrile=np.array(act and rules.hold_febrile),
    )


def _gcsf(scenario: Scenario, weeks: int) -> GcsfPlan:
    gcsf = scenario.gcsf
    day = np.arange(7 * weeks) % scenario.regimen.cycle_days + 1  # of the cycle
    planned = (day >= gcsf.start_day) & (day < gcsf.start_day + gcsf.course_days)
    return GcsfPlan(
        primary=planned.reshape(weeks, 7) & (gcsf.policy == "primary"),
        reactive=np.array(gcsf.policy == "reactive"),
        course_days=np.array(float(gcsf.course_days)),
        start_before_cutoff=np.array(POLICY_MONTHS * DAYS_PER_MONTH if gcsf.from_december_2024 else NEVER),
    )
