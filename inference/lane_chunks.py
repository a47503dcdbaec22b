"""A function of each lane, chunk by chunk: what is kept of a chunk's lanes for their gradient never leaves the caches.

A lane's value depends on nothing of other lanes, so its gradient needs no reverse pass through all of them at the end: it is
computed with the value, while the chunk is at hand, and only multiplied later. Nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AT_ONCE = 256
"""Lanes of a chunk, at most."""


def by_chunks(function: Callable[[Any, Any], jax.Array], lanes: Any, fixed: Any) -> jax.Array:
    """Return ``function(lanes, fixed)``, one value a lane; with more than AT_ONCE lanes some at a time.

    Both arguments are trees of arrays with lanes on the last axis. Gradients are those of ``lanes`` alone, in reverse mode.
    """
    n = jax.tree.leaves(lanes)[0].shape[-1]
    chunks = -(-n // AT_ONCE)
    if chunks == 1:
        return function(lanes, fixed)
    size = -(-n // chunks)
    more = chunks * size - n

    def filled(x):
        """Return ``x`` with its last lane repeated until the chunks are full."""
        x = jnp.asarray(x)
        return jnp.concatenate([x, jnp.broadcast_to(x[..., -1:], (*x.shape[:-1], more))], axis=-1) if more else x

    def joined(tree):
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :n], tree)

    def with_slope(some, of_some):
        value, back = jax.vjp(lambda x: function(x, of_some), some)
        return value, back(jnp.ones_like(value))[0]

    def over(f, lanes, fixed):
        every = jax.tree.map(filled, (lanes, fixed))

        def chunk(i):
            return f(*jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size, axis=-1), every))

        return joined(jax.lax.map(chunk, np.arange(chunks, dtype=np.int32)))

    @jax.custom_vjp
    def every(lanes, fixed):
        return over(function, lanes, fixed)

    def forward(lanes, fixed):
        return over(with_slope, lanes, fixed)

    def backward(slope, by_lane):
        return jax.tree.map(lambda x: x * by_lane, slope), None

    every.defvjp(forward, backward)
    return every(lanes, fixed)
