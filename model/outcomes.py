"""What happens to each patient week by week, jointly: treatment, progression, infection, neutropenia, holds.

One scan over weeks for the patients of both arms side by side. Per patient it keeps probabilities; what leaves it are
means over arm x region (``groups``), so that nothing large is stored. Times enter as events per week.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import infection, progression
from .progression import Hazards, States


class Weekly(NamedTuple):
    """What the scan reads of each week."""

    base_hazard: Float[Array, "weeks"]
    """Progression hazard per week before frailty and effect."""
    early: Float[Array, "weeks patients"]
    """Early factor of the infection hazard."""
    follow_up: Float[Array, "weeks"]
    """P(data cutoff later than the week's start)."""
    follow_up_middle: Float[Array, "weeks"]
    follow_up_next: Float[Array, "weeks"]
    lost: Float[Array, "weeks patients"]
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
    stop: Float[Array, "patients"]
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
    progressed: Float[Array, "weeks groups"]
    """Progression within the week, observed."""
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


class _State(NamedTuple):
    states: States
    effect: Array
    recent: Array
    """On treatment at the start of each of the last SAFETY_WEEKS weeks, oldest first."""
    severe: Array
    concurrent: Array
    """Cumulative hazards of infection."""
    no_severe: Array
    no_any: Array
    no_concurrent: Array
    """Probability of no such infection so far."""
    no_grade3: Array
    no_hold: Array


SAFETY_WEEKS = 4
"""Adverse events are collected until 28 days after the last dose."""


def tally(weekly: Weekly, person: Person, theta, groups: Callable) -> tuple[Tally, PerPatient]:
    """Return the weekly means of each group, and what is kept of each patient.

    ``groups`` averages the last axis, patients, within each group.
    """
    keep = jnp.exp(-7.0 / theta["tumour_memory_days"])
    reference = progression.reference_effect(theta)
    frailty, ratio = theta["infection_frailty_sd"] ** 2, theta["infection_any_ratio"]

    @partial(jax.checkpoint, prevent_cse=False)
    def week(s: _State, x: Weekly):
        on, free, alive = s.states.on, s.states.free(), s.states.alive()
        effect = x.tumour_block + (s.effect - x.tumour_block) * keep
        base = x.base_hazard * person.progression_frailty
        rate = person.infection_rate * x.early
        severe_rate = rate * x.infection
        states, events = progression.advance(
            s.states,
            Hazards(
                on=base * jnp.exp(-theta["tumour_effect"] * effect / reference),
                off=base,
                death=theta["death_rate"] * progression.WEEK_MONTHS + theta["infection_fatal"] * severe_rate,
                stop=person.stop,
                effect_loss=7.0 / theta["tumour_memory_days"],
                death_after=theta["post_progression_death"] * progression.WEEK_MONTHS,
            ),
        )
        exposed = s.recent[0] * x.follow_up_middle

        severe, concurrent = s.severe + severe_rate, s.concurrent + ratio * rate * x.infection_concurrent
        no_severe = infection.no_event(severe, frailty)
        no_any = infection.no_event(ratio * severe, frailty)
        no_concurrent = infection.no_event(concurrent, frailty)

        seen = on * x.follow_up
        grade3_now = s.no_grade3 * x.grade3 * seen
        held_now = s.no_hold * x.hold * seen
        ends = seen - states.on * x.follow_up_next
        lost = x.lost * x.follow_up_middle
        died = events.died_free + events.died_after
        out = Tally(
            treated=on,
            free=free,
            alive=alive,
            pfs_at_risk=free * x.lost * x.follow_up,
            pfs_events=(events.progressed + events.died_free) * lost,
            progressed=events.progressed * lost,
            deaths=died * x.follow_up_middle,
            severe=(s.no_severe - no_severe) * exposed,
            any_infection=(s.no_any - no_any) * exposed,
            concurrent=(s.no_concurrent - no_concurrent) * exposed,
            neutropenia=grade3_now,
            held=held_now,
            reduced=ends * (1.0 - x.full_level * person.untouched),
        )
        recent = jnp.concatenate([s.recent[1:], states.on[None]])
        state = _State(
            states, effect, recent, severe, concurrent, no_severe, no_any, no_concurrent,
            s.no_grade3 * (1.0 - x.grade3), s.no_hold * (1.0 - x.hold),
        )  # fmt: skip
        return state, (out, ends)

    zero = jnp.zeros_like(person.untouched)
    start = _State(
        progression.everyone_on(zero), zero, jnp.ones((SAFETY_WEEKS + 1, *zero.shape)), zero, zero, *[zero + 1.0] * 5
    )  # fmt: skip
    each, ends = jax.lax.scan(week, start, weekly)[1]
    # Means outside the scan: inside it they would be a dozen small reductions a week.
    return jax.tree.map(groups, each), PerPatient(ends, each.neutropenia)
