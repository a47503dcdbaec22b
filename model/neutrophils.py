"""Neutrophils under a reversible maturation arrest with a marrow reserve (after Abbiati 2021, AAPS J 23:103).

Pools relative to their baseline, rates per day (model.md, section 3)::

    kel = ln 2 / t_circ     F0 = kel + kd rho     V = (F0 + kd)(K + 1)     phi(T2) = V (1 - A) T2 / (K + T2)
    P'  = (F0 + 3 kd) P [(1/T2)^gamma - 1]          proliferating
    T1' = (F0 + 3 kd)(P - T1)                       maturing
    T2' = (F0 + 2 kd) T1 - phi(T2) - kd T2          arrested here
    T3' = phi(T2) - (F0 + kd) T3                    maturing
    M'  = F0 T3 - kd (M - C) - kel C                mature: reserve + blood
    theta C^2 - (M + b) C + M b = 0, b = (1 + rho - theta)/rho,   smaller root;   ANC = ANC0 C

Integration: P leapfrogs (it only feels T2 through a power of about 0.01), T1 and the arrest A are exact, and
T2 -> T3 -> M take TR-BDF2 stages whose implicit equations are solved in closed form (a quadratic for T2, one
for C). What that costs and earns against other schemes: tests/benchmarks/work_precision.csv.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .elementary import log, once

LN2 = 0.6931471805599453
TR_SHARE = 2.0 - 2.0**0.5
"""Share of a step taken by the trapezoidal stage of TR-BDF2 (Bank 1985); it makes the scheme L-stable."""
WEIGHT = 0.5 * TR_SHARE
"""Weight, in steps, of the rates at the end of either stage: with this share both stages have the same."""


class Marrow(NamedTuple):
    """Rate constants of each patient's marrow; every field broadcasts over patients."""

    k_circ: Float[Array, "*#patients"]
    """Elimination of neutrophils from blood, 1/day."""
    k_death: Float[Array, "*#patients"]
    """Death of maturing cells, 1/day."""
    reserve: Float[Array, "*#patients"]
    """rho: reserve over blood at baseline."""
    saturation: Float[Array, "*#patients"]
    """K: Michaelis constant of the arrested step, relative to the baseline pool."""
    feedback: Float[Array, "*#patients"]
    """gamma: exponent of the feedback of T2 on proliferation."""
    theta: Float[Array, "*#patients"]
    """Sharpness of the smooth minimum that splits reserve and blood."""


class Chain(NamedTuple):
    """State of the chain, relative to baseline, shape ``patients``."""

    log_p: Float[Array, "*patients"]
    """Log of the proliferating pool half a step behind the others (leapfrog)."""
    t1: Float[Array, "*patients"]
    t2: Float[Array, "*patients"]
    t3: Float[Array, "*patients"]
    mature: Float[Array, "*patients"]
    """M: reserve plus blood; 1 + rho at baseline."""
    blood: Float[Array, "*patients"]
    """C = ANC/ANC0, the smooth minimum at M: every implicit stage solves for it anyway."""


def baseline(marrow: Marrow, shape: tuple[int, ...]) -> Chain:
    """Return the steady state without drug: every pool 1, the mature pool 1 + rho."""
    one = jnp.ones(shape)
    return Chain(jnp.zeros(shape), one, one, one, (1.0 + marrow.reserve) * one, one)


def _guard(x, h: float):
    """Return ``x``, or a small positive number where it is not: a stage may dip below zero, a pool may not.

    Identity above 1e-3 h^2, so nothing is added to a healthy pool and the order is kept; once differentiable.
    """
    s = 1e-3 * h * h
    return jnp.where(x > s, x, s * s / (2.0 * s - jnp.minimum(x, s)))


def blood(chain: Chain, marrow: Marrow):
    """Return C = ANC / ANC0, the smooth minimum of what the mature pool holds and what blood takes."""
    return chain.blood


@jax.custom_jvp
def _solve_t2(rhs, v, k_sat, decay):
    """Positive root y of decay y + v y / (K + y) = rhs."""
    p = decay * k_sat + v - rhs
    return 2.0 * rhs * k_sat / (p + jnp.sqrt(p * p + 4.0 * decay * rhs * k_sat))


@_solve_t2.defjvp
def _(primals, tangents):
    # Implicit differentiation: fewer operations in the reverse pass than through the root.
    y = _solve_t2(*primals)
    _, v, k_sat, decay = primals
    d_rhs, d_v, d_k, d_decay = tangents
    share = y / (k_sat + y)
    flow = v * share / (k_sat + y)
    slope = 1.0 / (decay + v * k_sat / (k_sat + y) ** 2)
    return y, slope * (d_rhs - share * d_v + flow * d_k - y * d_decay)


@jax.custom_jvp
def _solve_blood(rhs, p, s, theta, b):
    """C with p M + s C = rhs and C the smooth minimum at M: smaller root of (p theta + s) C^2 - q C + rhs b = 0."""
    q = (p + s) * b + rhs
    return 2.0 * rhs * b / (q + jnp.sqrt(q * q - 4.0 * (p * theta + s) * rhs * b))


@_solve_blood.defjvp
def _(primals, tangents):
    c = _solve_blood(*primals)
    rhs, p, s, theta, b = primals
    d_rhs, d_p, d_s, d_theta, d_b = tangents
    slope = 1.0 / ((p + s) * b + rhs - 2.0 * (p * theta + s) * c)
    cc = c * c
    change = (b - c) * d_rhs + (theta * cc - b * c) * d_p + (cc - b * c) * d_s
    change = change + p * cc * d_theta + (rhs - (p + s) * c) * d_b
    return c, slope * change


def _solve_mature(rhs, p, s, theta, b, over_p):
    """Return (M, C) with p M + s C = rhs and C the smooth minimum at M; ``over_p`` is 1/p."""
    c = _solve_blood(rhs, p, s, theta, b)
    return (rhs - s * c) * over_p, c


def mean_over_step(block):
    """Return the mean block over a step, given itself or the pair of means that ``step`` takes."""
    if not isinstance(block, tuple):
        return block
    first, second = block
    return TR_SHARE * first + (1.0 - TR_SHARE) * second


def _relax(start, level, kt):
    """Return the end value and the mean of a relaxation from ``start`` to ``level``; kt is rate x time."""
    gone = -jnp.expm1(-kt)
    return start + (level - start) * gone, level + (start - level) * gone / kt


def arrest_after(arrest, block, k_ikaros, h: float):
    """Return the arrest A after a step of ``h`` days; arguments as in ``step``."""
    first, second = block if isinstance(block, tuple) else (block, block)
    arrest = _relax(arrest, first, k_ikaros * (TR_SHARE * h))[0]
    return _relax(arrest, second, k_ikaros * ((1.0 - TR_SHARE) * h))[0]


class Support(NamedTuple):
    """What G-CSF multiplies; 1 without it; fields broadcast over patients."""

    production: Float[Array, "*#patients"]
    """s_P: cells that enter maturation."""
    transit: Float[Array, "*#patients"]
    """s_T: rate of maturation."""
    egress: Float[Array, "*#patients"]
    """s_E: level up to which the reserve fills the blood."""


class Prepared(NamedTuple):
    """What a step needs and no step changes: computed once outside the scan; fields broadcast over patients."""

    marrow: Marrow
    r1: Array
    """F0 + 3 kd, times h."""
    feed: Array
    """F0 + 2 kd."""
    drain: Array
    """F0 + kd."""
    f0: Array
    v: Array
    b: Array
    keep_g: Array
    """Share of a deviation of T1 left at the end of the first stage."""
    keep_1: Array
    gone_g: Array
    """1 - exp(-k_I t) of the first stage, of the rest; and their means over the stage."""
    gone_1: Array
    mean_g: Array
    mean_1: Array
    decay: Array
    """Diagonal of both implicit stages: 1 + w kd; its inverse; and the inverse of that of T3, 1 + w drain."""
    over_decay: Array
    over_drain: Array
    h: float


def prepare(marrow: Marrow, k_ikaros, h: float) -> Prepared:
    """Return the constants of steps of ``h`` days."""
    kc, kd, rho, ksat, _, theta = marrow
    f0 = kc + kd * rho
    r1 = (f0 + 3.0 * kd) * h
    gone_g, mean_g = _relaxed(k_ikaros * TR_SHARE * h)
    gone_1, mean_1 = _relaxed(k_ikaros * (1.0 - TR_SHARE) * h)
    decay = 1.0 + WEIGHT * h * kd
    return Prepared(
        marrow, r1, f0 + 2.0 * kd, f0 + kd, f0, (f0 + kd) * (ksat + 1.0), (1.0 + rho - theta) / rho,
        jnp.exp(-TR_SHARE * r1), jnp.exp(-r1), gone_g, gone_1, mean_g, mean_1, decay, 1.0 / decay,
        1.0 / (1.0 + WEIGHT * h * (f0 + kd)), h,
    )  # fmt: skip


def _relaxed(kt):
    """Return the share of a step towards a level that is made after rate x time kt, and its mean over that time."""
    gone = -jnp.expm1(-kt)
    return gone, 1.0 - gone / kt


def advance(chain: Chain, arrest, first, second, c: Prepared) -> Chain:
    """Return the chain a step later; ``first`` and ``second`` are the pair of means of ``step``."""
    kc, kd, _, ksat, gamma, theta = c.marrow
    h, g, v, feed = c.h, TR_SHARE, c.v, c.feed
    log_p = chain.log_p + c.r1 * (jnp.exp(-gamma * log(chain.t2)) - 1.0)
    pool = once(jnp.exp(log_p))
    t1_g = pool + (chain.t1 - pool) * c.keep_g
    t1_1 = pool + (chain.t1 - pool) * c.keep_1
    arrest_g = arrest + (first - arrest) * c.gone_g
    open_g = 1.0 - arrest - (first - arrest) * c.mean_g
    # The last stage stands at the end of the step: this value makes the two stages' quadrature of A exact.
    mean_1 = arrest_g + (second - arrest_g) * c.mean_1
    t1_g, t1_1, open_g = once((t1_g, t1_1, open_g))
    open_1 = once(_guard(open_g + 2.0**0.5 * (1.0 - open_g - mean_1), h))

    w = WEIGHT * h

    def implicit(r2, r3, rm, t1, open_):
        r2 = once(_guard(r2 + w * feed * t1, h))
        t2 = once(_solve_t2(r2, w * v * open_, ksat, c.decay))
        t3 = once(_guard(r3 + (r2 - c.decay * t2), h) * c.over_drain)  # r2 - decay t2 = w phi(t2)
        rm = once(_guard(rm + w * c.f0 * t3, h))
        mature, blood = once(_solve_mature(rm, c.decay, w * (kc - kd), theta, c.b, c.over_decay))
        return t2, t3, mature, blood

    phi = once(v * open_g * chain.t2 / (ksat + chain.t2))
    x2, x3, xm, _ = implicit(
        chain.t2 + w * (feed * chain.t1 - phi - kd * chain.t2),
        chain.t3 + w * (phi - c.drain * chain.t3),
        chain.mature + w * (c.f0 * chain.t3 - kd * chain.mature - (kc - kd) * chain.blood),
        t1_g, open_g,
    )  # fmt: skip
    e1, e0 = 1.0 / (g * (2.0 - g)), (1.0 - g) ** 2 / (g * (2.0 - g))
    ends = implicit(e1 * x2 - e0 * chain.t2, e1 * x3 - e0 * chain.t3, e1 * xm - e0 * chain.mature, t1_1, open_1)
    return Chain(log_p, t1_1, *ends)


def advance_supported(chain: Chain, arrest, first, second, c: Prepared, support: Support) -> Chain:
    """Return the chain a step later under G-CSF (an assumption: no data exist against a maturation block).

    Transit: F0 becomes s_T F0 in every maturing pool. Production: s_P times the cells enter, so that without drug the
    maturing pools settle at s_P/s_T and the marrow releases s_P times as much; the arrested step keeps its shape
    relative to that pool (V and K times s_P/s_T) and its block: 1 - A still multiplies it. Egress: blood is filled up
    to s_E times its baseline while the reserve lasts (b becomes s_E b). The feedback on P is shifted to that pool, so it
    stands still there. With s = 1 this is ``advance``.
    """
    m, h = c.marrow, c.h
    f0, gain = c.f0 * support.transit, support.production / support.transit
    r1, drain, b = (f0 + 3.0 * m.k_death) * h, f0 + m.k_death, c.b * support.egress
    # P itself turns over as before: more cells come of each. A shifted log P enters T1 alone.
    shift = log(gain)
    call = (jnp.exp(m.feedback * shift) - 1.0) * jnp.exp(-m.feedback * log(chain.t2))
    q = chain.mature + b
    blood_now = 2.0 * chain.mature * b / (q + jnp.sqrt(q * q - 4.0 * m.theta * chain.mature * b))
    out = advance(
        chain._replace(log_p=chain.log_p + shift + c.r1 * call, blood=blood_now), arrest, first, second,
        c._replace(
            marrow=m._replace(saturation=m.saturation * gain), feed=f0 + 2.0 * m.k_death, drain=drain, f0=f0,
            v=drain * (m.saturation + 1.0) * gain, b=b, keep_g=jnp.exp(-TR_SHARE * r1), keep_1=jnp.exp(-r1),
            over_drain=1.0 / (1.0 + WEIGHT * h * drain),
        ),
    )  # fmt: skip
    return out._replace(log_p=out.log_p - shift)


def step(chain: Chain, arrest, block, k_ikaros, marrow: Marrow, h: float) -> Chain:
    """Return the chain ``h`` days later.

    ``arrest`` is A at the start of the step, ``k_ikaros`` the resynthesis rate of Ikaros (1/day). ``block``
    is the mean of the block B over the step, or a pair: its means over the first ``TR_SHARE`` of the step and
    over the rest. A relaxes to each mean in turn (``arrest_after``); each stage sees the mean of A over its
    share. The pair matters with steps of a day, in which the drug comes and goes: it halves the error
    (tests/benchmarks/work_precision.csv). Second order in h, positive for every step.
    """
    first, second = block if isinstance(block, tuple) else (block, block)
    return advance(chain, arrest, first, second, prepare(marrow, k_ikaros, h))


def rates(theta, maturation) -> Marrow:
    """Return the patients' rate constants from population parameters; ``maturation`` scales every rate."""
    return Marrow(
        k_circ=LN2 / (theta["blood_half_life_hours"] / 24.0) * maturation,
        k_death=theta["cell_death"],
        reserve=theta["reserve_ratio"],
        saturation=theta["saturation"],
        feedback=theta["feedback"],
        theta=theta["theta"],
    )
