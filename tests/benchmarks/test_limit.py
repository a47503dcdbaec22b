"""What one gradient of the built-in fit has to compute and move, against what a core can do, measured in the same run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.commands import built_in_fit
from mezikd.inference.problem import load_problem
from mezikd.inference.processor import compiler_options, keep_memory
from mezikd.model import elementary
from operations import SIMPLE, Program
from timing import Took, fastest

pytestmark = pytest.mark.benchmark
WIDTH = 512
"""Elements of a kernel of the daily step: both paths of 256 virtual patients."""
REPEATS, CHAIN = 2000, 16
compiled = partial(jax.jit, compiler_options=compiler_options())


def nanoseconds(step, x) -> float:
    """Return the time of one ``step`` in a loop that is compiled as a whole."""
    looped = compiled(lambda x: jax.lax.fori_loop(0, REPEATS, lambda _, x: step(x), x))
    return 1e6 * fastest(lambda: looped(x))[0].cpu_ms / REPEATS


def many(one):
    """Return ``CHAIN`` operations in a row, one kernel."""

    def step(x):
        for _ in range(CHAIN):
            x = one(x)
        return x

    return step


def costs() -> tuple[dict[str, float], float]:
    """Return nanoseconds an element by kind of operation, in the first cache, and nanoseconds a kernel."""
    x = jnp.linspace(0.5, 1.5, WIDTH)
    bare = nanoseconds(lambda x: x + 1e-9, x)
    each = {
        SIMPLE: nanoseconds(many(lambda x: 0.999 * x + 1e-3), x) / 2,
        "divisions and roots": nanoseconds(many(lambda x: 1.0 / (x + 0.1)), x),
        "exponentials and logarithms": nanoseconds(many(lambda x: jnp.exp(-x)), x),
    }
    # What a kernel costs beyond its one addition.
    return {k: (v - bare) / CHAIN / WIDTH for k, v in each.items()}, bare


def peaks() -> tuple[float, float]:
    """Return the operations (10^9/s) of a matrix product and the bytes (GB/s) of a triad from memory, one core."""
    a = jnp.asarray(np.random.default_rng(1).normal(size=(768, 768)))
    product = compiled(lambda a: a @ a)
    flops = 2 * 768**3 / fastest(lambda: product(a))[0].cpu_ms / 1e6
    x, y = jnp.ones(1 << 23), jnp.ones(1 << 23)
    triad = compiled(lambda x, y: x + 3.0 * y)
    return flops, 3 * 8 * (1 << 23) / fastest(lambda: triad(x, y))[0].cpu_ms / 1e6


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_gradient_against_a_core(table, single):
    keep_memory()
    problem = load_problem(built_in_fit())
    target = problem.target.in_single() if single else problem.target
    z = jnp.zeros(len(problem.free))
    gradient = compiled(jax.value_and_grad(target.log_density)).lower(z, target.data).compile()
    count = Program(gradient.as_text()).counts()
    assert count.kernels > 1000, "the program's text was not understood"
    took = fastest(lambda: gradient(z, target.data), rounds=20)[0]
    flops, bandwidth = peaks()
    each, kernel = costs()
    total = sum(count.operations.values())
    by_kind = {k: 1e-6 * n * each[k] / (2 if single else 1) for k, n in count.operations.items()}
    overhead = 1e-6 * count.kernels * kernel
    spent = " + ".join(f"{k} {ms:.1f}" for k, ms in by_kind.items()) + f" + starts of kernels {overhead:.1f}"
    explained = sum(by_kind.values()) + overhead
    table.add(
        f"gradient against the limit of a core, {'float32' if single else 'float64'}", problem.settings.patients.mezikd, took,
        "operations at the rate of a matrix product", Took(1e-6 * total / flops, 1e-6 * total / flops),
        note=f"{total / 1e6:.1f} million operations ({', '.join(f'{k} {n / 1e6:.1f}' for k, n in count.operations.items())}), "
        f"{count.bytes / 1e6:.0f} MB through {count.kernels:.0f} kernels; a core: product {flops:.1f} GFLOP/s, triad {bandwidth:.1f} "
        f"GB/s (bytes alone {count.bytes / bandwidth / 1e6:.1f} ms, were they from memory); in ms by measured cost: {spent} = "
        f"{explained:.1f} of {took.cpu_ms:.1f}",
    )  # fmt: skip


def test_logarithm(table):
    """The daily step's own logarithm beside XLA's."""
    x = jnp.linspace(0.5, 1.5, WIDTH)
    ours, other = (1e-6 * nanoseconds(many(lambda x, f=f: f(x + 1.0)), x) for f in (elementary.log, jnp.log))
    table.add(f"{CHAIN} logarithms in double precision", WIDTH, Took(ours, ours), "jnp.log", Took(other, other))
