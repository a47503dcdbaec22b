"""One week of each exact patient: count, rules, days, infections, progression; and the short week of those off treatment.

A patient is a lane on the last axis, with parameters of their own: draws lie side by side (lanes.py).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from . import days, episodes, fate, gcsf, holds, infections, observation, progression, rules
from .batch import Form
from .chance import Chance, words_of
from .choice import Choice
from .course import start
from .elementary import log, once
from .history import NADIR_DAYS, NEVER, SEVERE, WINDOW_DAYS, History, Realised, Record
from .individuals import Individuals, individuals
from .outcomes import SAFETY_WEEKS
from .patients import Cohort
from .plan import Plan

_BEFORE_FIRST_DAY = 1 << 20
"""Counter of the random numbers drawn once per patient: beyond every week."""
_BEFORE_FATE = 10
"""Numbers that a week draws before those that settle progression and death."""
_SAFETY_DAYS = 7.0 * SAFETY_WEEKS
_OF_PATIENT = (
    "sigma_anc", "febrile_share", "hold_grade3", "reduce_after_hold", "infection_drug", "infection_neutropenia",
    "gcsf_half_life_days", "gcsf_production", "gcsf_transit", "gcsf_egress",
)  # fmt: skip
"""Population parameters that a week reads as they are."""


class Person(NamedTuple):
    """What no week changes. Shape ``patients``."""

    individual: Individuals
    theta: Any
    """Those of _OF_PATIENT."""
    hazards: fate.Hazards
    words: tuple[Array, Array]
    """Of the draw's key."""
    number: Array
    """Of the patient in the draw: with the key all there is to their luck."""
    draw: Int[Array, "patients"]
    """Column of Calendar."""
    policy_from: Float[Array, "patients"]
    """Day from which the G-CSF policy acts."""
    infection_rate: Float[Array, "patients"]
    """Severe infections a day, with frailty."""
    other_wait: Float[Array, "patients"]
    """infections.other_wait."""
    early_keep: Float[Array, "patients"]
    """Share of the early infections' excess kept over a day."""
    later_grade4: Float[Array, "patients"]
    """Share of grade 4 among severe infections after the first."""
    recheck: Float[Array, "patients"]
    """Probability of a count on a day of an episode."""
    intensity: Float[Array, "patients"]
    """Share of the prescribed dose that is taken."""
    keep: Float[Array, "patients"]
    """Share of the tumour effect kept over a week."""


class Calendar(NamedTuple):
    """What each week brings to all patients of a draw, whatever happened before; weeks first."""

    hazard: Float[Array, "weeks draws"]
    """Of progression without drug, per week."""
    early: Float[Array, "weeks draws"]
    """Excess of the early infections in the middle of the week's first day."""


class State(NamedTuple):
    """What a week changes."""

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


class Today(NamedTuple):
    """One week of the plan and of the calendar."""

    week: Any
    planned: Float[Array, "7"]
    visit: Bool[Array, ""]
    due: Bool[Array, ""]
    primary: Bool[Array, "7"]
    calendar: Calendar
    realised: Realised | None


def today(week, plan: Plan, calendar: Calendar, realised: Realised | None = None) -> Today:
    """Return a week, or all of them where ``week`` is a slice."""
    at = jax.tree.map(lambda x: jnp.asarray(x)[week], (plan.planned, plan.visit, plan.due, plan.gcsf.primary))
    return Today(week, *at, *jax.tree.map(lambda x: jnp.asarray(x)[week], (calendar, realised)))


def first_day(theta, z, region, key, draw, plan: Plan, form: Form, structure: Choice):
    """Return ``(person, state, calendar)`` of the patients of one draw before the first dose; arguments as in Batch."""
    weeks, n = plan.visit.shape[0], region.shape[0]
    theta = gcsf.support_medians() | dict(theta)
    ind = individuals(theta, Cohort(z, region, np.zeros(0)), structure)
    memory: Any = theta.get("tumour_memory", jnp.ones(()))

    def of_arm(name):
        return jnp.where(plan.drug, theta[f"{name}_mezikd"], theta[f"{name}_kd"])

    luck = Chance(key, _BEFORE_FIRST_DAY, n)
    cutoff_drawn = theta["followup_months"] * jnp.exp(theta["followup_sd"] * luck.normal()) * progression.MONTH_DAYS
    drop_out = luck.exponential() / of_arm("dropout") * progression.MONTH_DAYS
    if form.follow_up == "trial":
        cutoff, lost = jnp.minimum(cutoff_drawn, 7.0 * weeks), drop_out
    else:
        cutoff, lost = jnp.full(n, 7.0 * weeks), jnp.full(n, NEVER)
    variance = theta["infection_frailty_sd"] ** 2
    frailty = jax.random.gamma(jax.random.fold_in(key, 1), 1.0 / variance, (n,)) * variance
    wait = infections.other_wait(theta["infection_any_ratio"])
    grade4 = luck.uniform() < of_arm("infection_grade4")
    fatal = luck.uniform() < theta["infection_fatal"]
    untouched = jnp.exp(theta["other_reduction"] * jnp.log(ind.intensity))
    other_reduction = (luck.uniform() > untouched) & ~plan.fixed_rdi & plan.drug
    early = of_arm("infection_early") * jnp.exp(-(7.0 * jnp.arange(weeks) + 0.5) / theta["infection_early_days"])
    person = Person(
        ind, {k: theta[k] for k in _OF_PATIENT}, fate.hazards(theta, of_arm("stop_rate"), memory),
        words_of(key), jnp.arange(n, dtype=jnp.uint32), draw, jnp.asarray(cutoff_drawn - plan.gcsf.start_before_cutoff),
        frailty * ind.infection_rate, wait, jnp.exp(-1.0 / theta["infection_early_days"]), of_arm("infection_grade4"),
        observation.recheck_probability(theta["recheck_days"]), jnp.where(plan.fixed_rdi, plan.rdi, ind.intensity),
        memory * jnp.exp(-7.0 / theta["tumour_memory_days"]),
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
    state = State(
        start(ind, structure, (n,)), holds.start(n), gcsf.no_course(n), zero, jnp.zeros(n, int),
        infections.first_budgets(luck, wait), episodes.none(n), history,
    )  # fmt: skip
    person = jax.tree.map(lambda x: jnp.broadcast_to(x, n), person)
    return person, state, Calendar(progression.baseline_hazard(theta, weeks), early)


def _first(day_of, happened, now):
    return jnp.where(happened & (day_of >= NEVER), now, day_of)


def _safety_end(h: History):
    """Return the day from which nothing of treatment is collected."""
    return jnp.minimum(h.stop + _SAFETY_DAYS, h.cutoff)


def needs_days(person: Person, s: State, week):
    """Return whose ANC and infections matter from ``week`` on: on treatment, up to 28 days after, or in an episode."""
    now = 7.0 * week
    on = (s.phase == fate.TREATED) & (now < s.history.cutoff)
    return on | (now < _safety_end(s.history)) | (s.episode.begin < NEVER)


def _settled(person: Person, s: State, effect, killed, severe_at, x: Today, luck: Chance) -> fate.Event:
    base = x.calendar.hazard[person.draw] * person.individual.progression_frailty
    return fate.week(s.phase, effect, base, killed, severe_at, 7.0 * x.week, person.hazards, luck)


def without_days(person: Person, s: State, x: Today) -> State:
    """Return the state a week later of patients who need no days: progression and death alone."""
    luck = Chance(person.words, x.week, person.number, drawn=_BEFORE_FATE)
    event = _settled(person, s, s.effect, jnp.zeros_like(s.phase, bool), NEVER, x, luck)
    return s._replace(phase=event.phase, history=_with_event(s.history, event))


def _with_event(h: History, event: fate.Event) -> History:
    stop = _first(h.stop, event.ends, event.at)
    return h._replace(
        progression=_first(h.progression, event.progresses, event.at),
        death=_first(h.death, event.dies, event.at),
        stop=stop,
        drug_stop=jnp.minimum(h.drug_stop, stop),
    )


def with_days(person: Person, s: State, x: Today, plan: Plan, model: days.Model, form: Form):
    """Return the state a week later and with ``form.record`` the week's Record, else None."""
    ind, theta, now = person.individual, person.theta, 7.0 * x.week
    h, sigma = s.history, theta["sigma_anc"]
    luck = Chance(person.words, x.week, person.number)
    on = (s.phase == fate.TREATED) & (now < h.cutoff)
    latent = ind.log_anc0 + log(model.structure.blood(s.drug[2], ind.marrow))
    count = latent + sigma * luck.normal()
    unscheduled = on & s.dosing.held & ~x.visit
    seen = (on & x.visit) | unscheduled
    starts = on & x.visit & (count < rules.LOG_GRADE3) & (s.episode.begin >= NEVER)
    febrile = starts & (luck.uniform() < theta["febrile_share"])
    on, seen, starts, febrile = once((on, seen, starts, febrile))
    episode = episodes.begin(s.episode, starts, now, luck.uniform())
    # Drawn also where the ledger is given, so that the numbers after them stay the same.
    counted, dosing = holds.Counted(count, luck.uniform(), luck.uniform(), febrile), s.dosing
    if x.realised is None:
        chances = theta["hold_grade3"], theta["reduce_after_hold"]
        dosing = holds.advance(s.dosing, now, counted, x.due, plan.holds, plan.lowest, *chances)
        trigger = (seen & (count < rules.LOG_GRADE4)) | febrile
        course = gcsf.react(s.course, now, trigger, on & (now + 1.0 >= person.policy_from), plan.gcsf)
        factor = jnp.asarray(plan.factors)[dosing.level]
        doses = x.planned[:, None] * (person.intensity * factor * (on & ~dosing.held & ~dosing.ended))
        day = now + jnp.arange(7.0)[:, None]
        supported = gcsf.given(course, day, x.primary[:, None], on & (day >= person.policy_from), plan.gcsf) * 1.0
    else:
        course, doses, supported = s.course, x.realised.dose, x.realised.gcsf

    week = days.week(model, plan.mode, s.drug, s.course.strength, doses, supported, form.gcsf)
    log_anc = week.log_anc
    excess, early = x.calendar.early[person.draw], []
    for _ in range(7):
        early.append(1.0 + excess)
        excess = excess * person.early_keep
    hazard = person.infection_rate * jnp.stack(early) * week.infection
    budget, infected = infections.week(s.budget, hazard, week.below, now, person.other_wait, luck)
    episode, end = episodes.week(episode, week.below, now, person.recheck)

    effect = jnp.where(on, week.tumour_block + (s.effect - week.tumour_block) * person.keep, s.effect)
    safety_end = _safety_end(h)
    infected = infected._replace(day=jnp.where(infected.day <= safety_end, infected.day, NEVER))
    severe_at, is_first = infected.day[SEVERE], h.severe >= NEVER
    killed = (h.fatal > 0.5) & is_first & (severe_at < safety_end) & (s.phase < fate.PROGRESSED)
    if luck.drawn != _BEFORE_FATE:
        raise RuntimeError(f"the short week leaves out {_BEFORE_FATE} numbers, this one drew {luck.drawn}")
    event = _settled(person, s, effect, killed, severe_at, x, luck)
    collected = now < safety_end
    in_window = collected & (now < WINDOW_DAYS)
    lowest = jnp.where(collected, log_anc.min(axis=0), NEVER)
    begins = on & (dosing.holds > s.dosing.holds)
    h = _with_event(h._replace(drug_stop=_first(h.drug_stop, on & dosing.ended, now)), event)
    # The drug ends within the week: what the rest of the week would have brought is neither given nor planned.
    dosed = now + jnp.arange(7.0)[:, None] < jnp.minimum(h.drug_stop, h.cutoff)
    h = h._replace(
        given=h.given + (doses * dosed).sum(axis=0),
        planned=h.planned + (x.planned[:, None] * dosed).sum(axis=0),
        first_grade2=_first(h.first_grade2, on & x.visit & (count < observation.LOG_GRADE2), now),
        first_grade3=_first(h.first_grade3, on & x.visit & (count < rules.LOG_GRADE3), now),
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
        anc_day28=jnp.where(x.week == 3, log_anc[6], h.anc_day28),
        days_below_1=h.days_below_1 + in_window * (log_anc < rules.LOG_GRADE3).sum(axis=0),
        days_below_half=h.days_below_half + in_window * (log_anc < rules.LOG_GRADE4).sum(axis=0),
        days_counted=h.days_counted + 7.0 * in_window,
        gcsf_days=h.gcsf_days + supported.sum(axis=0),
    )
    course = course._replace(strength=week.strength)
    state = State(week.state, dosing, course, effect, event.phase, budget, episode, h)
    if not form.record:
        return state, None
    grade = infections.grades(infected, is_first, h.grade4 > 0.5, killed, person.later_grade4, luck)
    return state, Record(
        anc=jnp.exp(log_anc), arrest=week.arrest, dose=doses, gcsf=supported, on=on,
        count=jnp.where(seen, jnp.exp(count), jnp.nan), unscheduled=unscheduled, held=dosing.held & on,
        level=dosing.level, episode_start=starts, febrile=febrile, episode_end=end.day, infection=infected.day,
        infection_grade=grade, infection_days=infections.durations(infected, luck),
        infection_concurrent=infected.concurrent & (infected.day < NEVER),
    )  # fmt: skip
