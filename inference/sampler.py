"""NUTS (numpyro) in whitened coordinates, in blocks that can be saved and resumed.

Coordinates u are about standard normal: z = centre + whiten u. The first part of the warm-up (the pilot) runs in those of
the curvature at the mode; its draws and their gradients, of all chains together, give better ones (whitening.py). In
these the step size is found from the acceptance of all chains together (step_size.py) and kept for the kept draws. Chains
run side by side, one thread a core; every block of draws is a pure function of the state before it, so an interrupted run
goes on exactly where it was.

Trajectories may follow a cheaper density p' than the one p that is wanted (float32 instead of float64). NUTS leaves p'
invariant and is reversible, so a transition from z to z' that is accepted with probability min(1, [p(z')/p'(z')] /
[p(z)/p'(z)]) leaves p invariant (delayed acceptance: Christen and Fox, JCGS 2005): draws are exact, however rough p' is.
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

from .jittered import Jittered
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


class State(NamedTuple):
    """State of one chain between two transitions."""

    nuts: Any
    """numpyro's."""
    gap: jax.Array
    """Log of the density wanted over that of the trajectories, here; -infinity at the start: the first move is accepted."""


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
    agreed: np.ndarray
    """Whether the density that is wanted accepted the transition."""


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
    jittered: Jittered | None = None
    """None: NUTS."""

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
    moves = 1 if s.jittered is None else s.jittered.moves
    return {
        "num_warmup": moves * BLOCK * max(s.pilot_blocks(), s.step_blocks()), "step_size": 0.5, "adapt_mass_matrix": False,
        "target_accept_prob": s.target_accept, "max_tree_depth": s.max_tree_depth,
    }  # fmt: skip


class Sampler:
    """Compiled pieces of NUTS for one log-density. Immutable after construction.

    ``data`` gives the shapes of what the log-density is given; its values come with the geometry. With ``along``
    trajectories follow that log-density instead; draws are still of ``log_density``. With ``apart`` this one is compiled
    already, or makes use of programs that are, and is called from outside: nothing large is compiled a second time.
    """

    def __init__(
        self,
        log_density: LogDensity,
        dimensions: int,
        data: Any,
        settings: SamplerSettings,
        along: LogDensity | None = None,
        apart: bool = False,
    ):
        followed = log_density if along is None else along

        def potential(geometry: Geometry):
            return lambda u: -followed(geometry.centre + geometry.whiten @ u, geometry.data)

        jittered, n = settings.jittered, dimensions
        init, sample = numpyro_hmc.hmc(potential_fn_gen=potential, algo="NUTS" if jittered is None else "HMC")

        def begin(key, u, geometry):
            return init(u, **_settings(settings), model_args=(geometry,), rng_key=key)

        def at(u, geometry: Geometry):
            return geometry.centre + geometry.whiten @ u

        def moved(state: State, geometry: Geometry):
            """Return numpyro's state after one transition of NUTS, or several of HMC, with steps and acceptance of all.

            Then whether trajectories were short.
            """
            nuts = state.nuts
            if jittered is None:
                return sample(nuts, (geometry,), {}), jnp.asarray(False)

            short, time = jittered.short(jax.random.fold_in(nuts.rng_key, 4), state.gap), jittered.time

            def move(now, _):
                # numpyro splits the key into three, which are those folded with 0, 1 and 2: momenta come from the second.
                length = time(jax.random.fold_in(now.rng_key, 3), short)
                new = sample(now._replace(trajectory_length=length), (geometry,), {})
                new = new._replace(trajectory_length=now.trajectory_length)
                return new, (new.num_steps, new.accept_prob, new.diverging)

            new, (steps, accept, diverging) = jax.lax.scan(move, nuts, None, length=jittered.moves)
            return new._replace(num_steps=steps.sum(), accept_prob=accept.mean(), diverging=diverging.any()), short

        def settled(old: State, new, short, value) -> tuple[State, jax.Array]:
            """Return the state after the transition to ``new``, or none, and whether it was accepted.

            ``value``: the log-density that is wanted, there.
            """
            if along is None:
                return State(new, jnp.zeros(())), jnp.asarray(True)
            gap = value + new.potential_energy
            luck = jax.random.uniform(jax.random.fold_in(new.rng_key, 0))
            ratio = gap - old.gap
            if jittered is not None:
                ratio += jittered.log_share(gap, short) - jittered.log_share(old.gap, short)
            agreed = jnp.log(luck) < ratio
            stay = {k: getattr(old.nuts, k) for k in ("z", "z_grad", "potential_energy")}
            move = {k: getattr(new, k) for k in stay}
            kept = jax.tree.map(partial(jnp.where, agreed), move, stay)
            return State(new._replace(**kept), jnp.where(agreed, gap, old.gap)), agreed

        def proposed(state: State, geometry: Geometry):
            new, short = moved(state, geometry)
            return new, short, at(new.z, geometry)

        def drawn(old: State, new, short, value, geometry: Geometry) -> tuple[State, tuple]:
            state, agreed = settled(old, new, short, value)
            s = state.nuts
            density = state.gap - s.potential_energy
            out = (at(s.z, geometry), density, s.energy, s.accept_prob, s.num_steps, s.diverging)
            return state, (*out, old.nuts.adapt_state.step_size, -s.z_grad, agreed)

        def block(state: State, geometry: Geometry):
            def one(state: State, _):
                new, short, x = proposed(state, geometry)
                value = 0.0 if along is None else log_density(x, geometry.data)
                return drawn(state, new, short, value, geometry)

            return jax.lax.scan(one, state, None, length=BLOCK)

        zeros: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float64)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data)
        geometry = Geometry(zeros((n,)), zeros((n, n)), shapes)
        key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
        state = State(jax.eval_shape(begin, key, zeros((n,)), geometry), zeros(()))

        def compiled(f, *of):
            return jax.jit(f, compiler_options=compiler_options()).lower(*of).compile()

        if apart:
            propose = compiled(proposed, state, geometry)
            draw = compiled(drawn, state, *jax.eval_shape(proposed, state, geometry)[:2], zeros(()), geometry)

            def by_hand(state: State, geometry: Geometry):
                rows = []
                for _ in range(BLOCK):
                    new, short, x = propose(state, geometry)
                    state, out = draw(state, new, short, log_density(x, geometry.data), geometry)
                    rows.append(out)
                return state, [np.stack(column) for column in zip(*rows, strict=True)]

        self.block = by_hand if apart else compiled(block, state, geometry)
        self.settings, self.corrected = settings, along is not None

    def start(self, chain: int, geometry: Geometry, z: np.ndarray | None, gradient: Gradient):
        """Return the state of ``chain`` at ``z``, or at a draw of the approximation that the geometry stands for.

        ``gradient`` is that of the density that trajectories follow. numpyro makes the state of a standard normal, which
        costs no compilation; its energy and slope are then those of the log-density.
        """
        centre, whiten = np.asarray(geometry.centre), np.asarray(geometry.whiten)
        key = jax.random.fold_in(jax.random.PRNGKey(self.settings.seed), 2 * chain + (z is not None))
        key, first = jax.random.split(key)
        u = np.asarray(jax.random.normal(first, centre.shape)) if z is None else np.linalg.solve(whiten, z - centre)
        init, _ = numpyro_hmc.hmc(potential_fn=lambda u: 0.5 * u @ u, algo="NUTS")
        state = init(jnp.asarray(u), **_settings(self.settings), rng_key=key)
        value, slope = gradient(centre + whiten @ u)
        energy = state.energy - state.potential_energy - value
        nuts = state._replace(
            potential_energy=jnp.asarray(-value), energy=energy, z_grad=jnp.asarray(-whiten.T @ slope)
        )
        return State(nuts, jnp.asarray(-jnp.inf if self.corrected else 0.0))

    def advance(self, state: State, geometry: Geometry) -> tuple[Any, Draws]:
        """Return the state ``BLOCK`` transitions later and the draws in between."""
        state, out = self.block(state, geometry)
        return state, Draws(*(np.asarray(x) for x in out))


def in_background[Built](build: Callable[..., Built], *args) -> "Future[Built]":
    """Return what ``build(*args)`` will have made in a thread of its own: a sampler compiles while the mode is sought."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
    future = pool.submit(build, *args)
    pool.shutdown(wait=False)
    return future


def frozen(state: State, settings: SamplerSettings, step_size: float) -> State:
    """Return ``state`` past its adaptation, with ``step_size``."""
    adapt = state.nuts.adapt_state._replace(step_size=jnp.asarray(step_size))
    past = state.nuts._replace(adapt_state=adapt, i=jnp.asarray(_settings(settings)["num_warmup"]))
    return state._replace(nuts=past)


def run_chain(
    sampler: Sampler,
    geometry: Geometry,
    start: Callable[[], State],
    total: int,
    resume: tuple[State, list[Draws]] | None,
    progress: Callable[[list[Draws], State], None],
) -> tuple[State, list[Draws]]:
    """Return the last state of one chain and its ``total`` blocks; ``progress(blocks, state)`` follows each.

    It begins at the state ``start()``, or goes on where ``resume`` left off.
    """
    state, blocks = resume if resume is not None else (start(), [])
    while len(blocks) < total:
        state, draws = sampler.advance(state, geometry)
        blocks = [*blocks, draws]
        progress(blocks, state)
    return state, blocks
