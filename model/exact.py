"""The exact patient: held or not, reduced or not, infected or not, day by day, from explicit random keys.

Same definitions as the mean-field model (course.py, outcomes.py), with discrete events instead of probabilities:
one weekly scan with a daily scan inside, vectorised over patients; dosing ends when treatment ends.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from . import infection, observation, progression, rules
from .course import daily_constants, day, start
from .individuals import individuals
from .outcomes import SAFETY_WEEKS
from .parameters import RECHECK_DELAY_DAYS
from .patients import Cohort
from .trial_design import Design

NEVER = 1e6
"""Day of an event that did not happen."""
_KINDS = 4
"""Infections: severe or not, concurrent with a count below 1.0 or not; four independent Poisson processes given frailty."""


class History(NamedTuple):
    """What a patient's record would hold; days since randomisation, NEVER where it did not happen. Shape ``patients``."""

    cutoff: Float[Array, "patients"]
    lost: Float[Array, "patients"]
    """End of progression follow-up for other reasons."""
    progression: Float[Array, "patients"]
    death: Float[Array, "patients"]
    stop: Float[Array, "patients"]
    """End of treatment: progression, death or another reason; not data cutoff."""
    given: Float[Array, "patients"]
    """Dose taken, mg, up to end of treatment or data cutoff."""
    planned: Float[Array, "patients"]
    first_grade2: Float[Array, "patients"]
    """First count below 1.5."""
    first_grade3: Float[Array, "patients"]
    first_hold: Float[Array, "patients"]
    first_reduction: Float[Array, "patients"]
    """First reduction for neutropenia."""
    other_reduction: Float[Array, "patients"]
    """1 with a reduction for other causes."""
    first_febrile: Float[Array, "patients"]
    episode_days: Float[Array, "patients"]
    """Duration of the first episode of grade >= 3 neutropenia; NEVER where none or unfinished."""
    severe: Float[Array, "patients"]
    """First severe infection."""
    any_infection: Float[Array, "patients"]
    concurrent: Float[Array, "patients"]
    """First infection concurrent with a count below 1.0."""
    grade4: Float[Array, "patients"]
    """1 where the severe infection is of grade 4."""
    fatal: Float[Array, "patients"]
    """1 where it is fatal."""


class _State(NamedTuple):
    amount: Array
    arrest: Array
    chain: Any
    ledger: rules.Ledger
    effect: Array
    phase: Int[Array, "patients"]
    """0 on treatment, 1 off with the tumour effect, 2 off without, 3 progressed, 4 dead."""
    budget: Float[Array, "kinds patients"]
    """What is left of each infection process's exponential waiting time."""
    infected: Float[Array, "kinds patients"]
    episode: Array
    """Day on which the current episode of neutropenia began; NEVER outside one."""
    record: History


def _uniform(key, shape):
    return jax.random.uniform(key, shape, minval=1e-12, maxval=1.0)


def _first(day_of, happened, now):
    return jnp.where(happened & (day_of >= NEVER), now, day_of)


def simulate(theta, z, region, key, arm: str, design: Design, weeks: int | None = None) -> History:
    """Return the history of one arm's patients.

    ``z`` are the patients' standard normal effects, shape ``(effects, patients)``, ``region`` their regions; every chance
    comes from ``key``. In arm ``kd`` no mezigdomide is given. The follow-up ends with ``weeks`` at the latest
    (default: the design's horizon).
    """
    weeks = design.horizon_weeks if weeks is None else weeks
    structure, regimen = design.structure, design.regimen
    n = region.shape[0]
    ind = individuals(theta, Cohort(z, region, np.zeros(0)), structure)
    constants = daily_constants(ind, structure, design.steps_per_day)
    sigma, drug = theta["sigma_anc"], arm == "mezikd"
    rule = rules.HoldRule(theta["hold_grade3"], theta["reduce_after_hold"], sigma)
    factors = jnp.asarray(regimen.level_factors())
    planned = jnp.asarray(regimen.planned(weeks)) * (1.0 if drug else 0.0)
    visit = jnp.asarray(regimen.is_visit(weeks))
    due = visit & jnp.asarray(regimen.is_dosing(weeks) & drug)
    keys = iter(jax.random.split(key, 8))
    spread = theta["followup_sd"] * jax.random.normal(next(keys), (n,))
    cutoff = jnp.minimum(theta["followup_months"] * jnp.exp(spread) * progression.MONTH_DAYS, 7.0 * weeks)
    lost = -jnp.log(_uniform(next(keys), (n,))) / theta[f"dropout_{arm}"] * progression.MONTH_DAYS
    variance = theta["infection_frailty_sd"] ** 2
    frailty = jax.random.gamma(next(keys), 1.0 / variance, (n,)) * variance
    ratio = jnp.maximum(theta["infection_any_ratio"], 1.0)
    share = jnp.stack([jnp.ones(()), ratio - 1.0])
    reference = progression.reference_effect(theta)
    keep = jnp.exp(-7.0 / theta["tumour_memory_days"])
    base = progression.baseline_hazard(theta, weeks)
    recheck = observation.recheck_probability(theta["recheck_days"])
    untouched = jnp.exp(theta["other_reduction"] * jnp.log(ind.intensity))
    grade4 = _uniform(next(keys), (n,)) < theta[f"infection_grade4_{arm}"]
    fatal = _uniform(next(keys), (n,)) < theta["infection_fatal"]

    def one_day(carry, x):
        amount, arrest, chain, budget, infected, episode, finished = carry
        today, dose, active, fever_key = x
        log_anc = ind.log_anc0 + jnp.log(structure.blood(chain, ind.marrow))
        below = observation.below_limit(log_anc, sigma)
        early = 1.0 + theta[f"infection_early_{arm}"] * jnp.exp(-(today + 0.5) / theta["infection_early_days"])
        rate = frailty * ind.infection_rate * early * infection.daily_ratio(log_anc, arrest, theta)
        rates = (rate * jnp.stack([below, 1.0 - below])[None] * share[:, None, None]).reshape(_KINDS, -1)
        left = budget - rates
        when = today + budget / jnp.maximum(rates, 1e-300)
        infected = jnp.where((left <= 0.0) & (infected >= NEVER), when, infected)
        recovers = _uniform(fever_key, (n,)) < recheck * (1.0 - below)
        ends = (today - episode > RECHECK_DELAY_DAYS) & recovers
        finished = jnp.where(ends & (finished >= NEVER), today - episode, finished)
        episode = jnp.where(ends, NEVER, episode)
        drug_state, tumour = (amount, arrest, chain), jnp.zeros(n)
        if drug:  # else they stay at their baseline
            drug_state, tumour = day(drug_state, dose * active, constants, structure, design.steps_per_day)
        return (*drug_state, left, infected, episode, finished), (tumour, dose * active)

    def one_week(s: _State, x):
        w, doses, visit_now, due_now, base_now, week_key = x
        now = 7.0 * w
        k = jax.random.split(week_key, 7)
        on = (s.phase == 0) & (now < cutoff)
        latent = ind.log_anc0 + jnp.log(structure.blood(s.chain, ind.marrow))
        count = latent + sigma * jax.random.normal(k[0], (n,))
        u_hold, u_reduce = _uniform(k[1], (n,)), _uniform(k[2], (n,))
        ledger = rules.advance_exact(s.ledger, count, u_hold, u_reduce, rule, due_now, len(factors))
        seen, r = on & visit_now, s.record
        starts = seen & (count < rules.LOG_GRADE3) & (s.episode >= NEVER)
        febrile = starts & (_uniform(k[3], (n,)) < theta["febrile_share"])
        held = (ledger.held > 0.5) & (s.ledger.held < 0.5)
        reduced = ledger.level > s.ledger.level
        r = r._replace(
            first_grade2=_first(r.first_grade2, seen & (count < observation.LOG_GRADE2), now),
            first_grade3=_first(r.first_grade3, seen & (count < rules.LOG_GRADE3), now),
            first_hold=_first(r.first_hold, on & held, now),
            first_reduction=_first(r.first_reduction, on & reduced, now),
            first_febrile=_first(r.first_febrile, febrile, now),
        )
        episode = jnp.where(starts, now, s.episode)
        active = ind.intensity * factors[ledger.level] * (1.0 - ledger.held) * on
        days = now + jnp.arange(7.0)
        carry = (s.amount, s.arrest, s.chain, s.budget, s.infected, episode, r.episode_days)
        carry, (tumour, taken) = jax.lax.scan(
            lambda c, x: one_day(c, (x[0], x[1], active, x[2])), carry, (days, doses, jax.random.split(k[4], 7))
        )
        amount, arrest, chain, budget, infected, episode, finished = carry

        block = tumour.mean(axis=0)
        effect = jnp.where(on, block + (s.effect - block) * keep, s.effect)
        base_i = base_now * ind.progression_frailty
        treated_hazard = base_i * jnp.exp(-theta["tumour_effect"] * effect / reference)
        death = theta["death_rate"] * progression.WEEK_MONTHS
        other = jnp.where(s.phase == 0, theta[f"stop_rate_{arm}"] * progression.WEEK_MONTHS,
                          jnp.where(s.phase == 1, 7.0 / theta["tumour_memory_days"], 0.0))  # fmt: skip
        progress = jnp.where(s.phase <= 1, treated_hazard, base_i)
        after = s.phase == 3
        progress = jnp.where(after, 0.0, progress)
        dying = jnp.where(after, theta["post_progression_death"] * progression.WEEK_MONTHS, death)
        total = progress + dying + other
        wait = -jnp.log(_uniform(k[5], (n,))) / total
        event = (wait < 1.0) & (s.phase < 4)
        which = _uniform(k[6], (n,)) * total
        progresses, dies = event & (which < progress), event & (which >= progress) & (which < progress + dying)
        at = now + 7.0 * jnp.minimum(wait, 1.0)
        infected_at = jnp.minimum(infected[0], infected[1])
        safety_end = jnp.minimum(r.stop + 7.0 * SAFETY_WEEKS, cutoff)
        killed = fatal & (infected_at >= now) & (infected_at < now + 7.0) & (infected_at < safety_end) & (s.phase < 3)
        dies = dies | killed
        progresses = progresses & ~killed
        at = jnp.where(killed, infected_at, at)
        leaves = event | killed
        phase = jnp.where(leaves & ~progresses & ~dies, s.phase + 1, s.phase)
        phase = jnp.where(dies, 4, jnp.where(progresses, 3, phase))
        r = r._replace(
            progression=_first(r.progression, progresses, at),
            death=_first(r.death, dies, at),
            stop=_first(r.stop, leaves & (s.phase == 0), at),
            given=r.given + taken.sum(axis=0),
            planned=r.planned + jnp.where(on, doses.sum(), 0.0),
            episode_days=finished,
        )
        return _State(amount, arrest, chain, ledger, effect, phase, budget, infected, episode, r), None

    never, zero = jnp.full(n, NEVER), jnp.zeros(n)
    record = History(
        cutoff=cutoff, lost=lost, progression=never, death=never, stop=never, given=zero, planned=zero,
        first_grade2=never, first_grade3=never, first_hold=never, first_reduction=never,
        other_reduction=(_uniform(next(keys), (n,)) > untouched).astype(float), first_febrile=never,
        episode_days=never, severe=never, any_infection=never, concurrent=never, grade4=grade4.astype(float),
        fatal=fatal.astype(float),
    )  # fmt: skip
    state = _State(
        *start(ind, structure, (n,)),
        rules.Ledger(jnp.zeros(n, int), zero), zero, jnp.zeros(n, int),
        -jnp.log(_uniform(next(keys), (_KINDS, n))), jnp.full((_KINDS, n), NEVER), never, record,
    )  # fmt: skip
    weekly = (jnp.arange(weeks), planned, visit, due, base, jax.random.split(next(keys), weeks))
    end = jax.lax.scan(one_week, state, weekly)[0]
    infected = end.infected
    return end.record._replace(
        severe=jnp.minimum(infected[0], infected[1]),
        any_infection=infected.min(axis=0),
        concurrent=jnp.minimum(infected[0], infected[2]),
    )


@partial(jax.jit, static_argnames=("arm", "design"))
def simulate_trials(theta, z, region, keys, arm: str, design: Design) -> History:
    """Return ``simulate`` for many trials at once: ``theta`` leaves, ``z`` and ``keys`` have the trials first."""
    return jax.vmap(lambda t, x, k: simulate(t, x, region, k, arm, design))(theta, z, keys)
