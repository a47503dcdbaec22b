"""Counted operations of a program whose loops are known."""

import jax
import jax.numpy as jnp
from operations import Program


def test_loops_count_as_often_as_they_run():
    def inner(c, d):
        return jnp.exp(-c) * d, None

    def outer(c, d):
        return jax.lax.scan(inner, c, d)

    def f(x, d):
        return jnp.sqrt(jax.lax.scan(outer, x, d)[0])

    found = Program(jax.jit(f).lower(jnp.ones(64), jnp.ones((12, 7))).compile().as_text()).counts()
    assert found.operations["exponentials and logarithms"] == 12 * 7 * 64
    assert found.operations["divisions and roots"] == 64
    # Minus and times; the loops' own counters come on top.
    assert 2 * 12 * 7 * 64 <= found.operations["simple operations"] < 2 * 12 * 7 * 64 + 5 * 12 * 7
    # Each day reads and writes the state, and reads a dose.
    least = 12 * 7 * 2 * 64 * jnp.ones(1).dtype.itemsize
    assert least <= found.bytes < 1.2 * least
    assert 12 * 7 <= found.kernels < 5 * 12 * 7
