"""G-CSF: when it is given, and how strong its effects are (their form in each structure: ``advance_supported``).

The effects come and go with a half-life of about a day: g' = ln 2 / t_G (given - g), and every multiplier is
s = 1 + (s - 1) g. No data exist on G-CSF against a maturation block, and none is fitted: predictions draw the strengths
from their prior, which is wide, and with policy ``none`` no result depends on them.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .exposure import LN2
from .history import NEVER
from .neutrophils import Support
from .parameters import SUPPORT, natural
from .plan import GcsfPlan


def support_draws(seed: int, draws: int) -> dict[str, np.ndarray]:
    """Return ``draws`` prior draws of the SUPPORT parameters, to be merged into the leaves of ``theta``."""
    z = np.random.default_rng([seed, 31]).standard_normal((draws, len(SUPPORT)))
    return natural(z, SUPPORT)


def support_medians() -> dict[str, np.ndarray]:
    """Return the prior medians of the SUPPORT parameters: what a theta without them stands for."""
    return {p.name: np.asarray(p.centre) for p in SUPPORT}


class Course(NamedTuple):
    """The reactive course of each patient."""

    begin: Float[Array, "patients"]
    """First day of the current or last course; -NEVER before the first."""
    strength: Float[Array, "patients"]
    """g: share of the full effect at the start of the day."""


def no_course(patients: int) -> Course:
    """Return the state before the first dose."""
    return Course(jnp.full(patients, -NEVER), jnp.zeros(patients))


def react(course: Course, today, trigger, allowed, plan: GcsfPlan) -> Course:
    """Return the state after the count of day ``today``: a trigger starts a course the next day, unless one runs."""
    free = course.begin + plan.course_days <= today + 1.0
    return course._replace(begin=jnp.where(plan.reactive & trigger & allowed & free, today + 1.0, course.begin))


def given(course: Course, day, primary, allowed, plan: GcsfPlan):
    """Return whether G-CSF is given on ``day``; ``primary`` is whether prophylaxis is planned."""
    running = (course.begin <= day) & (day < course.begin + plan.course_days)
    return (running | primary) & allowed


class Relaxation(NamedTuple):
    """What a day leaves of a difference between g and what is given."""

    end: Array
    """Share at the end of the day."""
    mean: Array
    """Share over the day."""


def relaxation(theta) -> Relaxation:
    """Return the shares; no day changes them."""
    rate = LN2 / theta["gcsf_half_life_days"]
    gone = -jnp.expm1(-rate)
    return Relaxation(1.0 - gone, gone / rate)


def relax(strength, on, left: Relaxation):
    """Return g a day later and its mean over the day; ``on`` is 1 where G-CSF is given that day."""
    return on + (strength - on) * left.end, on + (strength - on) * left.mean


def effects(strength, theta) -> Support:
    """Return the multipliers at share ``strength`` of the full effect."""
    return Support(
        production=1.0 + theta["gcsf_production"] * strength,
        transit=1.0 + theta["gcsf_transit"] * strength,
        egress=1.0 + theta["gcsf_egress"] * strength,
    )
