"""Hamiltonian Monte Carlo with all chains side by side in one program, trajectories of one length for all of them.

The course of a few patients costs its number of steps more than its patients, so many chains in one program cost little more
than one. NUTS would make all chains wait for the longest trajectory; here all take the same number of leapfrog steps, jittered
from transition to transition (Hoffman, Radul and Sountsov 2021, AISTATS, "An adaptive MCMC scheme for setting trajectory
lengths in Hamiltonian Monte Carlo": ChEES-HMC). How long they are is found in side_by_side_run.py.

Trajectories may follow the slope of a cheaper density (float32 instead of float64). Leapfrog steps are reversible and keep
volume whatever the slope is of, so ends that are accepted by the energy of the density wanted are exact draws of it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .processor import compiler_options
from .sampler import BLOCK

Numbers = np.ndarray | Array
PARTS = 2
"""Threads that share an even number of four chains or more; not the number of cores, so that draws are the same everywhere."""
DIVERGENT = 1000.0
"""Error of the energy beyond which a trajectory diverges, as in Stan and numpyro."""
LogDensities = Callable[[Any, Any], jax.Array]
"""(points coordinates, data) -> log-density of each point."""


class Scale(NamedTuple):
    """Coordinates u in which the target is about standard normal: z = centre + (whiten u, spread u + follow whiten u).

    The inverse of an arrow: what patients share is one dense block, each patient's own coordinates touch no other patient's.
    """

    centre: Float[Numbers, "coordinates"]
    whiten: Float[Numbers, "shared shared"]
    """Of the first coordinates, those that patients share."""
    spread: Float[Numbers, "own"]
    """Of each of the others, given what patients share."""
    follow: Float[Numbers, "own shared"]
    """How the others' means move with what patients share."""

    def to_z(self, u):
        """Return z of ``u``, ``points coordinates`` both."""
        shared = self.whiten.shape[0]
        first = u[:, :shared] @ self.whiten.T
        own = u[:, shared:] * self.spread + first @ self.follow.T
        return self.centre + jnp.concatenate([first, own], axis=1)

    def to_u(self, z):
        """Return u of ``z``."""
        shared, r = self.whiten.shape[0], np.asarray(z) - np.asarray(self.centre)
        first = np.linalg.solve(np.asarray(self.whiten), r[:, :shared].T).T
        own = (r[:, shared:] - r[:, :shared] @ np.asarray(self.follow).T) / np.asarray(self.spread)
        return np.concatenate([first, own], axis=1)


class Place(NamedTuple):
    """Where all chains are."""

    key: Numbers
    """One of each part of the chains."""
    u: Float[Numbers, "chains coordinates"]
    value: Float[Numbers, "chains"]
    """Log-density."""
    slope: Float[Numbers, "chains coordinates"]
    """Gradient in u of the one that trajectories follow."""


class Block(NamedTuple):
    """Transitions of all chains; leading axes: transitions, chains."""

    z: np.ndarray
    slope: np.ndarray
    """Gradient of the log-density in u."""
    log_density: np.ndarray
    energy: np.ndarray
    accept: np.ndarray
    diverging: np.ndarray
    criterion: np.ndarray
    """Slope of the ChEES criterion along the time of the trajectory, mean over parts; axis: transitions."""
    steps: np.ndarray
    """Leapfrog steps of each transition; axis: transitions."""
    step_size: np.ndarray


class SideBySide:
    """The compiled transitions for one log-density. Immutable after construction."""

    def __init__(
        self,
        log_densities: LogDensities,
        chains: int,
        coordinates: int,
        shared: int,
        data: Any,
        along: LogDensities | None = None,
        parts: int | None = None,
    ):
        """Compile ``BLOCK`` transitions; ``data`` gives the shapes of the second argument of the log-density.

        With ``along`` trajectories follow the slope of that log-density. Leapfrog steps keep volume and can be reversed
        whatever function of the place the slope is, and ends are accepted by ``log_densities``, so draws are of it exactly.
        """
        self.chains, self.coordinates = chains, coordinates
        self.parts = parts or (PARTS if chains % PARTS == 0 and chains >= 2 * PARTS else 1)

        def slope_at(u, scale: Scale, data):
            followed = log_densities if along is None else along
            slope = jax.grad(lambda u: followed(scale.to_z(u), data).sum())(u)
            return jnp.where(jnp.isfinite(slope).all(axis=1, keepdims=True), slope, 0.0)

        def value_at(u, scale: Scale, data):
            value = log_densities(scale.to_z(u), data)
            return jnp.where(jnp.isfinite(value), value, -jnp.inf)

        def transition(place: Place, steps, step_size, scale: Scale, data):
            key, of_momentum, of_choice = jax.random.split(place.key, 3)
            p = jax.random.normal(of_momentum, place.u.shape)
            before = -place.value + 0.5 * (p * p).sum(axis=1)

            def leap(_, state):
                u, p, slope = state
                p = p + 0.5 * step_size * slope
                u = u + step_size * p
                slope = slope_at(u, scale, data)
                return u, p + 0.5 * step_size * slope, slope

            u, p, slope = jax.lax.fori_loop(0, steps, leap, (place.u, p, place.slope))
            value = value_at(u, scale, data)
            after = -value + 0.5 * (p * p).sum(axis=1)
            error = after - before
            accept = jnp.exp(-jnp.maximum(error, 0.0))
            # The slope of the mean squared change of |u - mean|^2 along the trajectory (equation 8 of the paper).
            was, now = place.u - place.u.mean(axis=0), u - u.mean(axis=0)
            change = (now * now).sum(axis=1) - (was * was).sum(axis=1)
            each = jnp.where(accept > 0.0, accept * change * (now * p).sum(axis=1), 0.0)
            criterion = each.sum() / (accept.sum() + 1e-10)
            take = jax.random.uniform(of_choice, accept.shape) < accept
            place = Place(
                key,
                jnp.where(take[:, None], u, place.u),
                jnp.where(take, value, place.value),
                jnp.where(take[:, None], slope, place.slope),
            )
            energy = jnp.where(take, after, before)
            return place, (place.slope, place.value, energy, accept, ~(error <= DIVERGENT), criterion)

        def block(place: Place, steps: Int[Array, "transitions"], step_size, scale: Scale, data):
            def one(place, steps):
                place, out = transition(place, steps, step_size, scale, data)
                return place, (scale.to_z(place.u), *out)

            return jax.lax.scan(one, place, steps)

        zeros: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float64)
        own = coordinates - shared
        scale = Scale(zeros((coordinates,)), zeros((shared, shared)), zeros((own,)), zeros((own, shared)))
        key, each = jax.eval_shape(lambda: jax.random.PRNGKey(0)), chains // self.parts
        place = Place(key, zeros((each, coordinates)), zeros((each,)), zeros((each, coordinates)))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data)
        lengths = jax.ShapeDtypeStruct((BLOCK,), jnp.int64)
        compiled = jax.jit(block, compiler_options=compiler_options())
        self._block = compiled.lower(place, lengths, zeros(()), scale, shapes).compile()

    def advance(self, place: Place, steps: np.ndarray, step_size: float, scale: Scale, data) -> tuple[Place, Block]:
        """Return the places ``BLOCK`` transitions later, of ``steps`` leapfrog steps each, and what lies between."""
        given = jnp.asarray(steps, jnp.int64), jnp.asarray(float(step_size)), jax.tree.map(jnp.asarray, scale), data

        def one(*part):
            return jax.tree.map(np.asarray, self._block(jax.tree.map(jnp.asarray, Place(*part)), *given))

        with ThreadPoolExecutor(self.parts) as pool:
            split = (np.split(np.asarray(x), self.parts) for x in place[1:])
            places, found = zip(*pool.map(one, place.key, *split), strict=True)
        out = [np.concatenate(x, axis=1) for x in list(zip(*found, strict=True))[:-1]]
        criterion = np.mean([x[-1] for x in found], axis=0)
        told = *out, criterion, np.asarray(steps), np.full(len(steps), float(step_size))
        joined = (np.concatenate(x) for x in list(zip(*places, strict=True))[1:])
        return Place(np.stack([p.key for p in places]), *joined), Block._make(told)

    def at(self, keys: np.ndarray, u: np.ndarray, scale: Scale, data) -> Place:
        """Return the place at ``u``; ``keys`` one of each part. Trajectories of no length find value and slope there."""
        unknown = Place(keys, u, np.full(len(u), -np.inf), np.zeros_like(u))
        # One step of no length: the point stays, is evaluated, and is taken, since anything is better than -infinity.
        place, _ = self.advance(unknown, np.ones(BLOCK, int), 0.0, scale, data)
        return place._replace(key=np.asarray(keys))
