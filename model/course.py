"""The patient's course: daily scans from planned dose to ANC, with the mean-field dose rules (model.md, section 0).

Outer scan over weeks (visits and rules), inner scan over days (amount, block, arrest, marrow). The reverse pass
recomputes each week from its first day, so memory holds one state a week. A patient never held follows full doses
exactly, so first counts below a limit and first holds are exact; the expected course of the others is an approximation
whose error a test measures against the exact patient (exact.py).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import rules
from .individuals import Individuals
from .neutrophils import TR_SHARE
from .regimen import Regimen


class Path(NamedTuple):
    """One expected path."""

    log_anc: Float[Array, "weeks 7 patients"]
    """Latent log ANC at the start of each day (10^9/L)."""
    arrest: Float[Array, "weeks 7 patients"]
    """A at the start of each day."""
    tumour_block: Float[Array, "weeks patients"]
    """Week mean of a^n/(EC50_T^n + a^n)."""


class Course(NamedTuple):
    """Expected course of each patient while on treatment: never held (``untouched``) and held at least once (``held``)."""

    untouched: Path
    """Over ``untouched_weeks``; later weeks repeat the last cycle."""
    held: Path
    """Over ``held_weeks``; later weeks repeat the last cycle, while holds and reductions go on."""
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


UNDERFLOW = 1e-100
"""Keeps the logarithm of an amount that months without a dose have brought to zero finite, and its gradient."""


class _Daily(NamedTuple):
    """What the daily step needs and no day changes; fields broadcast over patients."""

    dose: Array
    """Rise of amount / EC50 for 1 mg."""
    decay: Array
    """Amount left after a day."""
    hill: Array
    shrink_g: Array
    """(amount / EC50)^n left after the first stage of a step, over that before; and after the whole step."""
    shrink_1: Array
    scale_g: Array
    """Emax / (n k times the length of the stage)."""
    scale_1: Array
    tumour: Array
    """Turns (amount / EC50)^n into (amount / EC50_T)^n."""
    tumour_scale: Array
    """1 / (n k)."""
    shrink_day: Array
    """(amount / EC50)^n left after a day."""
    keep_g: Array
    """Share of the arrest left after each stage without block."""
    keep_1: Array
    marrow: Any
    """Constants of the neutrophil structure."""


def daily_constants(ind: Individuals, structure, steps: int) -> _Daily:
    """Return the constants of the daily step of ``1/steps`` day."""
    block, h = ind.block, 1.0 / steps
    nk = block.hill * block.k
    first, second = TR_SHARE * h, (1.0 - TR_SHARE) * h
    return _Daily(
        dose=jnp.exp(ind.log_exposure - block.log_ec50),
        decay=jnp.exp(-block.k),
        hill=block.hill,
        shrink_g=jnp.exp(-nk * first),
        shrink_1=jnp.exp(-nk * h),
        scale_g=block.emax / (nk * first),
        scale_1=block.emax / (nk * second),
        tumour=jnp.exp(block.hill * ind.log_potency_ratio),
        tumour_scale=1.0 / nk,
        shrink_day=jnp.exp(-nk),
        keep_g=jnp.exp(-ind.k_ikaros * first),
        keep_1=jnp.exp(-ind.k_ikaros * second),
        marrow=structure.prepare(ind.marrow, ind.k_ikaros, h),
    )


def day(state, dose, c: _Daily, structure, steps: int):
    """Return ``(amount, arrest, chain)`` a day later and the day's tumour block.

    ``dose`` (mg) is taken at the start of the day. Exact: amount, the mean block over both stages of each step
    (exposure.day_mean_block), towards which the arrest relaxes, and the day mean of the tumour block.
    """
    amount, arrest, chain = state
    amount = amount + c.dose * dose
    power = jnp.exp(c.hill * jnp.log(amount + UNDERFLOW))
    tumour = power * c.tumour
    tumour = c.tumour_scale * jnp.log((1.0 + tumour) / (1.0 + tumour * c.shrink_day))
    for _ in range(steps):
        power_g, power_1 = power * c.shrink_g, power * c.shrink_1
        first = c.scale_g * jnp.log((1.0 + power) / (1.0 + power_g))
        second = c.scale_1 * jnp.log((1.0 + power_g) / (1.0 + power_1))
        chain = structure.advance(chain, arrest, first, second, c.marrow)
        arrest = first + (arrest - first) * c.keep_g
        arrest = second + (arrest - second) * c.keep_1
        power = power_1
    return (amount * c.decay, arrest, chain), tumour


def start(ind: Individuals, structure, patients: int):
    """Return ``(amount, arrest, chain)`` before the first dose."""
    return (
        jnp.full(patients, TRACE),
        jnp.zeros(patients),
        structure.baseline(ind.marrow, (patients,)),
    )


def repeat_last(x, weeks: int, cycle: int):
    """Return the weekly ``x`` cut or extended to ``weeks`` by repeating its last cycle."""
    more = weeks - x.shape[0]
    if more <= 0:
        return x[:weeks]
    return jnp.concatenate([x, *[x[-cycle:]] * -(-more // cycle)])[:weeks]


def expected_course(
    ind: Individuals,
    regimen: Regimen,
    rule: rules.HoldRule,
    structure,
    weeks: int,
    held_weeks: int,
    untouched_weeks: int,
    steps: int = 1,
    rdi: float | None = None,
) -> Course:
    """Return the mean-field course of every patient over ``weeks`` weeks.

    Patients never held are followed day by day for ``untouched_weeks`` and those held for ``held_weeks``; after that ANC
    repeats the last cycle (by then it is nearly periodic) and only the rules are followed, from week to week. With
    ``rdi`` set, every patient takes ``rdi`` times the planned dose and no rule acts.
    """
    patients, cycle = ind.log_anc0.shape[0], regimen.cycle_days // 7
    factors = jnp.asarray(regimen.level_factors())
    planned = jnp.asarray(regimen.planned(weeks))
    due = jnp.asarray(regimen.is_visit(weeks) & regimen.is_dosing(weeks) & (rdi is None), planned.dtype)
    intensity = ind.intensity if rdi is None else jnp.full(patients, rdi)
    constants = daily_constants(ind, structure, steps)

    def one_day(share, state, planned_dose):
        _, arrest, chain = state
        out = structure.blood(chain, ind.marrow), arrest
        state, tumour = day(state, planned_dose * share, constants, structure, steps)
        return state, (*out, tumour)

    def one_week(state, share, doses):
        state, (blood, arrest, tumour) = jax.lax.scan(partial(one_day, share), state, doses)
        return state, Path(blood, arrest, tumour.mean(axis=0))

    def log_anc(chain):
        return ind.log_anc0 + jnp.log(structure.blood(chain, ind.marrow))

    @partial(jax.checkpoint, prevent_cse=False)
    def untouched_week(state, doses):
        after, path = one_week(state, intensity, doses)
        return after, (state, path)

    def follow_rules(occupancy, never, level, due_now, first_hold):
        joining = never * first_hold
        occupancy = rules.advance(occupancy, level, joining, first_hold, rule, due_now)
        was, never = 1.0 - never, never - joining
        mass = factors @ occupancy.dosing
        dose = never + mass
        variance = never + (factors**2) @ occupancy.dosing - dose**2
        full = never + occupancy.dosing[0] + occupancy.held[0]
        return occupancy, (never, dose, variance, full), joining / (was + joining + 1e-12), mass / (1.0 - never + 1e-12)

    @partial(jax.checkpoint, prevent_cse=False)
    def held_week(carry, xs):
        state, occupancy, never = carry
        doses, due_now, whole, first_hold = xs
        level = log_anc(state[2])
        occupancy, dosing, joined, share = follow_rules(occupancy, never, level, due_now, first_hold)
        # Those held for the first time bring their own state: the mean of the group moves towards it.
        state = jax.tree.map(lambda x, y: x + joined * (y - x), state, whole)
        state, path = one_week(state, intensity * share, doses)
        return (state, occupancy, dosing[0]), (path, level, dosing)

    def later_week(carry, xs):
        occupancy, never = carry
        occupancy, dosing, _, _ = follow_rules(occupancy, never, *xs)
        return (occupancy, dosing[0]), dosing

    first = start(ind, structure, patients)
    _, (states, untouched) = jax.lax.scan(untouched_week, first, planned[:untouched_weeks])
    first_hold = rules.hold_probability(log_anc(states[2]), rule)
    first_hold = repeat_last(first_hold, weeks, cycle) * due[:, None]
    states = jax.tree.map(lambda x: repeat_last(x, held_weeks, cycle), states)
    carry = (first, rules.nobody_held(len(factors), patients), jnp.ones(patients))
    daily = (planned[:held_weeks], due[:held_weeks], states, first_hold[:held_weeks])
    (_, *carry), (held, levels, dosing) = jax.lax.scan(held_week, carry, daily)
    levels = repeat_last(levels, weeks, cycle)[held_weeks:]
    later = jax.lax.scan(later_week, tuple(carry), (levels, due[held_weeks:], first_hold[held_weeks:]))[1]
    never, dose, variance, full = (jnp.concatenate(x) for x in zip(dosing, later, strict=True))
    untouched, held = (x._replace(log_anc=ind.log_anc0 + jnp.log(x.log_anc)) for x in (untouched, held))
    return Course(untouched, held, never, first_hold, dose, variance, full)
