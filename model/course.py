"""The patient's course: daily scans from planned dose to ANC, with the mean-field dose rules (model.md, section 0).

Outer scan over weeks (visits and rules), inner scan over days (amount, block, arrest, marrow). The reverse pass
recomputes each day from the state before it, so memory holds one state a day and no intermediate (a week at a time,
intermediates kept, was a third slower); that of a day's block, arrest and marrow is written by hand (by_lane.py). A patient never held follows full doses
exactly, so first counts below a limit and first holds are exact; the expected course of the others is an approximation
whose error a test measures against the exact patient (exact.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import rules
from .by_lane import by_lane
from .chain import Prepared
from .daily_block import DailyBlock, blocks_of_day, daily_block
from .elementary import log
from .individuals import Individuals
from .regimen import Regimen
from .relaxation import Relaxation, arrest_later, relaxation

UNTOUCHED, HELD = 0, 1
"""Index of a path: of patients never held, of those held at least once."""


class Days(NamedTuple):
    """The days of one week, both paths of each patient."""

    log_anc: Float[Array, "7 paths patients"]
    """Latent log ANC at the start of each day (10^9/L)."""
    arrest: Float[Array, "7 paths patients"]
    """A at the start of each day."""


class Course(NamedTuple):
    """Expected course of each patient while on treatment; the first two fields cover the weeks followed day by day."""

    seen: Any
    """What was asked of each week's days: a tree of arrays with a leading axis of weeks."""
    tumour_block: Float[Array, "daily_weeks paths patients"]
    """Week mean of a^n/(EC50_T^n + a^n)."""
    never: Float[Array, "weeks patients"]
    """Probability of never having been held, after the counts of the week's first day."""
    first_hold: Float[Array, "weeks patients"]
    """Probability that the counts of the week's first day hold a patient who has never been held."""
    dose: Float[Array, "weeks patients"]
    """Expected share of the planned dose delivered, other causes (intensity) left out."""
    dose_variance: Float[Array, "weeks patients"]
    """Variance of that share over hold histories."""
    full_level: Float[Array, "weeks patients"]
    """Probability of never having been reduced for neutropenia."""


TRACE = 1e-9
"""Amount over EC50 of a patient who has taken nothing: small enough to be no drug, finite so that its gradient is."""


class Daily(NamedTuple):
    """What the daily step needs and no day changes; fields broadcast over patients."""

    dose: Array
    """Rise of amount / EC50 for 1 mg."""
    decay: Array
    """Amount left after a day."""
    block: Any
    """daily_block.DailyBlock."""
    arrest: Any
    """relaxation.Relaxation."""
    marrow: Any
    """Constants of the neutrophil structure."""

    def for_gradient(self, lanes: int) -> "Daily":
        """Return the same for a gradient over ``lanes`` lanes: spread over them, so that it is summed over them once.

        Where the reverse pass is written by hand, cotangents alone are spread (by_lane.py).
        """

        def spread(x):
            return by_lane(x, lanes) if isinstance(x, BY_HAND) else jnp.broadcast_to(x, lanes)

        return jax.tree.map(spread, self, is_leaf=lambda x: isinstance(x, BY_HAND))


BY_HAND = DailyBlock, Relaxation, Prepared


def daily_constants(ind: Individuals, structure, steps: int) -> Daily:
    """Return the constants of the daily step of ``1/steps`` day."""
    b, h = ind.block, 1.0 / steps
    return Daily(
        dose=jnp.exp(ind.log_exposure - b.log_ec50),
        decay=jnp.exp(-b.k),
        block=daily_block(b.hill, b.k, b.emax, ind.log_potency_ratio, h),
        arrest=relaxation(ind.k_ikaros, h),
        marrow=structure.prepare(ind.marrow, ind.k_ikaros, h),
    )


def day(state, dose, c: Daily, structure, steps: int, support=None):
    """Return ``(amount, arrest, chain)`` a day later and the day's tumour block.

    ``dose`` (mg) is taken at the start of the day. Exact: amount, the mean block over both stages of each step
    (daily_block.py), towards which the arrest relaxes, and the day mean of the tumour block. ``support``: what G-CSF multiplies
    (neutrophils.Support), None without it.
    """
    amount, arrest, chain = state
    amount = amount + c.dose * dose
    tumour, blocks = blocks_of_day(amount, c.block, steps)
    for first, second in blocks:
        if support is None:
            chain = structure.advance(chain, arrest, first, second, c.marrow)
        else:
            chain = structure.advance_supported(chain, arrest, first, second, c.marrow, support)
        arrest = arrest_later(arrest, first, second, c.arrest)
    return (amount * c.decay, arrest, chain), tumour


def tumour_day(amount, dose, c: Daily):
    """Return the amount a day later and the day's tumour block, as ``day`` does."""
    amount = amount + c.dose * dose
    return amount * c.decay, blocks_of_day(amount, c.block, 0)[0]


def start(ind: Individuals, structure, shape: tuple[int, ...]):
    """Return ``(amount, arrest, chain)`` before the first dose."""
    return jnp.full(shape, TRACE), jnp.zeros(shape), structure.baseline(ind.marrow, shape)


def repeat_last(x, weeks: int, cycle: int):
    """Return the weekly ``x`` cut or extended to ``weeks`` by repeating its last cycle."""
    more = weeks - x.shape[0]
    if more <= 0:
        return x[:weeks]
    cycles = -(-more // cycle)
    again = jnp.broadcast_to(x[-cycle:], (cycles, cycle, *x.shape[1:])).reshape(-1, *x.shape[1:])
    return jnp.concatenate([x, again[:more]])


def expected_course(
    ind: Individuals,
    regimen: Regimen,
    rule: rules.HoldRule,
    structure,
    weeks: int,
    daily_weeks: int,
    steps: int = 1,
    rdi: float | None = None,
    see: Callable[[Days], Any] = lambda days: days,
) -> Course:
    """Return the mean-field course of every patient over ``weeks`` weeks, and what ``see`` makes of each week's days.

    Both paths are followed day by day for ``daily_weeks``, side by side; after that ANC repeats the last cycle (by then it
    is nearly periodic) and only the rules are followed, from week to week. With ``rdi`` set, every patient takes ``rdi``
    times the planned dose and no rule acts: the untouched path is everybody's, the other one that without dose.
    """
    patients, cycle, daily_weeks = ind.log_anc0.shape[0], regimen.cycle_days // 7, min(daily_weeks, weeks)
    factors = jnp.asarray(regimen.level_factors())
    planned = jnp.asarray(regimen.planned(daily_weeks))
    due = jnp.asarray(regimen.is_visit(weeks) & regimen.is_dosing(weeks) & (rdi is None), planned.dtype)
    intensity = ind.intensity if rdi is None else jnp.full(patients, rdi)
    constants = daily_constants(ind, structure, steps).for_gradient(patients)

    def one_day(share, state, planned_dose):
        _, arrest, chain = state
        out = structure.blood(chain, ind.marrow), arrest
        state, tumour = day(state, planned_dose * share, constants, structure, steps)
        return state, (*out, tumour)

    def follow_rules(carry, count, due_now, first_hold):
        occupancy, never = carry
        joining = never * first_hold
        occupancy = rules.advance(occupancy, count, joining, first_hold, rule, due_now)
        was, never = 1.0 - never, never - joining
        mass = factors @ occupancy.dosing
        dose = never + mass
        variance = never + (factors**2) @ occupancy.dosing - dose**2
        full = never + occupancy.dosing[0] + occupancy.held[0]
        weekly = never, first_hold, dose, variance, full
        return (occupancy, never), weekly, joining / (was + joining + 1e-12), mass / (1.0 - never + 1e-12)

    days = jax.checkpoint(one_day, prevent_cse=False)
    seen_of = jax.checkpoint(lambda blood, arrest: see(Days(ind.log_anc0 + log(blood), arrest)), prevent_cse=False)

    @partial(jax.checkpoint, prevent_cse=False)
    def visit(state, rules_state, due_now):
        level = ind.log_anc0 + log(structure.blood(state[2], ind.marrow))
        count = rules.chances(level, rule)
        first_hold = due_now * count.hold[UNTOUCHED]
        of_held = jax.tree.map(lambda x: x[HELD], count)
        rules_state, weekly, joined, share = follow_rules(rules_state, of_held, due_now, first_hold)
        # Those held for the first time bring their own state: the mean of the group moves towards it.
        joins = jnp.stack([jnp.zeros_like(joined), joined])
        state = jax.tree.map(lambda x: x + joins * (x[UNTOUCHED] - x), state)
        shares = intensity * jnp.stack([jnp.ones_like(share), share])
        return state, rules_state, shares, weekly, (count.hold[UNTOUCHED], of_held)

    def daily_week(carry, xs):
        doses, due_now = xs
        state, rules_state, shares, weekly, count = visit(*carry, due_now)
        state, (blood, arrest, tumour) = jax.lax.scan(partial(days, shares), state, doses)
        seen = seen_of(blood, arrest)
        return (state, rules_state), (seen, tumour.mean(axis=0), weekly, count)

    @partial(jax.checkpoint, prevent_cse=False)
    def later_week(carry, xs):
        due_now, (first_hold, count) = xs
        carry, weekly, _, _ = follow_rules(carry, count, due_now, due_now * first_hold)
        return carry, weekly

    rules_state = rules.nobody_held(len(factors), patients), jnp.ones(patients)
    first = start(ind, structure, (2, patients)), rules_state
    (_, rules_state), (seen, tumour, weekly, count) = jax.lax.scan(daily_week, first, (planned, due[:daily_weeks]))
    repeated = jax.tree.map(lambda x: repeat_last(x, weeks, cycle)[daily_weeks:], count)
    later = jax.lax.scan(later_week, rules_state, (due[daily_weeks:], repeated))[1]
    never, first_hold, dose, variance, full = (jnp.concatenate(x) for x in zip(weekly, later, strict=True))
    return Course(seen, tumour, never, first_hold, dose, variance, full)
