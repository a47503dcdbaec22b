"""Progression, death and end of treatment of each patient, week by week: one draw from competing hazards.

The same states and hazards as progression.py, with discrete events: within a week every hazard is constant, and at
most one event happens.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import progression
from .chance import Chance
from .elementary import once

TREATED, CARRIED, OFF, PROGRESSED, DEAD = range(5)
"""On treatment; off it with the tumour effect; off without; progressed; dead."""


class Hazards(NamedTuple):
    """Hazards per week that no week changes."""

    death: Float[Array, ""]
    """Without progression."""
    death_after: Float[Array, ""]
    """After it."""
    stop: Float[Array, ""]
    """End of treatment for other reasons."""
    effect_loss: Float[Array, ""]
    """Loss of the tumour effect after treatment."""
    memory: Float[Array, ""]
    """1: the tumour effect outlasts treatment; 0: it ends with it."""
    effect: Float[Array, ""]
    """delta over the reference effect: log hazard ratio per unit of tumour block."""


class Event(NamedTuple):
    """What happens to each patient within the week."""

    phase: Int[Array, "patients"]
    """At the week's end."""
    at: Float[Array, "patients"]
    """Day of the event."""
    progresses: Bool[Array, "patients"]
    dies: Bool[Array, "patients"]
    ends: Bool[Array, "patients"]
    """Treatment ends."""


def hazards(theta, stop_rate, memory=1.0) -> Hazards:
    """Return the weekly hazards; ``stop_rate`` is per month, ``memory`` 1 if the tumour effect has one, else 0."""
    weeks = progression.WEEK_MONTHS
    return Hazards(
        death=theta["death_rate"] * weeks,
        death_after=theta["post_progression_death"] * weeks,
        stop=stop_rate * weeks,
        effect_loss=7.0 / theta["tumour_memory_days"],
        memory=jnp.asarray(memory, float),
        effect=theta["tumour_effect"] / progression.reference_effect(theta),
    )


def week(phase, effect, base, killed, killed_at, now, h: Hazards, luck: Chance) -> Event:
    """Return the events of the week that begins on day ``now``.

    ``effect`` is the delivered tumour block, ``base`` the progression hazard without it (per week), ``killed`` marks a
    fatal infection on day ``killed_at``, which comes before anything else.
    """
    progressing = jnp.where(phase <= CARRIED, base * jnp.exp(-h.effect * effect), base)
    progressing = jnp.where(phase == PROGRESSED, 0.0, progressing)
    dying = jnp.where(phase == PROGRESSED, h.death_after, h.death)
    losing = jnp.where(phase == CARRIED, h.effect_loss, 0.0)
    leaving = jnp.where(phase == TREATED, h.stop, losing)
    onward = jnp.where(h.memory > 0.0, phase + 1, OFF)
    total = progressing + dying + leaving
    wait = luck.exponential() / total
    event = (wait < 1.0) & (phase < DEAD)
    which = luck.uniform() * total
    progresses = event & (which < progressing) & ~killed
    dies = (event & (which >= progressing) & (which < progressing + dying)) | killed
    moved = event | killed
    after = jnp.where(dies, DEAD, jnp.where(progresses, PROGRESSED, jnp.where(moved, onward, phase)))
    at = jnp.where(killed, killed_at, now + 7.0 * jnp.minimum(wait, 1.0))
    return Event(*once((after, at, progresses, dies, moved & (phase == TREATED))))
