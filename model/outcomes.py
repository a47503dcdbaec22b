"""What happens to each patient week by week, jointly: treatment, progression, infection, neutropenia, holds.

All weeks and the patients of both arms side by side; what leaves are means over arm x region (``groups``). Times enter as
events per week.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import infection, progression
from .probability import log_not


class Weekly(NamedTuple):
    """What the scan reads of each week."""

    base_hazard: Float[Array, "weeks"]
    """Progression hazard per week before frailty and effect."""
    early: Float[Array, "weeks arms"]
    """Early factor of the infection hazard."""
    follow_up: Float[Array, "weeks"]
    """P(data cutoff later than the week's start)."""
    follow_up_middle: Float[Array, "weeks"]
    follow_up_next: Float[Array, "weeks"]
    lost: Float[Array, "weeks groups"]
    """P(not lost to progression follow-up) at the week's middle."""
    tumour_block: Float[Array, "weeks patients"]
    infection: Float[Array, "weeks patients"]
    """Drug and neutropenia part of the infection hazard, summed over the week."""
    infection_concurrent: Float[Array, "weeks patients"]
    grade3: Float[Array, "weeks patients"]
    """Probability of a count below 1.0 at the week's visit; 0 without one."""
    hold: Float[Array, "weeks patients"]
    """Probability that the visit starts a hold."""
    full_level: Float[Array, "weeks patients"]


class Person(NamedTuple):
    """What the scan reads of each patient; no week changes it."""

    progression_frailty: Float[Array, "patients"]
    infection_rate: Float[Array, "patients"]
    """Late rate of severe infection, 1/day."""
    stop: Float[Array, "arms"]
    """Stop for other reasons, per week."""
    untouched: Float[Array, "patients"]
    """Probability of no reduction for other causes."""


class Tally(NamedTuple):
    """Means over each group, per week; all are probabilities."""

    treated: Float[Array, "weeks groups"]
    """On treatment at the week's start."""
    free: Float[Array, "weeks groups"]
    """Progression-free at the week's start."""
    alive: Float[Array, "weeks groups"]
    pfs_at_risk: Float[Array, "weeks groups"]
    """Progression-free, not lost and before data cutoff, at the week's start."""
    pfs_events: Float[Array, "weeks groups"]
    """Progression or death within the week, observed."""
    deaths: Float[Array, "weeks groups"]
    """Death from any cause within the week, before data cutoff."""
    severe: Float[Array, "weeks groups"]
    """First severe infection within the week, observed."""
    any_infection: Float[Array, "weeks groups"]
    concurrent: Float[Array, "weeks groups"]
    neutropenia: Float[Array, "weeks groups"]
    """First count below 1.0 at the week's visit, observed."""
    held: Float[Array, "weeks groups"]
    """First hold at the week's visit."""
    reduced: Float[Array, "weeks groups"]
    """Treatment (or follow-up) ends within the week and the dose had been reduced."""


class PerPatient(NamedTuple):
    """What other summaries need of each patient, per week."""

    ends: Float[Array, "weeks patients"]
    """Treatment (or follow-up) ends within the week."""
    neutropenia: Float[Array, "weeks patients"]
    """First count below 1.0 at the week's visit, observed."""


SAFETY_WEEKS = 4
"""Adverse events are collected until 28 days after the last dose."""


def tally(
    weekly: Weekly, person: Person, theta, groups: Callable, each: Callable, memory: bool = True
) -> tuple[Tally, PerPatient]:
    """Return the weekly means of each group, and what is kept of each patient.

    ``groups`` averages the last axis, patients, within each group; ``each`` spreads a last axis of arms over the patients;
    ``memory`` tells whether the tumour effect has one.
    """
    effect_loss, effect = None, weekly.tumour_block
    if memory:
        effect_loss = 7.0 / theta["tumour_memory_days"]
        kept = jnp.exp(-effect_loss)
        effect = progression.recursion((1.0 - kept) * weekly.tumour_block, kept)[1:]
    base = weekly.base_hazard[:, None] * person.progression_frailty
    rate = person.infection_rate * each(weekly.early)
    severe_rate = rate * weekly.infection
    death = theta["death_rate"] * progression.WEEK_MONTHS + theta["infection_fatal"] * severe_rate
    reduction = jnp.exp(-theta["tumour_effect"] / progression.reference_effect(theta) * effect)
    states = progression.states(progression.Hazards(base * reduction, base, death, person.stop, effect_loss), each)
    free, on = states.free(), states.on
    progressed, died_free = progression.exits(free, death)

    frailty, ratio = theta["infection_frailty_sd"] ** 2, theta["infection_any_ratio"]
    severe = progression.running_sum(severe_rate)
    concurrent = progression.running_sum(ratio * rate * weekly.infection_concurrent)
    follow_up, middle = weekly.follow_up[:, None], weekly.follow_up_middle[:, None]
    # On treatment at the start of any of the last weeks: adverse events are still collected.
    collected = jnp.concatenate([jnp.ones_like(on[:SAFETY_WEEKS]), on[: -SAFETY_WEEKS - 1]])

    def first(cumulative):
        """Return the probability of a first, collected event in each week."""
        none = infection.no_event(cumulative, frailty)
        return groups((none[:-1] - none[1:]) * collected) * middle

    seen = on[:-1] * follow_up
    grade3 = _first_visit(weekly.grade3) * seen
    ends = seen - on[1:] * weekly.follow_up_next[:, None]
    progressed, died_free = groups(progressed), groups(died_free)
    after = progression.alive_after(progressed, theta["post_progression_death"] * progression.WEEK_MONTHS)
    free = groups(free[:-1])
    out = Tally(
        treated=groups(on[:-1]),
        free=free,
        alive=free + after[:-1],
        pfs_at_risk=free * weekly.lost * follow_up,
        pfs_events=(progressed + died_free) * weekly.lost * middle,
        deaths=(died_free + progressed + after[:-1] - after[1:]) * middle,
        severe=first(severe),
        any_infection=first(ratio * severe),
        concurrent=first(concurrent),
        neutropenia=groups(grade3),
        held=groups(_first_visit(weekly.hold) * seen),
        reduced=groups(ends * (1.0 - weekly.full_level * person.untouched)),
    )
    return out, PerPatient(ends, grade3)


def _first_visit(probability):
    """Return the probability that the event, with ``probability`` each week, first happens in each week."""
    none = jnp.exp(progression.running_sum(log_not(probability)))
    return none[:-1] - none[1:]
