"""Hamiltonian Monte Carlo with all chains side by side in one program, trajectories of one length for all of them.

The course of a few patients costs its number of steps more than its patients, so many chains in one program cost little more
than one. NUTS would make all chains wait for the longest trajectory; here all take the same number of leapfrog steps, jittered
from transition to transition (Hoffman, Radul and Sountsov 2021, AISTATS, "An adaptive MCMC scheme for setting trajectory
lengths in Hamiltonian Monte Carlo": ChEES-HMC). How long they are is found in side_by_side_run.py.

Trajectories may follow the slope of a cheaper density (float32 instead of float64). Leapfrog steps are reversible and keep
volume whatever the slope is of, so ends that are accepted by the energy of the density wanted are exact draws of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .processor import compiler_options
from .sampler import BLOCK

Numbers = np.ndarray | Array
DIVERGENT = 1000.0
"""Error of the energy beyond which a trajectory diverges, as in Stan and numpyro."""
LogDensities = Callable[[Any, Any], jax.Array]
"""(points coordinates, data) -> log-density of each point."""


class Scale(NamedTuple):
    """Coordinates u in which the target is about standard normal: z = centre + (whiten u, spread u)."""

    centre: Float[Numbers, "coordinates"]
    whiten: Float[Numbers, "shared shared"]
    """Of the first coordinates, those that patients share."""
    spread: Float[Numbers, "own"]
    """Of each of the others."""

    def to_z(self, u):
        """Return z of ``u``, ``points coordinates`` both."""
        shared = self.whiten.shape[0]
        return self.centre + jnp.concatenate([u[:, :shared] @ self.whiten.T, u[:, shared:] * self.spread], axis=1)

    def to_u(self, z):
        """Return u of ``z``."""
        shared, r = self.whiten.shape[0], np.asarray(z) - np.asarray(self.centre)
        first = np.linalg.solve(np.asarray(self.whiten), r[:, :shared].T).T
        return np.concatenate([first, r[:, shared:] / np.asarray(self.spread)], axis=1)


class Place(NamedTuple):
    """Where all chains are."""

    key: Numbers
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
    """Slope of the ChEES criterion along the time of the trajectory; axis: transitions."""
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
    ):
        """Compile ``BLOCK`` transitions; ``data`` gives the shapes of the second argument of the log-density.

        With ``along`` trajectories follow that log-density instead; draws are still of ``log_densities``.
        """
        self.chains, self.coordinates = chains, coordinates
        followed = log_densities if along is None else along

        def evaluate(u, scale: Scale, data):
            """Return the log-density that trajectories follow, and its slope."""

            def total(u):
                values = followed(scale.to_z(u), data)
                return values.sum(), values

            slope, value = jax.grad(total, has_aux=True)(u)
            fine = jnp.isfinite(value) & jnp.isfinite(slope).all(axis=1)
            return jnp.where(fine, value, -jnp.inf), jnp.where(fine[:, None], slope, 0.0)

        def wanted(u, value, scale: Scale, data):
            """Return the log-density at ``u``, where ``value`` is the one that trajectories follow."""
            if along is None:
                return value
            exact = log_densities(scale.to_z(u), data)
            return jnp.where(jnp.isfinite(value) & jnp.isfinite(exact), exact, -jnp.inf)

        def transition(place: Place, steps, step_size, scale: Scale, data):
            key, of_momentum, of_choice = jax.random.split(place.key, 3)
            p = jax.random.normal(of_momentum, place.u.shape)
            before = -place.value + 0.5 * (p * p).sum(axis=1)

            def leap(_, state):
                u, p, _, slope = state
                p = p + 0.5 * step_size * slope
                u = u + step_size * p
                value, slope = evaluate(u, scale, data)
                return u, p + 0.5 * step_size * slope, value, slope

            u, p, value, slope = jax.lax.fori_loop(0, steps, leap, (place.u, p, place.value, place.slope))
            value = wanted(u, value, scale, data)
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
        scale = Scale(zeros((coordinates,)), zeros((shared, shared)), zeros((coordinates - shared,)))
        key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
        place = Place(key, zeros((chains, coordinates)), zeros((chains,)), zeros((chains, coordinates)))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)), data)
        lengths = jax.ShapeDtypeStruct((BLOCK,), jnp.int64)
        compiled = jax.jit(block, compiler_options=compiler_options())
        self._block = compiled.lower(place, lengths, zeros(()), scale, shapes).compile()

    def advance(self, place: Place, steps: np.ndarray, step_size: float, scale: Scale, data) -> tuple[Place, Block]:
        """Return the places ``BLOCK`` transitions later, of ``steps`` leapfrog steps each, and what lies between."""
        given = jnp.asarray(steps, jnp.int64), jnp.asarray(float(step_size)), jax.tree.map(jnp.asarray, scale), data
        place, out = self._block(jax.tree.map(jnp.asarray, place), *given)
        told = *out, steps, np.full(len(steps), float(step_size))
        return jax.tree.map(np.asarray, place), Block(*(np.asarray(x) for x in told))

    def at(self, key, u: np.ndarray, scale: Scale, data) -> Place:
        """Return the place at ``u``: a block of trajectories without steps finds value and slope from any place."""
        unknown = Place(key, u, np.full(len(u), -np.inf), np.zeros_like(u))
        # One step of no length: the point stays, is evaluated, and is taken, since anything is better than -infinity.
        place, _ = self.advance(unknown, np.ones(BLOCK, int), 0.0, scale, data)
        return place._replace(key=np.asarray(key))
