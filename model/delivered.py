"""Patients under doses as they were delivered: the course day by day, and the log-likelihood of what each of them had.

Doses are covariates: whether a dose was held or reduced depends on counts that are in the data, not on parameters given these,
so the rules need no likelihood. Nor need the visits, or the end of treatment for other reasons. A patient's log-likelihood is

    counts         log count ~ N(log ANC(t), sigma); of one below the limit of quantification, the probability of that
    infection      first severe one, or none until the end of its follow-up: h(t) as in infection.py, gamma frailty of variance
                   v integrated out: density h (1 + v H)^(-1/v - 1), survival (1 + v H)^(-1/v), H the integral of h
    progression    hazards of progression.py, constant within a week; after treatment ends the tumour effect is lost at an
                   unknown time (rate 1/memory), which is summed over: two states with closed forms

Death without progression, death after it and the fatal share of infections have constant rates that no patient's own
parameters enter (``of_deaths``).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int

from .course import daily_constants, day, start, tumour_day
from .disposition import two_nodes
from .elementary import log
from .individuals import Individuals
from .infection import daily_ratio
from .precision import by_dtype

LEAST = 1e-300, 1e-37
"""In double and single precision. Keeps the logarithm of a probability that is not read finite."""
Numbers = np.ndarray | Array


class Ledger(NamedTuple):
    """What was given to each patient and what happened; a lane is a patient. Times in days from study day 1."""

    dose: Float[Numbers, "weeks 7 lanes"]
    """mg, taken at the start of the day."""
    stop: Float[Numbers, "lanes"]
    """End of treatment; beyond all weeks while it goes on."""
    infection: Float[Numbers, "lanes"]
    """Time of the first severe infection, or until which none was seen; 0 where nothing is known."""
    infected: Float[Numbers, "lanes"]
    """1 where there was one."""
    progression: Float[Numbers, "lanes"]
    """The same of progression."""
    progressed: Float[Numbers, "lanes"]
    going_on: Float[Numbers, "weeks 7 lanes"] | None = None
    """mg a day as if dosing had gone on to the end of the week in which treatment or follow-up ended: of the tumour effect.

    The effect of a week is that of its seven days. Doses end with progression: were they counted as they are, progression would
    seem to come when the effect is low. None: as ``dose``.
    """


class Counts(NamedTuple):
    """Neutrophil counts, padded to the patient with most."""

    day: Int[Numbers, "lanes counts"]
    """Before the dose of this day, 0 the first."""
    log_value: Float[Numbers, "lanes counts"]
    """Log of 10^9/L; of the limit where ``below``."""
    below: Float[Numbers, "lanes counts"]
    """1 for a count that is only known to lie below ``log_value``."""
    there: Float[Numbers, "lanes counts"]
    """1 for a count, 0 for padding."""


class Rates(NamedTuple):
    """What the course of a lane is given besides its individual parameters; every field ``lanes`` or as said."""

    sigma: Array
    drug: Array
    """b_m: log hazard ratio of infection at full arrest."""
    neutropenia: Array
    """b_n."""
    early: Array
    """e0 of the patient's arm."""
    early_days: Array
    variance: Array
    """v of the infection frailty."""
    effect: Array
    """delta over the reference effect: log hazard ratio of progression per unit of tumour block."""
    memory_days: Array
    baseline: Float[Array, "weeks lanes"]
    """Hazard of progression without drug, per week."""


class Followed(NamedTuple):
    """The course of each lane and what its events need."""

    log_blood: Float[Array, "days lanes"]
    """log(ANC / ANC0) at the start of each day."""
    cumulative: Array
    """H of infection at its time."""
    hazard: Array
    """h on its day."""
    effect: Float[Array, "weeks lanes"]
    """Delivered tumour block, filtered over the memory, 0 without drug; frozen when treatment has ended."""


def follow(ind: Individuals, r: Rates, ledger: Ledger, structure: Any, steps: int = 1) -> Followed:
    """Return the course of patients ``ind`` (every field ``lanes``) under the doses of ``ledger``."""
    weeks, _, lanes = ledger.dose.shape
    constants = daily_constants(ind, structure, steps).for_gradient(lanes)
    keep = jnp.exp(-7.0 / r.memory_days)
    theta = {"infection_drug": r.drug, "infection_neutropenia": r.neutropenia}

    def one_day(state, dose):
        seen = log(structure.blood(state[2], ind.marrow)), state[1]
        state, tumour = day(state, dose, constants, structure, steps)
        return state, (*seen, tumour)

    @partial(jax.checkpoint, prevent_cse=False)
    def week(carry, xs):
        state, effect, cumulative, hazard = carry
        doses, going_on, begin = xs
        amount = state[0]
        state, (log_blood, arrest, tumour) = jax.lax.scan(one_day, state, doses)
        if going_on is not None:
            tumour = jax.lax.scan(lambda a, mg: tumour_day(a, mg, constants), amount, going_on)[1]
        t = begin + jnp.arange(7.0)[:, None]
        early = 1.0 + r.early * jnp.exp(-(t + 0.5) / r.early_days)
        h = ind.infection_rate * early * daily_ratio(ind.log_anc0 + log_blood, arrest, theta)
        cumulative += (h * jnp.clip(ledger.infection - t, 0.0, 1.0)).sum(axis=0)
        hazard += (h * ((t <= ledger.infection) & (ledger.infection < t + 1.0))).sum(axis=0)
        block = tumour.mean(axis=0)
        effect = jnp.where(begin < ledger.stop, block + (effect - block) * keep, effect)
        return (state, effect, cumulative, hazard), (log_blood, effect)

    zero = jnp.zeros(lanes)
    begin = 7.0 * jnp.arange(weeks)
    carry = start(ind, structure, (lanes,)), zero, zero, zero
    xs = jnp.asarray(ledger.dose), jax.tree.map(jnp.asarray, ledger.going_on), begin
    (_, _, cumulative, hazard), (log_blood, effect) = jax.lax.scan(week, carry, xs)
    return Followed(log_blood.reshape(7 * weeks, lanes), cumulative, hazard, effect)


def untouched(ind: Individuals, r: Rates, ledger: Ledger) -> Followed:
    """Return what ``follow`` returns of patients who take no dose, without following them.

    Their count stays at its baseline and their hazard of infection falls by exp(-1/tau) in its early part from day to day, so
    H is a geometric sum up to the day of its time, and a part of that day.
    """
    weeks, _, lanes = ledger.dose.shape
    zeros = jnp.zeros_like(ind.log_anc0, shape=(weeks, lanes))
    theta = {"infection_drug": r.drug, "infection_neutropenia": r.neutropenia}
    rate = ind.infection_rate * daily_ratio(ind.log_anc0, zeros[0], theta)
    until = jnp.asarray(ledger.infection)
    whole = jnp.floor(until)
    first, today = jnp.exp(-0.5 / r.early_days), jnp.exp(-(whole + 0.5) / r.early_days)
    early = first * jnp.expm1(-whole / r.early_days) / jnp.expm1(-1.0 / r.early_days) + (until - whole) * today
    cumulative, hazard = rate * (until + r.early * early), rate * (1.0 + r.early * today)
    return Followed(jnp.repeat(zeros, 7, axis=0), cumulative, hazard, zeros)


def of_counts(f: Followed, ind: Individuals, r: Rates, counts: Counts) -> Float[Array, "lanes"]:
    """Return the log-likelihood of each lane's counts: densities of the count, or the probability of one below its limit."""
    who = np.arange(counts.day.shape[0], dtype=np.int32)[:, None]
    log_value = jnp.asarray(counts.log_value)
    x = log_value - ind.log_anc0[:, None] - f.log_blood[counts.day, who]
    sigma = r.sigma[:, None]
    density = -0.5 * (x / sigma) ** 2 - jnp.log(sigma) - 0.5 * jnp.log(2.0 * jnp.pi) - log_value
    each = jnp.where(jnp.asarray(counts.below) > 0.0, norm.logcdf(x / sigma), density)
    return (each * counts.there).sum(axis=1)


def of_infection(f: Followed, r: Rates, ledger: Ledger) -> Float[Array, "lanes"]:
    """Return the log-likelihood of the time to the first severe infection, per day."""
    grown = jnp.log1p(r.variance * f.cumulative)
    event = jnp.log(jnp.maximum(f.hazard, by_dtype(f.hazard, *LEAST))) - grown
    return jnp.where(ledger.infected > 0.0, event, 0.0) - grown / r.variance


def of_progression(f: Followed, ind: Individuals, r: Rates, ledger: Ledger) -> Float[Array, "lanes"]:
    """Return the log-likelihood of the time to progression, per day."""
    weeks = f.effect.shape[0]
    base = r.baseline * ind.progression_frailty
    loss = 7.0 / r.memory_days

    def week(carry, xs):
        on, off, rate = carry
        number, base, effect = xs
        at_risk = jnp.clip(ledger.progression / 7.0 - number, 0.0, 1.0)
        after = jnp.clip(number + at_risk - jnp.maximum(ledger.stop / 7.0, number), 0.0, 1.0)
        slow = base * jnp.exp(-r.effect * effect)
        on = on * jnp.exp(-slow * (at_risk - after))
        lost = on * loss * two_nodes(slow + loss, base, after)
        on, off = on * jnp.exp(-(slow + loss) * after), off * jnp.exp(-base * after) + lost
        here = (number <= ledger.progression / 7.0) & (ledger.progression / 7.0 < number + 1.0)
        rate = jnp.where(here, on * slow + off * base, rate)
        return (on, off, rate), None

    one, zero = jnp.ones_like(f.hazard), jnp.zeros_like(f.hazard)
    carry, xs = (one, zero, zero), (jnp.arange(float(weeks)), base, f.effect)
    (on, off, rate), _ = jax.lax.scan(week, carry, xs)
    seen = jnp.where(ledger.progressed > 0.0, rate / 7.0, on + off)
    return jnp.log(jnp.maximum(seen, by_dtype(seen, *LEAST)))


def event_free(
    ind: Individuals, r: Rates, ledger: Ledger, structure: Any, at: Any, steps: int = 1
) -> tuple[Array, Array, Array]:
    """Return the course and how events come under the doses of ``ledger``, whatever was seen of them.

    Returns
    -------
    log_blood as in Followed; by each of the times ``at`` (days, ``times``) and lane the cumulative hazard of infection, and
    log P(no progression).
    """
    zero = jnp.zeros_like(ledger.stop)

    def until(t):
        till = ledger._replace(infection=zero + t, infected=zero, progression=zero + t, progressed=zero)
        f = follow(ind, r, till, structure, steps)
        return f.log_blood, f.cumulative, of_progression(f, ind, r, till)

    # The course is the same for every time: vmap does only what is not once for each.
    return jax.vmap(until, out_axes=(None, 0, 0))(jnp.asarray(at))


class Deaths(NamedTuple):
    """What the rates of death need of each patient; events are 0 or 1."""

    before: Float[Numbers, "patients"]
    """Death without progression, other than of infection."""
    months_before: Float[Numbers, "patients"]
    """Months alive without progression."""
    after: Float[Numbers, "patients"]
    """Death after progression."""
    months_after: Float[Numbers, "patients"]
    fatal: Float[Numbers, "patients"]
    """A first severe infection without progression that was fatal, or that was not."""
    not_fatal: Float[Numbers, "patients"]


def of_deaths(d: Deaths, theta: Any):
    """Return the log-likelihood of each patient's death: constant hazards and the fatal share of first severe infections."""
    before, after, share = theta["death_rate"], theta["post_progression_death"], theta["infection_fatal"]
    rates = d.before * jnp.log(before) - before * d.months_before + d.after * jnp.log(after) - after * d.months_after
    return rates + d.fatal * jnp.log(share) + d.not_fatal * jnp.log1p(-share)
