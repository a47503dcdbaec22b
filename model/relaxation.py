"""The arrest A relaxes towards the block B at the rate of Ikaros' resynthesis: exact over each stage of a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .by_lane import ByLane, summed
from .elementary import once

TR_SHARE = 2.0 - 2.0**0.5
"""Share of a step taken by the trapezoidal stage of TR-BDF2 (Bank 1985); it makes the scheme L-stable."""


def stages(h: float) -> tuple[float, float]:
    """Return the lengths of both stages of a step of ``h`` days."""
    return TR_SHARE * h, (1.0 - TR_SHARE) * h


def relaxed(kt):
    """Return the share of a step towards a level that is made after rate x time kt, and its mean over that time."""
    gone = -jnp.expm1(-kt)
    return gone, 1.0 - gone / kt


class Relaxation(NamedTuple):
    """What the arrest needs over a step and no step changes; fields broadcast over patients."""

    keep_g: Array
    """Share of the arrest left after each stage without block."""
    keep_1: Array
    of_keep_g: Array
    """Their derivatives with respect to the rate."""
    of_keep_1: Array
    k_ikaros: Array

    def own(self) -> Array:
        """Return what the others are derived from."""
        return self.k_ikaros


def relaxation(k_ikaros, h: float) -> Relaxation:
    """Return the constants of steps of ``h`` days."""
    first, second = stages(h)
    keep_g, keep_1 = jnp.exp(-k_ikaros * first), jnp.exp(-k_ikaros * second)
    return Relaxation(keep_g, keep_1, -first * keep_g, -second * keep_1, k_ikaros)


def arrest_later(arrest, first, second, c: Relaxation | ByLane):
    """Return the arrest a step later, ``first`` and ``second`` being the mean blocks of its stages."""
    return _by_hand(arrest, first, second, *c) if isinstance(c, ByLane) else _later(arrest, first, second, c)


def _later(arrest, first, second, c: Relaxation):
    arrest = first + (arrest - first) * c.keep_g
    return second + (arrest - second) * c.keep_1


@jax.custom_vjp
def _by_hand(arrest, first, second, c: Relaxation, own):
    return _later(arrest, first, second, c)


def _forward(arrest, first, second, c: Relaxation, own):
    return _later(arrest, first, second, c), (arrest, first, second, c, own)


def _backward(kept, after):
    arrest, first, second, c, own = kept
    middle = first + (arrest - first) * c.keep_g
    of_middle = once(after * c.keep_1)
    of_rate = of_middle * (arrest - first) * c.of_keep_g + after * (middle - second) * c.of_keep_1
    return of_middle * c.keep_g, of_middle * (1.0 - c.keep_g), after * (1.0 - c.keep_1), None, summed(of_rate, own)


_by_hand.defvjp(_forward, _backward)
