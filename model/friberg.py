"""The Friberg-Karlsson kill model (2002, J Clin Oncol 20:4713): the comparator to the arrest model.

Pools relative to their baseline, rates per day, k = 4 / mean transit time::

    P'  = k P [(1 - E) (1/C)^gamma - 1]      proliferating; the drug kills (E, the block), blood feeds back
    Ti' = k (T(i-1) - Ti), i = 1, 2, 3       transit, T0 = P
    C'  = k (T3 - C)                         blood;   ANC = ANC0 C

Integration: half a step of log P with C frozen, an exact step of the transit chain driven by a straight line
through P, half a step of log P with the new C. Second order; the line is positive, so are all pools.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .elementary import log
from .neutrophils import Support, mean_over_step


class Marrow(NamedTuple):
    """Constants of each patient's marrow; every field broadcasts over patients."""

    k_transit: Float[Array, "*#patients"]
    """Rate of each of the four transitions, 1/day: 4 / mean transit time."""
    feedback: Float[Array, "*#patients"]
    """gamma: exponent of the feedback of blood on proliferation."""


class Chain(NamedTuple):
    """State of the chain, relative to baseline, shape ``patients``."""

    log_p: Float[Array, "*patients"]
    """Log of the proliferating pool."""
    t1: Float[Array, "*patients"]
    t2: Float[Array, "*patients"]
    t3: Float[Array, "*patients"]
    blood: Float[Array, "*patients"]
    """C: ANC / ANC0."""


def rates(theta, maturation) -> Marrow:
    """Return the patients' rate constants from population parameters; ``maturation`` scales transit."""
    return Marrow(
        k_transit=4.0 / (theta["mean_transit_hours"] / 24.0) * maturation,
        feedback=theta["kill_feedback"],
    )


def baseline(marrow: Marrow, shape: tuple[int, ...]) -> Chain:
    """Return the steady state without drug: every pool 1."""
    one = jnp.ones(shape)
    return Chain(jnp.zeros(shape), one, one, one, one)


def blood(chain: Chain, marrow: Marrow):
    """Return C = ANC / ANC0."""
    return chain.blood


def prepare(marrow: Marrow, k_ikaros, h: float) -> tuple[Marrow, float]:
    """Return the constants of steps of ``h`` days."""
    return marrow, h


def advance(chain: Chain, arrest, first, second, c: tuple[Marrow, float]) -> Chain:
    """Return the chain a step later; arguments as in ``neutrophils.advance``."""
    marrow, h = c
    return step(chain, arrest, (first, second), 0.0, marrow, h)


def advance_supported(chain: Chain, arrest, first, second, c: tuple[Marrow, float], support: Support) -> Chain:
    """Return the chain a step later under G-CSF: s_P times the cells enter transit, whose rate is s_T k.

    The chain has one rate, so blood turns over at s_T k too and settles at s_P without drug. The feedback on P stands for
    endogenous G-CSF, to which the given one adds: it becomes (s_P/C)^gamma, 1 at that level.
    """
    marrow, h = c
    return step(chain, arrest, (first, second), 0.0, marrow, h, support)


def step(chain: Chain, arrest, block, k_ikaros, marrow: Marrow, h: float, support: Support | None = None) -> Chain:
    """Return the chain ``h`` days later.

    ``block`` is the kill E: its mean over the step, or the pair of means of ``neutrophils.step``. ``arrest``
    and ``k_ikaros`` belong to the interface and are not used: the kill follows the drug without delay.
    Second order in h, positive for every step. ``support``: as in ``advance_supported``.
    """
    x = marrow.k_transit * h
    first, second = block if isinstance(block, tuple) else (block, block)
    open_ = 1.0 - mean_over_step(block)

    def feedback(blood):
        return jnp.exp(-marrow.feedback * log(blood if support is None else blood / support.production))

    call = feedback(chain.blood)
    half = 0.5 * x * (open_ * call - 1.0)
    middle = chain.log_p + half
    # The line has the mean and the rise of P over the step. For an exponential P the mean is sinh(half)/half
    # of its middle, the rise 2 half of its mean (bounded here: the line must stay positive). A kill that
    # falls from ``first`` to ``second`` makes log P sag within the step, by k h (1/C)^gamma / 6 of that fall.
    sag = x * call * (first - second) / 6.0
    mean = jnp.exp(middle - sag) * (1.0 + half * half / 6.0 * (1.0 + half * half / 20.0))
    y = x
    if support is not None:
        mean, y = mean * support.production, x * support.transit
    rise = 2.0 * jnp.tanh(half) * mean
    # Behind a line each pool lags the one before by 1/k; deviations d decay as e^-x sum_j x^j/j! d_(i-j).
    before, after, lag = mean - 0.5 * rise, mean + 0.5 * rise, rise / y
    d1, d2 = chain.t1 - before + lag, chain.t2 - before + 2.0 * lag
    d3, d4 = chain.t3 - before + 3.0 * lag, chain.blood - before + 4.0 * lag
    w0 = jnp.exp(-y)
    w1, w2, w3 = w0 * y, w0 * y**2 / 2.0, w0 * y**3 / 6.0
    c = after - 4.0 * lag + w0 * d4 + w1 * d3 + w2 * d2 + w3 * d1
    return Chain(
        log_p=middle + 0.5 * x * (open_ * feedback(c) - 1.0),
        t1=after - lag + w0 * d1,
        t2=after - 2.0 * lag + w0 * d2 + w1 * d1,
        t3=after - 3.0 * lag + w0 * d3 + w1 * d2 + w2 * d1,
        blood=c,
    )
