"""The exact patient: held or not, reduced or not, infected or not, day by day, under any scenario, from explicit keys.

Same definitions as the mean-field model (course.py, outcomes.py), with discrete events instead of probabilities: one
weekly scan with a daily scan inside, vectorised over patients. A scenario enters as arrays (plan.py), so all scenarios of a
horizon share one compiled program. Dosing ends when treatment ends.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from . import days, episodes, fate, gcsf, holds, infection, infections, observation, progression, rules
from .chance import Chance
from .course import daily_constants, start
from .elementary import log
from .history import NADIR_DAYS, NEVER, SEVERE, WINDOW_DAYS, History, Realised, Record
from .individuals import individuals
from .outcomes import SAFETY_WEEKS
from .patients import Cohort
from .plan import Plan, plan_of
from .scenario import Scenario
from .structures import STRUCTURES
from .trial_design import Design

__all__ = ["NEVER", "History", "Realised", "Record", "simulate", "simulate_batch", "simulate_trials"]

FollowUp = Literal["trial", "horizon"]
"""Up to the trial's data cutoff, with drop-out; or everybody to the end of the plan."""
_BEFORE_FIRST_DAY = 1 << 20
"""Counter of the random numbers drawn once per patient: beyond every week."""
_SAFETY_DAYS = 7.0 * SAFETY_WEEKS


class _State(NamedTuple):
    drug: Any
    """Amount, arrest and chain."""
    dosing: holds.Dosing
    course: gcsf.Course
    effect: Float[Array, "patients"]
    """Delivered tumour block, filtered over the memory of the tumour effect."""
    phase: Int[Array, "patients"]
    budget: Float[Array, "2 patients"]
    episode: episodes.Episode
    history: History


def _first(day_of, happened, now):
    return jnp.where(happened & (day_of >= NEVER), now, day_of)


def simulate(
    theta,
    z,
    region,
    key,
    plan: Plan,
    structure_name: str = "arrest",
    steps: int = 1,
    follow_up: FollowUp = "horizon",
    record: bool = False,
    realised: Realised | None = None,
    tumour_memory: bool = True,
) -> History | tuple[History, Record]:
    """Return the history of each patient, and with ``record`` the course behind it.

    ``theta`` holds the parameters in natural units (without SUPPORT: their prior medians), ``z`` the patients' standard
    normal effects, shape ``(effects, patients)``, ``region`` their regions, ``plan`` the scenario (``plan_of``). Every chance
    comes from ``key``: with the same key two plans share it, patient by patient. ``realised`` replays a dosing ledger; no
    rule acts then. ``steps`` are integration steps a day, ``structure_name`` and ``tumour_memory`` choose the structure
    (structures.py).
    """
    structure, weeks, n = STRUCTURES[structure_name], plan.visit.shape[0], region.shape[0]
    theta = gcsf.support_medians() | dict(theta)
    ind = individuals(theta, Cohort(z, region, np.zeros(0)), structure)
    sigma = theta["sigma_anc"]

    def of_arm(name):
        return jnp.where(plan.drug, theta[f"{name}_mezikd"], theta[f"{name}_kd"])

    luck = Chance(key, _BEFORE_FIRST_DAY, n)
    cutoff_drawn = theta["followup_months"] * jnp.exp(theta["followup_sd"] * luck.normal()) * progression.MONTH_DAYS
    drop_out = luck.exponential() / of_arm("dropout") * progression.MONTH_DAYS
    if follow_up == "trial":
        cutoff, lost = jnp.minimum(cutoff_drawn, 7.0 * weeks), drop_out
    else:
        cutoff, lost = jnp.full(n, 7.0 * weeks), jnp.full(n, NEVER)
    policy_from = cutoff_drawn - plan.gcsf.start_before_cutoff
    variance = theta["infection_frailty_sd"] ** 2
    frailty = jax.random.gamma(jax.random.fold_in(key, 1), 1.0 / variance, (n,)) * variance
    ratio = jnp.maximum(theta["infection_any_ratio"], 1.0)
    grade4 = luck.uniform() < of_arm("infection_grade4")
    fatal = luck.uniform() < theta["infection_fatal"]
    untouched = jnp.exp(theta["other_reduction"] * jnp.log(ind.intensity))
    other_reduction = (luck.uniform() > untouched) & ~plan.fixed_rdi & plan.drug
    intensity = jnp.where(plan.fixed_rdi, plan.rdi, ind.intensity)
    factors = jnp.asarray(plan.factors)
    keep = jnp.exp(-7.0 / theta["tumour_memory_days"]) if tumour_memory else 0.0
    base = progression.baseline_hazard(theta, weeks)
    early = 1.0 + of_arm("infection_early") * jnp.exp(
        -(jnp.arange(7.0 * weeks) + 0.5) / theta["infection_early_days"]
    ).reshape(weeks, 7)
    recheck = observation.recheck_probability(theta["recheck_days"])
    weekly_hazards = fate.hazards(theta, of_arm("stop_rate"), tumour_memory)
    infection_rate = frailty * ind.infection_rate

    model = days.Model(theta, ind, daily_constants(ind, structure, steps), structure, steps)

    def one_week(s: _State, x):
        w, planned, visit, due, base_now, early_now, primary, replay = x
        now, h = 7.0 * w, s.history
        luck = Chance(key, w, n)
        on = (s.phase == fate.TREATED) & (now < cutoff)
        latent = ind.log_anc0 + log(structure.blood(s.drug[2], ind.marrow))
        count = latent + sigma * luck.normal()
        unscheduled = on & s.dosing.held & ~visit
        seen = (on & visit) | unscheduled
        starts = on & visit & (count < rules.LOG_GRADE3) & (s.episode.begin >= NEVER)
        febrile = starts & (luck.uniform() < theta["febrile_share"])
        episode = episodes.begin(s.episode, starts, now, luck.uniform())
        # Drawn also where the ledger is given, so that the numbers after them stay the same.
        counted, dosing = holds.Counted(count, luck.uniform(), luck.uniform(), febrile), s.dosing
        if realised is None:
            chances = theta["hold_grade3"], theta["reduce_after_hold"]
            dosing = holds.advance(s.dosing, now, counted, due, plan.holds, plan.lowest, *chances)
            trigger = (seen & (count < rules.LOG_GRADE4)) | febrile
            course = gcsf.react(s.course, now, trigger, on & (now + 1.0 >= policy_from), plan.gcsf)
            doses = planned[:, None] * (intensity * factors[dosing.level] * (on & ~dosing.held & ~dosing.ended))
            today = now + jnp.arange(7.0)[:, None]
            supported = gcsf.given(course, today, primary[:, None], on & (today >= policy_from), plan.gcsf) * 1.0
        else:
            course, doses, supported = s.course, replay.dose, replay.gcsf

        week = days.week(model, plan.mode, s.drug, s.course.strength, doses, supported)
        log_anc = ind.log_anc0 + log(week.blood)
        below = observation.below_limit(log_anc, sigma)
        hazard = infection_rate * early_now[:, None] * infection.daily_ratio(log_anc, week.arrest, theta)
        budget, infected = infections.week(s.budget, hazard, below, now, ratio, luck)
        episode, end = episodes.week(episode, below, now, recheck)

        effect = jnp.where(on, week.tumour_block + (s.effect - week.tumour_block) * keep, s.effect)
        severe_at, is_first = infected.day[SEVERE], h.severe >= NEVER
        safety_end = jnp.minimum(h.stop + _SAFETY_DAYS, cutoff)
        killed = fatal & is_first & (severe_at < safety_end) & (s.phase < fate.PROGRESSED)
        base_i = base_now * ind.progression_frailty
        event = fate.week(s.phase, effect, base_i, killed, severe_at, now, weekly_hazards, luck)
        stop = _first(h.stop, event.ends, event.at)
        collected = now < safety_end
        in_window = collected & (now < WINDOW_DAYS)
        lowest = jnp.where(collected, log_anc.min(axis=0), NEVER)
        begins = on & (dosing.holds > s.dosing.holds)
        h = h._replace(
            progression=_first(h.progression, event.progresses, event.at),
            death=_first(h.death, event.dies, event.at),
            stop=stop,
            drug_stop=jnp.minimum(_first(h.drug_stop, on & dosing.ended, now), stop),
            given=h.given + doses.sum(axis=0),
            planned=h.planned + jnp.where(on & ~dosing.ended, planned.sum(), 0.0),
            first_grade2=_first(h.first_grade2, on & visit & (count < observation.LOG_GRADE2), now),
            first_grade3=_first(h.first_grade3, on & visit & (count < rules.LOG_GRADE3), now),
            first_grade4=_first(h.first_grade4, seen & (count < rules.LOG_GRADE4), now),
            first_hold=_first(h.first_hold, begins, now),
            holds=h.holds + begins,
            first_reduction=_first(h.first_reduction, on & (dosing.level > s.dosing.level), now),
            first_febrile=_first(h.first_febrile, febrile, now),
            episode_days=jnp.where(h.episode_days >= NEVER, end.duration, h.episode_days),
            severe=jnp.minimum(h.severe, severe_at),
            any_infection=jnp.minimum(h.any_infection, infected.day.min(axis=0)),
            concurrent=jnp.minimum(h.concurrent, jnp.where(infected.concurrent, infected.day, NEVER).min(axis=0)),
            nadir=jnp.minimum(h.nadir, lowest),
            nadir_cycle1=jnp.where(now < NADIR_DAYS, jnp.minimum(h.nadir_cycle1, lowest), h.nadir_cycle1),
            anc_day28=jnp.where(w == 3, log_anc[6], h.anc_day28),
            days_below_1=h.days_below_1 + in_window * (log_anc < rules.LOG_GRADE3).sum(axis=0),
            days_below_half=h.days_below_half + in_window * (log_anc < rules.LOG_GRADE4).sum(axis=0),
            days_counted=h.days_counted + 7.0 * in_window,
            gcsf_days=h.gcsf_days + supported.sum(axis=0),
        )
        course = course._replace(strength=week.strength)
        state = _State(week.state, dosing, course, effect, event.phase, budget, episode, h)
        if not record:
            return state, None
        grade = infections.grades(infected, is_first, grade4, fatal, of_arm("infection_grade4"), luck)
        return state, Record(
            anc=jnp.exp(log_anc), arrest=week.arrest, dose=doses, gcsf=supported, on=on,
            count=jnp.where(seen, jnp.exp(count), jnp.nan), unscheduled=unscheduled, held=dosing.held & on,
            level=dosing.level, episode_start=starts, febrile=febrile, episode_end=end.day, infection=infected.day,
            infection_grade=grade, infection_days=infections.durations(infected, luck),
            infection_concurrent=infected.concurrent,
        )  # fmt: skip

    never, zero = jnp.full(n, NEVER), jnp.zeros(n)
    history = History(
        cutoff=cutoff, lost=lost, progression=never, death=never, stop=never, drug_stop=never, given=zero, planned=zero,
        first_grade2=never, first_grade3=never, first_grade4=never, first_hold=never, holds=jnp.zeros(n, int),
        first_reduction=never, other_reduction=other_reduction.astype(float), first_febrile=never, episode_days=never,
        severe=never, any_infection=never, concurrent=never, grade4=grade4.astype(float), fatal=fatal.astype(float),
        nadir_cycle1=never, nadir=never, anc_day28=ind.log_anc0, days_below_1=zero, days_below_half=zero,
        days_counted=zero, gcsf_days=zero,
    )  # fmt: skip
    state = _State(
        start(ind, structure, (n,)), holds.start(n), gcsf.no_course(n), zero, jnp.zeros(n, int),
        infections.first_budgets(luck, ratio), episodes.none(n), history,
    )  # fmt: skip
    weekly = (jnp.arange(weeks), plan.planned, plan.visit, plan.due, base, early, plan.gcsf.primary, realised)
    end, course = jax.lax.scan(one_week, state, jax.tree.map(jnp.asarray, weekly))
    h = end.history
    h = h._replace(nadir=jnp.exp(h.nadir), nadir_cycle1=jnp.exp(h.nadir_cycle1), anc_day28=jnp.exp(h.anc_day28))
    return h if course is None else (h, _collected(course, h))


def _collected(course: Record, h: History) -> Record:
    """Return the record with infections cut where a trial no longer collects them."""
    seen = course.infection <= jnp.minimum(jnp.minimum(h.stop + _SAFETY_DAYS, h.cutoff), h.death)
    last = jnp.where(course.infection_grade == 5, 0.0, course.infection_days)
    return course._replace(
        infection=jnp.where(seen, course.infection, NEVER),
        infection_grade=jnp.where(seen, course.infection_grade, 0),
        infection_days=jnp.where(seen, last, 0.0),
        infection_concurrent=course.infection_concurrent & seen,
    )


@partial(jax.jit, static_argnames=("structure_name", "steps", "follow_up", "record", "tumour_memory"))
def simulate_batch(
    theta,
    z,
    region,
    keys,
    plan: Plan,
    structure_name: str = "arrest",
    steps: int = 1,
    follow_up: FollowUp = "horizon",
    record: bool = False,
    realised: Realised | None = None,
    tumour_memory: bool = True,
):
    """Return ``simulate`` for many draws at once: ``theta`` leaves, ``z``, ``keys`` and ``realised`` have the draws first."""

    def one(theta, z, key, realised):
        return simulate(theta, z, region, key, plan, structure_name, steps, follow_up, record, realised, tumour_memory)

    return jax.vmap(one)(theta, z, keys, realised)


def simulate_trials(theta, z, region, keys, arm: Literal["mezikd", "kd"], design: Design) -> History:
    """Return the patients of one arm of the reported trial, many trials at once; its own regimen, rules and follow-up."""
    plan = plan_of(Scenario(regimen=design.regimen, arm=arm), design.horizon_weeks)
    return simulate_batch(
        theta, z, region, keys, plan, design.structure_name, design.steps_per_day, "trial",
        tumour_memory=design.tumour_memory,
    )  # fmt: skip
