"""Progression, death, treatment stop and follow-up (model.md, section 6), in weekly steps.

A patient is on treatment, off treatment with the tumour effect still there (it is lost after an exponential time with
mean 1/k_T), off without it, or progressed. Within a week every hazard is constant, and the states have closed forms, so
that all weeks are computed side by side::

    h_prog = h0(t) frailty exp(-delta B_T(t))   with effect,   h0(t) frailty   without
    h_death = h_d + fatal share x severe infections            h_stop = other reasons

h0 is Weibull; B_T is the delivered tumour block, filtered over the memory 1/k_T and scaled to 1 for a typical patient on
full 1.0 mg 21/28. Without memory (the structure "no_memory") B_T is the block of the week itself, and the effect ends with
treatment: the middle state is empty.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .exposure import LN2, reference_tumour_block
from .precision import by_dtype
from .probability import normal_cdf
from .regimen import DAYS_PER_MONTH

MONTH_DAYS = DAYS_PER_MONTH
WEEK_MONTHS = 7.0 / DAYS_PER_MONTH
REFERENCE_MONTHS = 6.0


class Hazards(NamedTuple):
    """Hazards per week, constant within it."""

    on: Float[Array, "weeks patients"]
    """Progression with the tumour effect."""
    off: Float[Array, "weeks patients"]
    """Progression without it."""
    death: Float[Array, "weeks patients"]
    """Death without progression."""
    stop: Float[Array, "arms"]
    effect_loss: Float[Array, ""] | None
    """Loss of the tumour effect after treatment, per week; None: it ends with treatment."""


class States(NamedTuple):
    """Probability of each progression-free state at the start of each week, and at the end of the last."""

    on: Float[Array, "weeks+1 patients"]
    """On treatment."""
    carried: Float[Array, "weeks+1 patients"]
    """Off treatment with the effect."""
    off: Float[Array, "weeks+1 patients"]

    def free(self):
        """Return the probability of being progression-free."""
        return self.on + self.carried + self.off


def states(h: Hazards, each: Callable = lambda of_arms: of_arms) -> States:
    """Return the probability of each state week by week, from everyone on treatment.

    ``each`` spreads what all patients of an arm share (last axis: arms) over the patients.
    Time on treatment and with the effect is exact: progression and death are the same with the effect, so the
    two states share exp(-H). The flow out of the effect is integrated over each week by Simpson's rule, the ratio of
    the two progression-free survivals by the trapezoid: second order.
    """
    on, off, death = (running_sum(x) for x in (h.on, h.off, h.death))
    week = jnp.arange(on.shape[0], dtype=on.dtype)[:, None]

    def carried(t):
        """P(stopped and still with the effect) but for progression and death: s (e^(-lt) - e^(-st)) / (s - l)."""
        if h.effect_loss is None:
            return jnp.zeros_like(t) * h.stop
        x = (h.stop - h.effect_loss) * t
        small = jnp.abs(x) < 1e-4
        x = jnp.where(small, 1e-4, x)
        ratio = jnp.where(small, 1.0, jnp.expm1(x) / x)
        return h.stop * t * jnp.exp(-h.stop * t) * ratio

    def leaving(t):
        """Rate at which the effect ends, but for progression and death."""
        return h.stop * jnp.exp(-h.stop * t) if h.effect_loss is None else h.effect_loss * carried(t)

    start = leaving(week)
    flow = each((start[:-1] + 4.0 * leaving(week[:-1] + 0.5) + start[1:]) / 6.0)
    gain = jnp.exp(jnp.minimum(off - on, by_dtype(on, *OVERFLOW)))
    shared = jnp.exp(-on - death)
    lost = running_sum(0.5 * flow * (gain[:-1] + gain[1:]))
    return States(shared * each(jnp.exp(-h.stop * week)), shared * each(carried(week)), jnp.exp(-off - death) * lost)


OVERFLOW = 300.0, 80.0
"""In double and single precision. Cumulative hazard beyond which nobody is left; keeps exp finite."""


def exits(free, death):
    """Return the probabilities of progression and of death without it in each week.

    ``free`` is the probability of being progression-free at the weeks' starts (one more than ``death``), ``death`` the
    hazard of death per week. Both exits compete within the week; second order.
    """
    kept = jnp.exp(-jnp.minimum(death, by_dtype(death, *OVERFLOW)))
    died = 0.5 * (1.0 - kept) * (free[:-1] + free[1:] / kept)
    return free[:-1] - free[1:] - died, died


def alive_after(progressed, death_after):
    """Return the probability of being alive after progression at the start of each week, and at the end of the last.

    ``progressed`` is the probability of progression in each week, on average at its middle; ``death_after`` the hazard of
    death per week from then on.
    """
    keep, half = jnp.exp(-death_after), jnp.exp(-0.5 * death_after)
    return recursion(half * progressed, keep)


@jax.custom_vjp
def recursion(x, keep):
    """Return y with y[0] = 0, y[i+1] = keep y[i] + x[i], along the first axis.

    ``keep`` is a number. In place, and so is the reverse pass: a scan would fill its result twice.
    """
    return _in_place(jnp.concatenate([jnp.zeros_like(x[:1]), x]), keep)


def _in_place(y, keep, reverse: bool = False):
    """Return ``y`` after each row in turn, the last first with ``reverse``, has gained ``keep`` times the one done before."""
    rows = y.shape[0]

    def step(i, now):
        y, last = now
        i = rows - 1 - i if reverse else i
        last = keep * last + jax.lax.dynamic_index_in_dim(y, i, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(y, last, i, 0), last

    return jax.lax.fori_loop(0, rows, step, (y, jnp.zeros_like(y[0])))[0]


def _recursion_forward(x, keep):
    y = recursion(x, keep)
    return y, (y, keep)


def _recursion_reverse(kept, gradient):
    y, keep = kept
    gradient = _in_place(gradient, keep, reverse=True)[1:]
    return gradient, (gradient * y[:-1]).sum()


recursion.defvjp(_recursion_forward, _recursion_reverse)


def running_sum(x):
    """Return the sums of the first 0, 1, ... rows of ``x``; ten times cheaper here than jnp.cumsum."""
    return recursion(x, 1.0)


def reference_effect(theta):
    """Return the tumour block of a typical patient on full 1.0 mg 21/28: what B_T is measured in."""
    k = LN2 / (theta["half_life_hours"] / 24.0)
    return reference_tumour_block(jnp.log(theta["ec50_tumour"]), theta["hill"], k)


def baseline_hazard(theta, weeks: int) -> Float[Array, "weeks"]:
    """Return the Weibull hazard of each week: cumulative hazard 6 h0 (t / 6 months)^k, differenced.

    With ``progression_bend`` b among the parameters (an alternative, for the sensitivity analysis) the shape goes from k - b
    early to k + b late: log H gains b (sqrt(1 + x^2) - 1), x = log(t / 6 months); |b| < k.
    """
    x = jnp.log(jnp.arange(1, weeks + 1) * (WEEK_MONTHS / REFERENCE_MONTHS))
    log_total = theta["progression_shape"] * x
    if "progression_bend" in theta:
        log_total = log_total + theta["progression_bend"] * (jnp.sqrt(1.0 + x * x) - 1.0)
    return jnp.diff(theta["progression_rate"] * REFERENCE_MONTHS * jnp.exp(log_total), prepend=0.0)


def in_follow_up(theta, months):
    """Return the probability that data cutoff is later than ``months`` after randomisation (log-normal).

    ``followup_linear`` s among the parameters (an alternative, for the sensitivity analysis) goes from log-normal, 0, to
    normal, 1, with the same median and coefficient of variation.
    """
    median, sd = theta["followup_months"], theta["followup_sd"]
    z = (jnp.log(median) - jnp.log(jnp.maximum(months, 1e-6))) / sd
    if "followup_linear" in theta:
        z = z + theta["followup_linear"] * ((1.0 - months / median) / sd - z)
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
