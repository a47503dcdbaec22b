"""Constants of a daily step for a gradient by hand: read as they are, their cotangents summed lane by lane.

Most constants are the same for all patients. As scalars they cost a step nothing to read, but then its reverse pass would sum their
cotangents over all lanes every day. Here each lane has a sum of its own, added up once after the last day.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class ByLane(NamedTuple):
    """Constants of a step whose reverse pass is written by hand."""

    values: Any
    """What the step reads, in any shape that broadcasts over the lanes. No cotangent comes back to it."""
    own: Any
    """Those constants from which ``values`` are derived, ``lanes`` each: not read, but the step's cotangents are theirs."""


def by_lane(values: Any, lanes: int) -> ByLane:
    """Return ``values`` (with a method ``own``) for ``lanes`` lanes."""
    return ByLane(values, jax.tree.map(lambda x: jnp.broadcast_to(x, lanes), values.own()))


def summed(cotangents: Any, own: Any) -> Any:
    """Return cotangents, lanes on the last axis, added up to the shapes of ``own``."""

    def one(x, like):
        extra = jnp.ndim(x) - jnp.ndim(like)
        return jnp.broadcast_to(x.sum(axis=tuple(range(extra))) if extra > 0 else x, jnp.shape(like))

    return jax.tree.map(one, cotangents, own)
