"""NUTS (numpyro) in coordinates whitened by the curvature at the mode, in blocks that can be saved and resumed.

Coordinates u are standard normal under the Laplace approximation: z = mode + whiten u. Chains run side by side, one
thread a core on a CPU, as one batched program on a GPU; every block of draws is a pure function of the state
before it, so an interrupted run goes on exactly where it was.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import hmc as numpyro_hmc

BLOCK = 25
"""Transitions between two looks at a chain."""


class Geometry(NamedTuple):
    """What the compiled sampler is given at run time, so that it can be compiled before the mode is known."""

    mode: jax.Array
    whiten: jax.Array
    precision_root: jax.Array
    """Of the survival summaries' joint normal."""


class Draws(NamedTuple):
    """One block of one chain; leading axis: draws."""

    z: np.ndarray
    log_density: np.ndarray
    energy: np.ndarray
    accept: np.ndarray
    steps: np.ndarray
    diverging: np.ndarray


@dataclass(frozen=True)
class SamplerSettings:
    """How long and how carefully to sample."""

    chains: int = 4
    warmup: int = 200
    draws: int = 400
    seed: int = 1
    target_accept: float = 0.8
    max_tree_depth: int = 8


LogDensity = Callable[[Any, Any], jax.Array]
"""(z, precision root of the survival summaries) -> log-density."""


class Sampler:
    """Compiled pieces of NUTS for one log-density. Immutable after construction."""

    def __init__(self, log_density: LogDensity, dimensions: int, survival_rows: int, settings: SamplerSettings):
        def potential(geometry: Geometry):
            def negative(u):
                z = geometry.mode + geometry.whiten @ u
                return -log_density(z, geometry.precision_root)

            return negative

        init, sample = numpyro_hmc.hmc(potential_fn_gen=potential, algo="NUTS")
        s, n = settings, dimensions

        def begin(key, u, geometry):
            return init(
                u, s.warmup, step_size=0.5, adapt_mass_matrix=False, target_accept_prob=s.target_accept,
                max_tree_depth=s.max_tree_depth, model_args=(geometry,), rng_key=key,
            )  # fmt: skip

        def block(state, geometry):
            def one(state, _):
                state = sample(state, (geometry,), {})
                z = geometry.mode + geometry.whiten @ state.z
                out = (z, -state.potential_energy, state.energy, state.accept_prob, state.num_steps, state.diverging)
                return state, out

            return jax.lax.scan(one, state, None, length=BLOCK)

        zeros: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float64)
        geometry = Geometry(zeros((n,)), zeros((n, n)), zeros((survival_rows, survival_rows)))
        key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
        self.begin = jax.jit(begin).lower(key, zeros((n,)), geometry).compile()
        state = jax.eval_shape(begin, key, zeros((n,)), geometry)
        self.block = jax.jit(block).lower(state, geometry).compile()
        self.settings = settings

    def start(self, chain: int, geometry: Geometry):
        """Return the state of ``chain`` at a draw of the Laplace approximation."""
        key, first = jax.random.split(jax.random.fold_in(jax.random.PRNGKey(self.settings.seed), chain))
        return self.begin(key, jax.random.normal(first, geometry.mode.shape), geometry)

    def advance(self, state, geometry: Geometry) -> tuple[Any, Draws]:
        """Return the state ``BLOCK`` transitions later and the draws in between."""
        state, out = self.block(state, geometry)
        return state, Draws(*(np.asarray(x) for x in out))


def build_in_background(*args, **kwargs) -> "Future[Sampler]":
    """Return a sampler that is being compiled in a thread of its own, while the mode is sought."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
    future = pool.submit(Sampler, *args, **kwargs)
    pool.shutdown(wait=False)
    return future


def run_chain(
    sampler: Sampler,
    geometry: Geometry,
    chain: int,
    resume: tuple[Any, list[Draws]] | None,
    progress: Callable[[int, list[Draws], Any], None],
) -> list[Draws]:
    """Return all blocks of one chain, warm-up included; ``progress(chain, blocks, state)`` is called after each."""
    state, blocks = resume if resume is not None else (sampler.start(chain, geometry), [])
    total = -(-sampler.settings.warmup // BLOCK) + -(-sampler.settings.draws // BLOCK)
    while len(blocks) < total:
        state, draws = sampler.advance(state, geometry)
        blocks = [*blocks, draws]
        progress(chain, blocks, state)
    return blocks
