"""Simulated patients of all draws side by side, one a lane, and only those who still need their days followed.

Two years after the first dose a third of the patients is left on treatment or within 28 days of it. The others need no ANC
any more: what may still happen to them is progression and death. So the lanes are sorted every SEGMENT weeks, those in need
first, and gone through in chunks; a chunk without any of them takes the short way. A patient's course does not depend on
who is beside it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SEGMENT = 7
"""Weeks between two sortings; 4 and 13 were no faster in rough timings."""
CHUNK = 256
"""Lanes gone through at once, about: their state stays in a core's cache. 512 and 1024 took 10 to 15 % longer."""


def flattened(tree):
    """Return the leaves of shape ``(draws, ..., patients)`` as ``(..., draws * patients)``."""

    def flat(x):
        return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)

    return jax.tree.map(flat, tree)


def by_draw(tree, draws: int):
    """Return what ``flattened`` was given."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], draws, -1), -2, 0), tree)


def taken(tree, lanes):
    """Return some lanes in this order."""
    return jax.tree.map(lambda x: jnp.take(x, lanes, axis=-1, mode="clip"), tree)


def sorted_first(needed):
    """Return the order of the lanes that brings those marked to the front and keeps it otherwise."""
    n = needed.shape[0]
    number = jnp.arange(n, dtype=jnp.int32)
    return jnp.sort(jnp.where(needed, number, number + n)) % n


def followed(
    fixed: Any,
    state: Any,
    weeks: int,
    needed: Callable[[Any, Any, Any], jax.Array],
    whole: Callable[[Any, Any, Any, Any], Any],
    short: Callable[[Any, Any, Any, Any], Any],
) -> Any:
    """Return the state of every lane after ``weeks`` weeks.

    Parameters
    ----------
    fixed, state: trees of arrays, lanes on the last axis; what no week changes, and what it does.
    needed: whether each lane needs its days, given ``fixed``, ``state`` and the week from which.
    whole, short: the state after the weeks from the third argument up to, without, the fourth; with days, and without.
    """
    lanes = jax.tree.leaves(state)[0].shape[-1]
    chunks = max(1, round(lanes / CHUNK))
    size = -(-lanes // chunks)
    # The last lane fills up the last chunk.
    number = jnp.minimum(jnp.arange(chunks * size, dtype=jnp.int32), lanes - 1)
    everything = (taken(fixed, number), taken(state, number), jnp.arange(chunks * size, dtype=jnp.int32))

    def split(x):
        return jnp.moveaxis(x.reshape(*x.shape[:-1], chunks, size), -2, 0)

    def joined(x):
        x = jnp.moveaxis(x, 0, -2)
        return x.reshape(*x.shape[:-2], -1)

    def segment(everything, first):
        need = needed(everything[0], everything[1], first)
        order = sorted_first(need)
        fixed, state, number = taken(everything, order)
        until = jnp.minimum(first + SEGMENT, weeks)

        def chunk(_, x):
            fixed, state, need = x
            return None, jax.lax.cond(need.any(), whole, short, fixed, state, first, until)

        parts = jax.tree.map(split, (fixed, state, need[order]))
        state = jax.tree.map(joined, jax.lax.scan(chunk, None, parts)[1])
        return (fixed, state, number), None

    (_, state, number), _ = jax.lax.scan(segment, everything, jnp.arange(0, weeks, SEGMENT))
    back = jnp.argsort(number)[:lanes]
    return taken(state, back)
