"""Reverse pass of one step of the maturation chain (chain.py), by hand.

Its equations are the transposed derivatives of those of the scheme. What several results need is computed once
(elementary.once), and constants that a step derives from others get no cotangents of their own: those of F0 and kd hold
them. Left to itself XLA computes the slopes of every guard again wherever they are needed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .by_lane import summed
from .chain import EARLIER, LATER, ROOT_2, WEIGHT, Chain, Own, Prepared, Stage, advanced, least
from .elementary import log, once
from .relaxation import TR_SHARE


@jax.custom_vjp
def advanced_by_hand(chain: Chain, arrest, first, second, c: Prepared, own: Own) -> Chain:
    """Return ``chain.advanced``, the chain alone; ``c`` and ``own`` as in by_lane.ByLane."""
    return advanced(chain, arrest, first, second, c)[0]


def _forward(chain: Chain, arrest, first, second, c: Prepared, own: Own):
    after, inner = advanced(chain, arrest, first, second, c)
    return after, (chain, arrest, first, second, c, own, inner)


class _Back(NamedTuple):
    """Cotangents of a stage: of its equations of blood and of T2, of its right sides, of T3 and of the diagonal's M."""

    blood: Array
    t2: Array
    r2: Array
    r3: Array
    rm: Array
    t3: Array
    mature: Array
    share: Array
    """T2 / (K + T2)."""


def _slope(y, s: float):
    """Return the derivative of ``chain.guard`` where its value is ``y``: 1 above s, (y / s)^2 below."""
    return jnp.minimum(y * (1.0 / s), 1.0) ** 2


def _back_of_stage(x: Stage, open_, c: Prepared, t2, t3, mature, blood) -> _Back:
    """Return the cotangents within a stage, given those of its results; ``blood`` None: nobody reads that one."""
    kc, kd, _, ksat, _, theta = c.marrow
    w, s, p = WEIGHT * c.h, least(c.h), c.decay
    q, e = w * (kc - kd), c.over_decay * mature
    slope = 1.0 / ((p + q) * c.b + x.rm - 2.0 * (p * theta + q) * x.blood)
    of_blood = once(slope * (-q * e if blood is None else blood - q * e))
    rm = once(_slope(x.rm, s) * (e + of_blood * (c.b - x.blood)))
    t3 = once(t3 + w * c.f0 * rm)
    r3 = once(_slope(x.t3 * (1.0 + w * c.drain), s) * c.over_drain * t3)
    share = once(x.t2 / (ksat + x.t2))
    of_t2 = once((t2 - p * r3) / (p + w * c.v * open_ * (1.0 - share) ** 2 / ksat))
    r2 = once(_slope(x.r2, s) * (r3 + of_t2))
    return _Back(of_blood, of_t2, r2, r3, rm, t3, e, share)


def _backward(kept, after: Chain):
    chain, arrest, first, second, c, own, inner = kept
    kc, kd, _, ksat, gamma, theta = c.marrow
    w, x, y = WEIGHT * c.h, inner.first, inner.second
    q = w * (kc - kd)
    two = _back_of_stage(y, inner.open_1, c, after.t2, after.t3, after.mature, after.blood)
    one = _back_of_stage(x, inner.open_g, c, LATER * two.r2, LATER * two.r3, LATER * two.rm, None)
    phi = w * (one.r3 - one.r2)
    share = once(chain.t2 / (ksat + chain.t2))
    bend = (1.0 - share) ** 2 / ksat
    # Arrest: A reaches the chain through 1 - A of both stages.
    open_1 = once(_slope(inner.open_1, least(c.h)) * (-w * c.v * two.share * two.t2))
    open_g = once((1.0 - ROOT_2) * open_1 - w * c.v * one.share * one.t2 + phi * c.v * share)
    arrest_g, mean_1 = -ROOT_2 * open_1 * (1.0 - c.mean_1), -ROOT_2 * open_1
    # Maturation and proliferation.
    t1_g, t1_1 = w * c.feed * one.r2, after.t1 + w * c.feed * two.r2
    log_p = once(after.log_p + inner.pool * (t1_g * (1.0 - c.keep_g) + t1_1 * (1.0 - c.keep_1)))
    of_call = c.r1 * log_p * inner.call
    before = Chain(
        log_p=log_p,
        t1=t1_g * (1.0 + c.keep_g) + t1_1 * c.keep_1,
        t2=one.r2 * (1.0 - w * kd) - EARLIER * two.r2 + phi * c.v * inner.open_g * bend - gamma * of_call / chain.t2,
        t3=one.r3 * (1.0 - w * c.drain) + w * c.f0 * one.rm - EARLIER * two.r3,
        mature=one.rm * (1.0 - w * kd) - EARLIER * two.rm,
        blood=-q * one.rm,
    )
    # Constants: first the derived ones, then those that they come from.
    level = chain.t1 - inner.pool
    r1 = (inner.call - 1.0) * log_p - level * (TR_SHARE * c.keep_g * t1_g + c.keep_1 * t1_1)
    feed = w * (inner.t1_1 * two.r2 + (inner.t1_g + chain.t1) * one.r2)
    drain = -w * (c.over_drain * (y.t3 * two.t3 + x.t3 * one.t3) + chain.t3 * one.r3)

    def both(f):
        return f(y, two, inner.open_1) + f(x, one, inner.open_g)

    diagonal = both(
        lambda at, b, _: b.blood * (theta * at.blood - c.b) * at.blood - at.mature * b.mature - at.t2 * (b.r3 + b.t2)
    )
    of_q = both(lambda at, b, _: at.blood * (b.blood * (at.blood - c.b) - b.mature))
    k_circ = w * (of_q - chain.blood * one.rm)
    saturation = w * both(lambda at, b, open_: open_ * b.share * (1.0 - b.share) * b.t2)
    rise = first - arrest
    found = Own(
        k_circ=k_circ,
        k_death=2.0 * feed
        + drain
        + 3.0 * c.h * r1
        + w * (diagonal - chain.t2 * one.r2 - chain.mature * one.rm)
        - k_circ,
        f0=w * (y.t3 * two.rm + (x.t3 + chain.t3) * one.rm) + drain + feed + c.h * r1,
        v=phi * inner.open_g * share - w * both(lambda at, b, open_: open_ * b.share * b.t2),
        b=both(lambda at, b, _: b.blood * (at.rm - (c.decay + q) * at.blood)),
        saturation=c.v / ksat * (saturation - phi * inner.open_g * share * (1.0 - share)),
        feedback=-of_call * log(chain.t2),
        theta=c.decay * both(lambda at, b, _: b.blood * at.blood**2),
        k_ikaros=rise * (arrest_g * c.h * TR_SHARE * (1.0 - c.gone_g) - open_g * c.of_mean_g)
        + mean_1 * (second - arrest - rise * c.gone_g) * c.of_mean_1,
    )
    of_arrest = arrest_g * (1.0 - c.gone_g) - (1.0 - c.mean_g) * open_g
    of_first = arrest_g * c.gone_g - c.mean_g * open_g
    return before, of_arrest, of_first, mean_1 * c.mean_1, None, summed(found, own)


advanced_by_hand.defvjp(_forward, _backward)
