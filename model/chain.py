"""One step of the maturation chain (neutrophils.py has its equations): the scheme and what it needs.

P leapfrogs (it only feels T2 through a power of about 0.01), T1 and the arrest A are exact, and T2 -> T3 -> M take
TR-BDF2 stages whose implicit equations are solved in closed form (a quadratic for T2, one for C). What that costs and
earns against other schemes: tests/benchmarks/work_precision.csv. Its reverse pass: chain_adjoint.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .elementary import log, once
from .relaxation import TR_SHARE, relaxed, stages

WEIGHT = 0.5 * TR_SHARE
"""Weight, in steps, of the rates at the end of either stage: with this share both stages have the same."""
ROOT_2 = 2.0**0.5
LATER, EARLIER = 1.0 / (TR_SHARE * (2.0 - TR_SHARE)), (1.0 - TR_SHARE) ** 2 / (TR_SHARE * (2.0 - TR_SHARE))
"""What the second stage takes of the first one's end and, subtracted, of the step's beginning."""


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


def least(h: float) -> float:
    """Return the value of a pool below which ``guard`` changes it."""
    return 1e-3 * h * h


def guard(x, h: float):
    """Return ``x``, or a small positive number where it is not: a stage may dip below zero, a pool may not.

    Identity above ``least``, so nothing is added to a healthy pool and the order is kept; once differentiable.
    """
    s = least(h)
    return jnp.where(x > s, x, s * s / (2.0 * s - jnp.minimum(x, s)))


def _solve_t2(rhs, v, k_sat, decay):
    """Positive root y of decay y + v y / (K + y) = rhs."""
    p = decay * k_sat + v - rhs
    return 2.0 * rhs * k_sat / (p + jnp.sqrt(p * p + 4.0 * decay * rhs * k_sat))


def _solve_mature(rhs, p, s, theta, b, over_p):
    """Return (M, C) with p M + s C = rhs and C the smooth minimum at M; ``over_p`` is 1/p.

    C is the smaller root of (p theta + s) C^2 - q C + rhs b = 0.
    """
    q = (p + s) * b + rhs
    c = 2.0 * rhs * b / (q + jnp.sqrt(q * q - 4.0 * (p * theta + s) * rhs * b))
    return (rhs - s * c) * over_p, c


class Own(NamedTuple):
    """Constants from which the others are derived, and the parameters that a step reads itself."""

    k_circ: Array
    k_death: Array
    f0: Array
    v: Array
    b: Array
    saturation: Array
    feedback: Array
    theta: Array
    k_ikaros: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "marrow", "r1", "feed", "drain", "f0", "v", "b", "keep_g", "keep_1", "gone_g", "mean_g", "mean_1", "of_mean_g", "of_mean_1", "decay", "over_decay",
        "over_drain", "k_ikaros",
    ],
    meta_fields=["h"],
)  # fmt: skip
@dataclass(frozen=True)
class Prepared:
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
    """1 - exp(-k_I t) of the first stage, and its mean over that stage and over the rest."""
    mean_g: Array
    mean_1: Array
    of_mean_g: Array
    """Derivatives of the two means with respect to k_I."""
    of_mean_1: Array
    decay: Array
    """Diagonal of both implicit stages: 1 + w kd; its inverse; and the inverse of that of T3, 1 + w drain."""
    over_decay: Array
    over_drain: Array
    k_ikaros: Array
    h: float

    def own(self) -> Own:
        """Return what the others are derived from."""
        m = self.marrow
        return Own(m.k_circ, m.k_death, self.f0, self.v, self.b, m.saturation, m.feedback, m.theta, self.k_ikaros)


def prepare(marrow: Marrow, k_ikaros, h: float) -> Prepared:
    """Return the constants of steps of ``h`` days."""
    kc, kd, rho, ksat, _, theta = marrow
    f0 = kc + kd * rho
    r1 = (f0 + 3.0 * kd) * h
    (gone_g, mean_g), (gone_1, mean_1) = (relaxed(k_ikaros * t) for t in stages(h))
    decay = 1.0 + WEIGHT * h * kd
    return Prepared(
        marrow, r1, f0 + 2.0 * kd, f0 + kd, f0, (f0 + kd) * (ksat + 1.0), (1.0 + rho - theta) / rho,
        jnp.exp(-TR_SHARE * r1), jnp.exp(-r1), gone_g, mean_g, mean_1,
        (gone_g - mean_g) / k_ikaros, (gone_1 - mean_1) / k_ikaros, decay, 1.0 / decay,
        1.0 / (1.0 + WEIGHT * h * (f0 + kd)), k_ikaros, h,
    )  # fmt: skip


class Stage(NamedTuple):
    """An implicit stage of a step: right sides after their guards, and what solves them."""

    r2: Array
    t2: Array
    t3: Array
    rm: Array
    mature: Array
    blood: Array


class Inner(NamedTuple):
    """What a step computes on its way."""

    call: Array
    """T2^-gamma."""
    pool: Array
    """P half a step later."""
    t1_g: Array
    """T1 at the end of the first stage; of the step."""
    t1_1: Array
    open_g: Array
    """1 - A of both stages."""
    open_1: Array
    first: Stage
    second: Stage


def advanced(chain: Chain, arrest, first, second, c: Prepared) -> tuple[Chain, Inner]:
    """Return the chain a step later, and what led there; arguments as in ``neutrophils.advance``."""
    kc, kd, _, ksat, gamma, theta = c.marrow
    h, v, feed = c.h, c.v, c.feed
    call = once(jnp.exp(-gamma * log(chain.t2)))
    log_p = chain.log_p + c.r1 * (call - 1.0)
    pool = once(jnp.exp(log_p))
    t1_g = pool + (chain.t1 - pool) * c.keep_g
    t1_1 = pool + (chain.t1 - pool) * c.keep_1
    arrest_g = arrest + (first - arrest) * c.gone_g
    open_g = 1.0 - arrest - (first - arrest) * c.mean_g
    # The last stage stands at the end of the step: this value makes the two stages' quadrature of A exact.
    mean_1 = arrest_g + (second - arrest_g) * c.mean_1
    t1_g, t1_1, open_g = once((t1_g, t1_1, open_g))
    open_1 = once(guard(open_g + ROOT_2 * (1.0 - open_g - mean_1), h))

    w = WEIGHT * h

    def implicit(r2, r3, rm, t1, open_):
        r2 = once(guard(r2 + w * feed * t1, h))
        t2 = once(_solve_t2(r2, w * v * open_, ksat, c.decay))
        t3 = once(guard(r3 + (r2 - c.decay * t2), h) * c.over_drain)  # r2 - decay t2 = w phi(t2)
        rm = once(guard(rm + w * c.f0 * t3, h))
        mature, blood = once(_solve_mature(rm, c.decay, w * (kc - kd), theta, c.b, c.over_decay))
        return Stage(r2, t2, t3, rm, mature, blood)

    phi = once(v * open_g * chain.t2 / (ksat + chain.t2))
    x = implicit(
        chain.t2 + w * (feed * chain.t1 - phi - kd * chain.t2),
        chain.t3 + w * (phi - c.drain * chain.t3),
        chain.mature + w * (c.f0 * chain.t3 - kd * chain.mature - (kc - kd) * chain.blood),
        t1_g, open_g,
    )  # fmt: skip
    ends = implicit(
        LATER * x.t2 - EARLIER * chain.t2, LATER * x.t3 - EARLIER * chain.t3, LATER * x.mature - EARLIER * chain.mature,
        t1_1, open_1,
    )  # fmt: skip
    after = Chain(log_p, t1_1, ends.t2, ends.t3, ends.mature, ends.blood)
    return after, Inner(call, pool, t1_g, t1_1, open_g, open_1, x, ends)
