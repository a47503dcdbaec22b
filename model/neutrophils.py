"""Neutrophils under a reversible maturation arrest with a marrow reserve (after Abbiati 2021, AAPS J 23:103).

Pools relative to their baseline, rates per day (model.md, section 3)::

    kel = ln 2 / t_circ     F0 = kel + kd rho     V = (F0 + kd)(K + 1)     phi(T2) = V (1 - A) T2 / (K + T2)
    P'  = (F0 + 3 kd) P [(1/T2)^gamma - 1]          proliferating
    T1' = (F0 + 3 kd)(P - T1)                       maturing
    T2' = (F0 + 2 kd) T1 - phi(T2) - kd T2          arrested here
    T3' = phi(T2) - (F0 + kd) T3                    maturing
    M'  = F0 T3 - kd (M - C) - kel C                mature: reserve + blood
    theta C^2 - (M + b) C + M b = 0, b = (1 + rho - theta)/rho,   smaller root;   ANC = ANC0 C

Integration: chain.py.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .by_lane import ByLane
from .chain import WEIGHT, Chain, Marrow, Prepared, advanced, prepare
from .chain_adjoint import advanced_by_hand
from .elementary import log
from .relaxation import TR_SHARE

LN2 = 0.6931471805599453


def baseline(marrow: Marrow, shape: tuple[int, ...]) -> Chain:
    """Return the steady state without drug: every pool 1, the mature pool 1 + rho."""
    one = jnp.ones(shape)
    return Chain(jnp.zeros(shape), one, one, one, (1.0 + marrow.reserve) * one, one)


def blood(chain: Chain, marrow: Marrow):
    """Return C = ANC / ANC0, the smooth minimum of what the mature pool holds and what blood takes."""
    return chain.blood


def mean_over_step(block):
    """Return the mean block over a step, given itself or the pair of means that ``step`` takes."""
    if not isinstance(block, tuple):
        return block
    first, second = block
    return TR_SHARE * first + (1.0 - TR_SHARE) * second


def advance(chain: Chain, arrest, first, second, c: Prepared | ByLane) -> Chain:
    """Return the chain a step later; ``first`` and ``second`` are the pair of means of ``step``."""
    if isinstance(c, ByLane):
        return advanced_by_hand(chain, arrest, first, second, *c)
    return advanced(chain, arrest, first, second, c)[0]


class Support(NamedTuple):
    """What G-CSF multiplies; 1 without it; fields broadcast over patients."""

    production: Float[Array, "*#patients"]
    """s_P: cells that enter maturation."""
    transit: Float[Array, "*#patients"]
    """s_T: rate of maturation."""
    egress: Float[Array, "*#patients"]
    """s_E: level up to which the reserve fills the blood."""


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
    out, _ = advanced(
        chain._replace(log_p=chain.log_p + shift + c.r1 * call, blood=blood_now), arrest, first, second,
        replace(
            c, marrow=m._replace(saturation=m.saturation * gain), feed=f0 + 2.0 * m.k_death, drain=drain, f0=f0,
            v=drain * (m.saturation + 1.0) * gain, b=b, keep_g=jnp.exp(-TR_SHARE * r1), keep_1=jnp.exp(-r1),
            over_drain=1.0 / (1.0 + WEIGHT * h * drain),
        ),
    )  # fmt: skip
    return out._replace(log_p=out.log_p - shift)


def step(chain: Chain, arrest, block, k_ikaros, marrow: Marrow, h: float) -> Chain:
    """Return the chain ``h`` days later.

    ``arrest`` is A at the start of the step, ``k_ikaros`` the resynthesis rate of Ikaros (1/day). ``block``
    is the mean of the block B over the step, or a pair: its means over the first ``TR_SHARE`` of the step and
    over the rest. A relaxes to each mean in turn (relaxation.py); each stage sees the mean of A over its
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
