"""Progression, death, treatment stop and follow-up (model.md, section 6), in weekly steps.

A patient is on treatment, off treatment with the tumour effect still there (it is lost after an exponential time with
mean 1/k_T), off without it, or progressed. Within a week every hazard is constant::

    h_prog = h0(t) frailty exp(-delta B_T(t))   with effect,   h0(t) frailty   without
    h_death = h_d + fatal share x severe infections            h_stop = other reasons

h0 is Weibull; B_T is the delivered tumour block, filtered over the memory 1/k_T and scaled to 1 for a typical patient on
full 1.0 mg 21/28.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .exposure import LN2, reference_tumour_block
from .probability import normal_cdf
from .regimen import DAYS_PER_MONTH

MONTH_DAYS = DAYS_PER_MONTH
WEEK_MONTHS = 7.0 / DAYS_PER_MONTH
REFERENCE_MONTHS = 6.0


class Hazards(NamedTuple):
    """Hazards per week, constant within it; per patient or for all."""

    on: Array
    """Progression with the tumour effect."""
    off: Array
    """Progression without it."""
    death: Array
    stop: Array
    effect_loss: Array | float
    death_after: Array


class States(NamedTuple):
    """Probability of each state, shape ``patients``."""

    on: Float[Array, "patients"]
    """On treatment, progression-free."""
    carried: Float[Array, "patients"]
    """Off treatment with the effect, progression-free."""
    off: Float[Array, "patients"]
    progressed: Float[Array, "patients"]
    """Alive after progression."""

    def free(self):
        """Return the probability of being progression-free."""
        return self.on + self.carried + self.off

    def alive(self):
        """Return the probability of being alive."""
        return self.free() + self.progressed


class Events(NamedTuple):
    """Probability of each event within the week, shape ``patients``."""

    progressed: Float[Array, "patients"]
    died_free: Float[Array, "patients"]
    """Death without progression."""
    died_after: Float[Array, "patients"]


def everyone_on(zero) -> States:
    """Return the state at randomisation."""
    return States(zero + 1.0, zero, zero, zero)


def advance(s: States, h: Hazards) -> tuple[States, Events]:
    """Return the states a week later and the events of the week; exits compete in proportion to their hazards."""

    def leave(p, *rates):
        total = sum(rates)
        share = -jnp.expm1(-total) / total
        return [p * r * share for r in rates]

    on_p, on_d, on_s = leave(s.on, h.on, h.death, h.stop)
    ca_p, ca_d, ca_l = leave(s.carried, h.on, h.death, h.effect_loss)
    off_p, off_d = leave(s.off, h.off, h.death)
    dead_after = s.progressed * -jnp.expm1(-h.death_after)
    progressed = on_p + ca_p + off_p
    states = States(
        s.on - on_p - on_d - on_s,
        s.carried - ca_p - ca_d - ca_l + on_s,
        s.off - off_p - off_d + ca_l,
        s.progressed - dead_after + progressed,
    )
    return states, Events(progressed, on_d + ca_d + off_d, dead_after)


def reference_effect(theta):
    """Return the tumour block of a typical patient on full 1.0 mg 21/28: what B_T is measured in."""
    k = LN2 / (theta["half_life_hours"] / 24.0)
    return reference_tumour_block(jnp.log(theta["ec50_tumour"]), theta["hill"], k)


def baseline_hazard(theta, weeks: int) -> Float[Array, "weeks"]:
    """Return the Weibull hazard of each week: cumulative hazard 6 h0 (t / 6 months)^k, differenced."""
    t = jnp.arange(1, weeks + 1) * (WEEK_MONTHS / REFERENCE_MONTHS)
    total = theta["progression_rate"] * REFERENCE_MONTHS * jnp.exp(theta["progression_shape"] * jnp.log(t))
    return jnp.diff(total, prepend=0.0)


def in_follow_up(theta, months):
    """Return the probability that data cutoff is later than ``months`` after randomisation (log-normal)."""
    z = (jnp.log(theta["followup_months"]) - jnp.log(jnp.maximum(months, 1e-6))) / theta["followup_sd"]
    return normal_cdf(z)


def median_time(times, log_survival):
    """Return the time at which a survival curve reaches one half; linear in log S between (and beyond) the times."""
    target = -LN2
    below = jax.lax.stop_gradient(log_survival) <= target
    i = jnp.clip(jnp.argmax(below), 1, None)
    i = jnp.where(below.any(), i, log_survival.shape[0] - 1)
    slope = (log_survival[i] - log_survival[i - 1]) / (times[i] - times[i - 1])
    return times[i - 1] + (target - log_survival[i - 1]) / slope


def cox_log_hazard_ratio(at_risk, events, shares, iterations: int = 6):
    """Return the root of the population score equation of a two-arm Cox model, arm 1 against arm 0.

    ``at_risk`` and ``events`` are per week and arm, shape ``(2, weeks)``: probabilities of being at risk at the week's
    start and of an observed event within it; ``shares`` the arms' shares of the patients. Newton's method; the
    last step carries the gradient, which makes it that of the implicit function.
    """
    n = at_risk * shares[:, None]
    d = (events * shares[:, None]).sum(axis=0)
    d1 = events[1].sum() * shares[1]

    def newton(beta, n, d, d1):
        w = n[1] * jnp.exp(beta)
        p = w / (w + n[0] + 1e-30)  # nobody is at risk in the last weeks of a short follow-up
        return beta + (d1 - (d * p).sum()) / (d * p * (1.0 - p)).sum()

    beta = jnp.zeros(())
    fixed = jax.lax.stop_gradient((n, d, d1))
    for _ in range(iterations):
        beta = newton(beta, *fixed)
    return newton(jax.lax.stop_gradient(beta), n, d, d1)
