"""NUTS (numpyro) in whitened coordinates, in blocks that can be saved and resumed.

Coordinates u are about standard normal: z = centre + whiten u. The first part of the warm-up (the pilot) runs in those of
the curvature at the mode; its draws and their gradients, of all chains together, give better ones (whitening.py). In
these the step size is found from the acceptance of all chains together (step_size.py) and kept for the kept draws. Chains run side by side, one thread a core; every block of draws is
a pure function of the state before it, so an interrupted run goes on exactly where it was.
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

from .mode import Gradient
from .processor import compiler_options

BLOCK = 25
"""Transitions between two looks at a chain."""


class Geometry(NamedTuple):
    """What the compiled sampler is given at run time, so that it can be compiled before the mode is known."""

    centre: jax.Array
    whiten: jax.Array
    data: Any
    """Second argument of the log-density."""


class Draws(NamedTuple):
    """One block of one chain; leading axis: draws."""

    z: np.ndarray
    log_density: np.ndarray
    energy: np.ndarray
    accept: np.ndarray
    steps: np.ndarray
    diverging: np.ndarray
    step_size: np.ndarray
    slope: np.ndarray
    """Gradient of the log-density in the coordinates u of the block."""


@dataclass(frozen=True)
class SamplerSettings:
    """How long and how carefully to sample."""

    chains: int = 4
    warmup: int = 200
    draws: int = 400
    more_draws: int = 0
    """Further draws a chain, at most, while R-hat or an effective sample size misses the gate."""
    seed: int = 1
    target_accept: float = 0.8
    max_tree_depth: int = 8

    def pilot_blocks(self) -> int:
        """Return the blocks of the pilot, two thirds of the warm-up."""
        return max(1, round(2 * self.warmup / (3 * BLOCK)))

    def step_blocks(self) -> int:
        """Return the blocks in which the step size is found, the last third."""
        return max(1, round(self.warmup / (3 * BLOCK)))

    def draw_blocks(self) -> int:
        """Return the blocks of kept draws."""
        return -(-self.draws // BLOCK)


LogDensity = Callable[[Any, Any], jax.Array]
"""(z, data) -> log-density."""


def _settings(s: SamplerSettings) -> dict[str, Any]:
    return {
        "num_warmup": BLOCK * max(s.pilot_blocks(), s.step_blocks()), "step_size": 0.5, "adapt_mass_matrix": False,
        "target_accept_prob": s.target_accept, "max_tree_depth": s.max_tree_depth,
    }  # fmt: skip


class Sampler:
    """Compiled pieces of NUTS for one log-density. Immutable after construction.

    ``data`` gives the shapes of what the log-density is given; its values come with the geometry.
    """

    def __init__(self, log_density: LogDensity, dimensions: int, data: Any, settings: SamplerSettings):
        def potential(geometry: Geometry):
            def negative(u):
                z = geometry.centre + geometry.whiten @ u
                return -log_density(z, geometry.data)

            return negative

        init, sample = numpyro_hmc.hmc(potential_fn_gen=potential, algo="NUTS")
        n = dimensions

        def begin(key, u, geometry):
            return init(u, **_settings(settings), model_args=(geometry,), rng_key=key)

        def block(state, geometry):
            def one(state, _):
                step_size = state.adapt_state.step_size
                state = sample(state, (geometry,), {})
                z = geometry.centre + geometry.whiten @ state.z
                out = (z, -state.potential_energy, state.energy, state.accept_prob, state.num_steps, state.diverging)
                return state, (*out, step_size, -state.z_grad)

            return jax.lax.scan(one, state, None, length=BLOCK)

        zeros: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float64)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data)
        geometry = Geometry(zeros((n,)), zeros((n, n)), shapes)
        key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
        state = jax.eval_shape(begin, key, zeros((n,)), geometry)
        self.block = jax.jit(block, compiler_options=compiler_options()).lower(state, geometry).compile()
        self.settings = settings

    def start(self, chain: int, geometry: Geometry, z: np.ndarray | None, gradient: Gradient):
        """Return the state of ``chain`` at ``z``, or at a draw of the approximation that the geometry stands for.

        numpyro makes the state of a standard normal, which costs no compilation; its energy and slope are then those of
        the log-density.
        """
        centre, whiten = np.asarray(geometry.centre), np.asarray(geometry.whiten)
        key = jax.random.fold_in(jax.random.PRNGKey(self.settings.seed), 2 * chain + (z is not None))
        key, first = jax.random.split(key)
        u = np.asarray(jax.random.normal(first, centre.shape)) if z is None else np.linalg.solve(whiten, z - centre)
        init, _ = numpyro_hmc.hmc(potential_fn=lambda u: 0.5 * u @ u, algo="NUTS")
        state = init(jnp.asarray(u), **_settings(self.settings), rng_key=key)
        value, slope = gradient(centre + whiten @ u)
        energy = state.energy - state.potential_energy - value
        return state._replace(
            potential_energy=jnp.asarray(-value), energy=energy, z_grad=jnp.asarray(-whiten.T @ slope)
        )

    def advance(self, state, geometry: Geometry) -> tuple[Any, Draws]:
        """Return the state ``BLOCK`` transitions later and the draws in between."""
        state, out = self.block(state, geometry)
        return state, Draws(*(np.asarray(x) for x in out))


def in_background[Built](build: Callable[..., Built], *args) -> "Future[Built]":
    """Return what ``build(*args)`` will have made in a thread of its own: a sampler compiles while the mode is sought."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
    future = pool.submit(build, *args)
    pool.shutdown(wait=False)
    return future


def build_in_background(*args) -> "Future[Sampler]":
    """Return a sampler that is being compiled."""
    return in_background(Sampler, *args)


def frozen(state, settings: SamplerSettings, step_size: float):
    """Return ``state`` past its adaptation, with ``step_size``."""
    adapt = state.adapt_state._replace(step_size=jnp.asarray(step_size))
    return state._replace(adapt_state=adapt, i=jnp.asarray(_settings(settings)["num_warmup"]))


def run_chain(
    sampler: Sampler,
    geometry: Geometry,
    start: Callable[[], Any],
    total: int,
    resume: tuple[Any, list[Draws]] | None,
    progress: Callable[[list[Draws], Any], None],
) -> tuple[Any, list[Draws]]:
    """Return the last state of one chain and its ``total`` blocks; ``progress(blocks, state)`` follows each.

    It begins at the state ``start()``, or goes on where ``resume`` left off.
    """
    state, blocks = resume if resume is not None else (start(), [])
    while len(blocks) < total:
        state, draws = sampler.advance(state, geometry)
        blocks = [*blocks, draws]
        progress(blocks, state)
    return state, blocks
