"""Infections of each patient: severe and other ones, two Poisson processes given frailty, that come again.

Hazards as in infection.py. A process has an exponential amount of cumulative hazard to spend before its next infection;
within a week it can spend it once, so a second infection of one kind waits for the next week.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .chance import Chance
from .elementary import once
from .history import NEVER

MEDIAN_DAYS = (14.0, 8.0)
"""Median duration of severe and of other infections (an assumption: no number fitted or reported)."""
LOG_SD_DAYS = 0.6


class Infections(NamedTuple):
    """The infections of one week: severe, other."""

    day: Float[Array, "2 patients"]
    """Day of the infection; NEVER without one."""
    concurrent: Bool[Array, "2 patients"]
    """Whether a count on that day is below 1.0."""


def other_wait(ratio):
    """Return the mean wait for an infection that is not severe over that for a severe one.

    ``ratio`` is the rate of any-grade over severe infection.
    """
    return 1.0 / jnp.maximum(ratio - 1.0, 1e-12)


def first_budgets(luck: Chance, wait):
    """Return what each process has to spend, in cumulative hazard of severe infection, shape ``(2, patients)``."""
    return jnp.stack([luck.exponential(), luck.exponential() * wait])


def week(budget, hazard, below, now, wait, luck: Chance) -> tuple[Array, Infections]:
    """Return the budgets after a week, and its infections.

    ``hazard`` is that of severe infection on each day and ``below`` the probability of a count below 1.0, shape
    ``(7, patients)``; ``wait`` is ``other_wait``.
    """
    # A leftover of a week with two infections falls due at the start of this one.
    at = jnp.maximum(budget, 0.0)
    total, before, day_hazard, day, risk = jnp.zeros_like(hazard[0]), *jnp.zeros((4, *budget.shape))
    for j in range(7):
        today = at >= total
        before, day_hazard, day, risk = (
            jnp.where(today, now_j, x)
            for now_j, x in ((total, before), (hazard[j], day_hazard), (now + j, day), (below[j], risk))
        )
        total = total + hazard[j]
    before, day_hazard, day, risk, total = once((before, day_hazard, day, risk, total))
    hit = at <= total
    into = jnp.minimum((at - before) / jnp.maximum(day_hazard, 1e-300), 1.0)
    left = budget + jnp.where(hit, first_budgets(luck, wait), 0.0) - total
    concurrent = jnp.stack([luck.uniform(), luck.uniform()]) < risk
    day, left = once((jnp.where(hit, day + into, NEVER), left))
    return left, Infections(day, concurrent & (day < NEVER))


def grades(infections: Infections, is_first_severe, grade4, fatal, share4, luck: Chance) -> Int[Array, "2 patients"]:
    """Return the grade of each infection: 5, 4 or 3 where severe, else 2; 0 where none.

    ``grade4`` settles the first severe infection, later ones are of grade 4 with probability ``share4``; ``fatal`` is
    whether this week's severe infection is the patient's death.
    """
    later = luck.uniform() < share4
    severe = jnp.where(jnp.where(is_first_severe, grade4, later), 4, 3)
    severe = jnp.where(fatal, 5, severe)
    return jnp.where(infections.day < NEVER, jnp.stack([severe, jnp.full_like(severe, 2)]), 0)


def durations(infections: Infections, luck: Chance) -> Float[Array, "2 patients"]:
    """Return the duration of each infection, days; 0 where none."""
    days = jnp.stack([m * jnp.exp(LOG_SD_DAYS * luck.normal()) for m in MEDIAN_DAYS])
    return jnp.where(infections.day < NEVER, days, 0.0)
