"""HMC along an emulated log-density, accepted by the exact one: a fit without gradients of the model.

The emulator (emulator.py) is fitted to the scores, computed in float32, at points of the normal approximation
(gauss_newton.py), then twice again with points that NUTS drew from the emulated posterior before. The kept chains make several transitions of HMC in
the last emulated posterior, then the float64 log-density accepts or refuses where these led (sampler.py): draws are of the
exact posterior however rough the emulator is, which decides only how many are refused.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

from .coordinates import prior_scaled
from .emulator import Emulator, fitted
from .files import load_pickle, save_pickle
from .gauss_newton import as_rows, normal_approximation
from .joint_covariance import joined
from .likelihood import Data, Target, whitened_log_likelihood
from .observed import Observed
from .processor import compiler_options
from .sampler import BLOCK, Geometry, Jittered, LogDensity, Sampler, SamplerSettings, in_background
from .sampling import Sampled, sample

FIRST_POINTS, POINTS, ROUNDS = 2000, 1500, 2
"""Points of the normal approximation, and those of each round after it."""
WIDER = 1.1
"""SDs of the normal approximation over which the first points are spread: its tails are too thin."""
CHAINS, WARMUP, EXPLORED_DEPTH = 4, 75, 5
"""Of NUTS on the emulated posterior."""
JITTERED = Jittered(0.8, 2.4, 4)
CAREFUL = 0.95
"""Acceptance of HMC by the emulated posterior, at least: its steps cost little."""
QUIET = Console(quiet=True)


class Emulated(NamedTuple):
    """What the compiled log-densities, exact and emulated, are given at run time."""

    data: Data
    centre: Float[Array, "parameters"]
    root: Float[Array, "parameters parameters"]
    """Of the emulator's coordinates: u = root (x - centre)."""
    emulator: Emulator


def emulated_log_density(target: Target) -> LogDensity:
    """Return the log-density of the emulated scores at the sampler's coordinates x, up to a constant."""

    def density(x, given: Emulated):
        scores = given.emulator.scores(given.root @ (x - given.centre))
        prior = target.log_prior(prior_scaled(x, target.parameters), given.data)
        return whitened_log_likelihood(scores, given.data.joint) + prior

    return density


class Points(NamedTuple):
    """Where the model was computed."""

    x: np.ndarray
    """Sampler's coordinates, shape ``(points, parameters)``."""
    scores: np.ndarray
    """Whitened, shape ``(points, scores)``."""


class EmulatedSampler:
    """Compiled pieces of a fit along an emulator."""

    def __init__(self, target: Target, settings: SamplerSettings):
        n, s = sum(not p.fixed for p in target.parameters), len(target.kept)
        along, single = emulated_log_density(target), target.in_single()
        blank = Emulator(jnp.zeros(s), jnp.zeros((s, n)), jnp.zeros((s, n, n)))
        given = Emulated(target.data, jnp.zeros(n), jnp.eye(n), blank)

        def scores(x, data: Data):
            return single.whitened_scores(single.expected(prior_scaled(x, target.parameters), data.observed), data)

        def exact(x, given: Emulated):
            return target.sampled_log_density(x, given.data)

        settings = replace(settings, jittered=JITTERED, target_accept=max(settings.target_accept, CAREFUL))
        explored = SamplerSettings(CHAINS, WARMUP, POINTS // CHAINS, seed=settings.seed, max_tree_depth=EXPLORED_DEPTH)
        self._sampler = in_background(Sampler, exact, n, given, settings, along)
        self._explorer = in_background(Sampler, along, n, given, explored)
        self._gradient = jax.jit(jax.value_and_grad(along), compiler_options=compiler_options())
        self._compiled = jax.jit(scores, compiler_options=compiler_options()).lower(jnp.zeros(n), target.data).compile()
        self._target, self.settings = target, settings

    def _scores(self, x: np.ndarray, data: Data) -> np.ndarray:
        """Return the whitened scores at the sampler's coordinates ``x``, computed in float32."""
        return np.asarray(self._compiled(x, data))

    def geometry(self, covariance_trials: int | None) -> tuple[Geometry, int]:
        """Return the normal approximation, with what the log-density is given, and how often the scores were computed.

        As ``pipeline.find_geometry``: with ``covariance_trials``, trials simulated at the mode with the numbers as if
        independent give their joint law, and the mode with that is found from there.
        """
        target, data = self._target, self._target.data
        found = normal_approximation(self._scores, target, data, np.zeros(sum(not p.fixed for p in target.parameters)))
        computed = found.computed
        if covariance_trials is not None:
            x = found.centre

            def of_trial(_: np.ndarray, observed: Observed) -> np.ndarray:  # not whitened yet: as if independent
                return self._scores(x, target.data._replace(observed=observed))

            at = np.asarray(prior_scaled(x, target.parameters))
            data = joined(target, data, of_trial, at, covariance_trials, self.settings.seed)
            found = normal_approximation(self._scores, target, data, x)
            computed += covariance_trials + found.computed
        return Geometry(jnp.asarray(found.centre), jnp.asarray(found.whiten), data), computed

    def draws(self, geometry: Geometry, work: Path, kept_as: Callable[[np.ndarray], Any], console: Console) -> Sampled:
        """Return the kept draws of every chain, as ``sampling.sample``; ``geometry`` is the normal approximation.

        ``gradients`` of what is returned are computations of the model, which need no gradient here.
        """
        begin, cpu, s = time.perf_counter(), time.process_time(), self.settings
        with console.status("emulator"):
            there, computed = self._trained(geometry, work, console)
        found = sample(self._sampler.result(), there, self._slope(there.data), work, kept_as, console, refine=False)
        computed += found.draws.steps.size + s.chains * BLOCK * (s.pilot_blocks() + s.step_blocks())
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        return found._replace(gradients=computed, seconds=seconds, cpu_seconds=cpu)

    def _slope(self, given: Emulated):
        def gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._gradient(x, given)
            return float(value), np.asarray(slope)

        return gradient

    def _trained(self, geometry: Geometry, work: Path, console: Console) -> tuple[Geometry, int]:
        """Return the geometry of the emulated posterior, whose data have the emulator, and the points it took."""
        data, centre, whiten = geometry.data, np.asarray(geometry.centre), np.asarray(geometry.whiten)
        rng = np.random.default_rng([self.settings.seed, 11])
        x = centre + WIDER * rng.standard_normal((FIRST_POINTS, len(centre))) @ whiten.T
        points = self._round(x, data, work / "points0.pickle")
        for k in range(ROUNDS):
            given = given_by(points, data, centre, whiten)
            place = work / f"emulated{k}"
            place.mkdir(exist_ok=True)
            near = Geometry(jnp.asarray(centre), jnp.asarray(whiten), given)
            drawn = sample(self._explorer.result(), near, self._slope(given), place, np.asarray, QUIET).draws
            x = drawn.z.reshape(-1, len(centre))
            centre, whiten = x.mean(axis=0), np.linalg.cholesky(np.cov(x.T))
            new = self._round(x, data, work / f"points{k + 1}.pickle")
            gap = whitened_log_likelihood(new.scores, data.joint) - np.asarray(emulated_at(given, x))
            console.print(f"emulator of {len(points.x)} points: its log-density is off by {gap.std():.2f} (SD)")
            points = Points(*(np.concatenate(pair) for pair in zip(points, new, strict=True)))
        given = given_by(points, data, centre, whiten)
        return Geometry(jnp.asarray(centre), jnp.asarray(whiten), given), len(points.x)

    def _round(self, x: np.ndarray, data: Data, file: Path) -> Points:
        """Return the points of a round, from ``file`` if it was done."""
        points = load_pickle(file)
        if points is None:
            points = Points(x, as_rows(self._scores, x, data))
            save_pickle(file, points)
        return points


def given_by(points: Points, data: Data, centre: np.ndarray, whiten: np.ndarray) -> Emulated:
    """Return what the emulated log-density is given, fitted to ``points`` in the coordinates of ``centre`` and ``whiten``."""
    root = np.linalg.inv(whiten)
    return Emulated(data, jnp.asarray(centre), jnp.asarray(root), fitted((points.x - centre) @ root.T, points.scores))


def emulated_at(given: Emulated, x: np.ndarray):
    """Return the emulated log-likelihood at the rows of ``x``."""
    scores = jax.vmap(lambda row: given.emulator.scores(given.root @ (row - given.centre)))(jnp.asarray(x))
    return whitened_log_likelihood(scores, given.data.joint)
