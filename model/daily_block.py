"""The block over the steps of a day, and that of the tumour effect: means in closed form (model.md, section 2).

With p = (a/EC50)^n, which decays at the rate n k, the mean of Emax p/(1 + p) over a time t is
Emax/(n k t) ln[(1 + p)/(1 + p e^(-n k t))]; so is the tumour's of p' = p (EC50/EC50_T)^n without Emax.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .by_lane import ByLane, summed
from .elementary import log, log_ratio, once
from .precision import by_dtype
from .relaxation import stages

UNDERFLOW = 1e-100, 1e-30
"""In double and single precision. Keeps the logarithm of an amount that months without a dose have brought to zero finite, and its gradient."""


class Own(NamedTuple):
    """What the others are derived from."""

    hill: Array
    nk: Array
    """n k, 1/day: rate at which p decays."""
    emax: Array
    tumour: Array
    """Turns p into that of the tumour effect."""


class DailyBlock(NamedTuple):
    """What the block over a day needs and no day changes; fields broadcast over patients."""

    hill: Array
    nk: Array
    emax: Array
    tumour: Array
    shrink_g: Array
    """Share of p left after the first stage of a step; after the whole step; after a day."""
    shrink_1: Array
    shrink_day: Array
    scale_g: Array
    """Emax over n k times the length of the stage."""
    scale_1: Array

    def own(self) -> Own:
        """Return what the others are derived from."""
        return Own(self.hill, self.nk, self.emax, self.tumour)


def daily_block(hill, k, emax, log_potency_ratio, h: float) -> DailyBlock:
    """Return the constants of a day of steps of ``h`` days; other arguments as in exposure.Block and individuals.Individuals."""
    nk, (first, second) = hill * k, stages(h)
    return DailyBlock(
        hill, nk, emax, jnp.exp(hill * log_potency_ratio), jnp.exp(-nk * first), jnp.exp(-nk * (first + second)),
        jnp.exp(-nk), emax / (nk * first), emax / (nk * second),
    )  # fmt: skip


Means = tuple[tuple[Array, Array], ...]
"""Of both stages of each step."""


def blocks_of_day(amount, c: DailyBlock | ByLane, steps: int) -> tuple[Array, Means]:
    """Return the day mean of the tumour block, and the mean block over both stages of each of ``steps`` steps.

    ``amount`` is that after the day's dose, over EC50. With ``steps`` 0 the tumour block alone.
    """
    if isinstance(c, ByLane):
        return _by_hand(steps)(amount, *c)
    return _blocks(amount, c, steps)


def _blocks(amount, c: DailyBlock, steps: int) -> tuple[Array, Means]:
    power, found = _power(amount, c), []
    tumour = power * c.tumour
    mean = log_ratio(1.0 + tumour, 1.0 + tumour * c.shrink_day) / c.nk
    for _ in range(steps):
        power_g, power_1 = power * c.shrink_g, power * c.shrink_1
        first = c.scale_g * log_ratio(1.0 + power, 1.0 + power_g)
        second = c.scale_1 * log_ratio(1.0 + power_g, 1.0 + power_1)
        found.append((first, second))
        power = power_1
    return mean, tuple(found)


def _log(amount):
    return log(amount + by_dtype(amount, *UNDERFLOW))


def _power(amount, c: DailyBlock):
    return once(jnp.exp(c.hill * _log(amount)))


@cache
def _by_hand(steps: int):
    """Return ``_blocks`` of ``steps`` steps with a reverse pass by hand."""

    def forward(amount, c: DailyBlock, own: Own):
        found = _blocks(amount, c, steps)
        return found, (amount, c, own, found)

    def backward(kept, cotangents):
        amount, c, own, (mean, means) = kept
        of_mean, of_means = cotangents
        (first, second), power = stages(1.0 / max(steps, 1)), _power(amount, c)
        tumour = power * c.tumour
        of_mean = once(of_mean / c.nk)
        end = once(1.0 / (1.0 + tumour * c.shrink_day))
        slope = once(of_mean * (1.0 - c.shrink_day) * end / (1.0 + tumour))
        of_power = slope * c.tumour
        nk, emax = of_mean * (tumour * c.shrink_day * end - mean), jnp.zeros_like(power)
        shrunk, p = 1.0, power
        for i in range(steps):
            (b, d), (of_b, of_d) = means[i], of_means[i]
            p_g, p_1 = p * c.shrink_g, p * c.shrink_1
            at_g, at_1 = once(1.0 / (1.0 + p_g)), once(1.0 / (1.0 + p_1))
            x, y = once(of_b * c.scale_g), once(of_d * c.scale_1)
            # 1/(1 + p) - s/(1 + s p) = (1 - s)/((1 + p)(1 + s p))
            of_p = once(at_g * (x * (1.0 - c.shrink_g) / (1.0 + p) + y * (c.shrink_g - c.shrink_1) * at_1))
            stage_g, stage_1 = p_g * at_g, p_1 * at_1
            nk += first * stage_g * (x - y) + (first + second) * stage_1 * y - (of_b * b + of_d * d) / c.nk
            emax += (of_b * b + of_d * d) / c.emax
            if i:
                nk -= i * (first + second) * p * of_p
            of_power += shrunk * of_p
            shrunk, p = shrunk * c.shrink_1, p_1
        of_log = once(of_power * power)
        of_amount = of_log * c.hill / (amount + by_dtype(amount, *UNDERFLOW))
        found = Own(of_log * _log(amount), nk, emax, slope * power)
        return of_amount, None, summed(found, own)

    f = jax.custom_vjp(lambda amount, c, own: _blocks(amount, c, steps))
    f.defvjp(forward, backward)
    return f
