"""Episodes of grade >= 3 neutropenia of each patient: from a scheduled count below 1.0 to the first one of at least 1.0.

Counts are repeated within an episode (observation.EpisodeWeights has the mean-field version): after RECHECK_DELAY_DAYS a
count is made on any day with a fitted probability.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .elementary import once
from .history import NEVER
from .parameters import RECHECK_DELAY_DAYS


class Episode(NamedTuple):
    """The current episode of each patient."""

    begin: Float[Array, "patients"]
    """Day on which it began; NEVER outside one."""
    spent: Float[Array, "patients"]
    """Uniform number over the probability that the episode is still on: it ends when this passes 1."""


class End(NamedTuple):
    """How an episode ended within a week; NEVER where none did."""

    day: Float[Array, "patients"]
    duration: Float[Array, "patients"]
    """Days from its first count below 1.0."""


def none(patients: int) -> Episode:
    """Return the state before the first dose."""
    return Episode(jnp.full(patients, NEVER), jnp.ones(patients))


def begin(episode: Episode, starts, today, luck) -> Episode:
    """Return the state with the episodes that start ``today``; ``luck`` is uniform."""
    return Episode(jnp.where(starts, today, episode.begin), jnp.where(starts, luck, episode.spent))


def week(episode: Episode, below: Float[Array, "7 patients"], now, recheck) -> tuple[Episode, End]:
    """Return the state after the week that begins on day ``now``, and the end of the episode in it.

    ``below`` is the probability of a count below 1.0 on each day, ``recheck`` that of a count on a day.
    """
    start, spent = episode
    day, on = jnp.full_like(start, NEVER), jnp.ones_like(start)
    for j in range(7):
        may_end = now + j - start > RECHECK_DELAY_DAYS
        on = jnp.where(may_end, on * (1.0 - recheck * (1.0 - below[j])), on)
        # The first such day: an episode that has ended stays so.
        day = jnp.where(may_end & (spent >= on) & (day >= NEVER), now + j, day)
    on, day = once((on, day))
    ends = day < NEVER
    duration = jnp.where(ends, day - start, NEVER)
    return Episode(jnp.where(ends, NEVER, start), spent / on), End(day, duration)
