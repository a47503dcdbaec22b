"""Exact dose rules: hold, resume, reduce, end; a patient is held or is not (the mean-field version is in rules.py)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .elementary import once
from .history import NEVER
from .plan import HoldPlan
from .rules import LOG_GRADE3


class Dosing(NamedTuple):
    """State of each patient's dosing."""

    level: Int[Array, "patients"]
    held: Bool[Array, "patients"]
    since: Float[Array, "patients"]
    """Day on which the current (or last) hold began."""
    holds: Int[Array, "patients"]
    """Holds begun."""
    ended: Bool[Array, "patients"]
    """A hold was longer than the maximum delay: no more drug."""


class Counted(NamedTuple):
    """What a count meets."""

    log_count: Float[Array, "patients"]
    u_hold: Float[Array, "patients"]
    """Uniform numbers that settle the two fitted chances."""
    u_reduce: Float[Array, "patients"]
    febrile: Bool[Array, "patients"]
    """Febrile neutropenia begins."""


def start(patients: int) -> Dosing:
    """Return the state before the first dose."""
    no, zero = jnp.zeros(patients, bool), jnp.zeros(patients, int)
    return Dosing(zero, no, jnp.full(patients, -NEVER), zero, no)


def advance(state: Dosing, today, seen: Counted, due, plan: HoldPlan, lowest, hold_grade3, reduce_after_hold) -> Dosing:
    """Return the state after the count of day ``today``.

    ``due`` is whether the count may hold the drug: a scheduled visit with a dose planned. While on hold a count is taken on
    day 1 of every week, whether a dose is planned or not. ``lowest`` is the index of the lowest level, ``hold_grade3`` and
    ``reduce_after_hold`` are the fitted probabilities.
    """
    low = seen.log_count < plan.log_hold
    low = low | (plan.fitted_hold & (seen.log_count < LOG_GRADE3) & (seen.u_hold < hold_grade3))
    holds = ((due & low) | (plan.febrile & seen.febrile)) & ~state.held & ~state.ended
    over = state.held & (today - state.since > plan.maximum_delay)
    resumes = state.held & ~over & (seen.log_count >= plan.log_resume)
    holds, over, resumes = once((holds, over, resumes))
    by_chance = plan.fitted_reduction & (seen.u_reduce < reduce_after_hold)
    lower = resumes & (by_chance | (state.holds >= plan.reduce_from))
    return Dosing(
        level=jnp.where(lower, jnp.minimum(state.level + 1, lowest), state.level),
        held=(state.held | holds) & ~resumes & ~over,
        since=jnp.where(holds, today, state.since),
        holds=state.holds + holds,
        ended=state.ended | over,
    )
