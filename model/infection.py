"""Infection: cause-specific hazard of severe (grade >= 3) infection per day, first event (model.md, section 5)::

    h(t) = alpha_region frailty_i [1 + e0_arm exp(-t/tau)] exp(b_m A(t) + b_n D(t))

D(t) is how far log ANC lies below log 1.0, smoothed over SOFTNESS log units. The frailty is gamma with mean 1, so the
probability of no event is (1 + v H)^(-1/v). Any-grade infections come at c_any times the rate; those that meet a count
below 1.0 on their day are concurrent with neutropenia.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .elementary import log, once
from .rules import LOG_GRADE3

SOFTNESS = 0.25


class Intensity(NamedTuple):
    """Drug and neutropenia part of the hazard, summed over the seven days of a week; 7 without drug at high ANC."""

    total: Float[Array, "*patients"]
    concurrent: Float[Array, "*patients"]
    """The part that falls on counts below 1.0."""


def below_one(log_anc):
    """Return D: log(1.0 / ANC) where ANC is well below 1.0, 0 well above; softplus of width SOFTNESS."""
    x = (LOG_GRADE3 - log_anc) / SOFTNESS
    return once(SOFTNESS * (jnp.maximum(x, 0.0) + log(1.0 + jnp.exp(-jnp.abs(x)))))


def daily_ratio(log_anc, arrest, theta):
    """Return exp(b_m A + b_n D), the hazard ratio against no drug and no neutropenia."""
    return once(jnp.exp(theta["infection_drug"] * arrest + theta["infection_neutropenia"] * below_one(log_anc)))


def intensity(log_anc, arrest, neutropenic, theta) -> Intensity:
    """Return the sums over a week.

    ``log_anc``, ``arrest`` and ``neutropenic`` (probability of a count below 1.0) per day, shape ``(7, ..., patients)``.
    """
    ratio = daily_ratio(log_anc, arrest, theta)
    return Intensity(ratio.sum(axis=0), (ratio * neutropenic).sum(axis=0))


def early_factor(theta, arm: str, weeks: int) -> Float[Array, "weeks"]:
    """Return the mean of 1 + e0 exp(-t/tau) over each week; the excess e0 is the arm's own."""
    tau = theta["infection_early_days"]
    t = 7.0 * jnp.arange(weeks)
    return 1.0 + theta[f"infection_early_{arm}"] * tau / 7.0 * jnp.exp(-t / tau) * -jnp.expm1(-7.0 / tau)


def no_event(cumulative, variance):
    """Return (1 + v H)^(-1/v): the probability of no event at cumulative hazard H, gamma frailty of variance v."""
    return once(jnp.exp(-log(1.0 + variance * cumulative) / variance))
