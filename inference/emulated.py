"""HMC along an emulated log-density, accepted by the exact one: a fit without gradients of the model.

The emulator (emulator.py) is fitted to the scores, computed in float32, at points of the normal approximation
(gauss_newton.py), then twice again with points that NUTS drew from a power of the emulated posterior before. The kept chains
make two transitions of HMC in the last emulated posterior, then the float64 log-density accepts or refuses where these led
(sampler.py): draws are of the exact posterior however rough the emulator is, which decides only how many are refused.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

from .coordinates import prior_scaled
from .emulator import Emulator, doubt_of, emulated_log_likelihood, fitted
from .files import load_pickle, save_pickle
from .gauss_newton import as_rows, normal_approximation
from .importance import Normal
from .jittered import Jittered
from .joint_covariance import joined
from .likelihood import Data, Target, whitened_log_likelihood
from .mode import CORES
from .observed import Observed
from .processor import compiler_options
from .sampler import BLOCK, Geometry, LogDensity, Sampler, SamplerSettings
from .sampling import Enough, KeptAs, Sampled, sample
from .trial import compile_simulator

FIRST_POINTS, POINTS, ROUNDS = 1500, 1500, 3
"""Points of the normal approximation, and those of each round after it."""
POWER = 0.8
"""Power of the emulated posterior that points are drawn from: its ends, where the emulator is worst, are bent."""
CHAINS, WARMUP, EXPLORED_DEPTH = 4, 75, 5
"""Of NUTS on the emulated posterior."""
JITTERED = Jittered(0.8, 2.4, 2, 2.0)
"""About a quarter of the period of a standard normal, whose draws have then forgotten where they came from; short ones above
a gap of 2: without them chains stood still for up to 257 draws."""
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
    offset: Float[Array, ""]
    """What the log-density usually is above that of the emulated scores."""


def emulated_log_density(target: Target) -> LogDensity:
    """Return the log-density of the emulated scores at the sampler's coordinates x, up to a constant."""

    def density(x, given: Emulated):
        u, prior = given.root @ (x - given.centre), target.log_prior(prior_scaled(x, target.parameters), given.data)
        return emulated_log_likelihood(given.emulator, u, given.data.joint) + prior + given.offset

    return density


def exact_log_density(target: Target) -> LogDensity:
    """Return the log-density that is wanted, compiled: it shares its programs with what reads draws."""
    scaled = jax.jit(partial(prior_scaled, parameters=target.parameters))

    def at(x, data: Data):
        z = scaled(x)
        return target.compiled_given(target.compiled_expected(z), z, data)[0]

    data = jax.tree.map(lambda v: jnp.asarray(np.asarray(v)), target.data)
    at(jnp.zeros(sum(not p.fixed for p in target.parameters)), data)
    return lambda x, given: at(x, given.data)


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
        blank = Emulator(jnp.zeros(s), jnp.zeros((s, n)), jnp.zeros((s, n, n)), jnp.zeros(s))
        given = Emulated(target.data, jnp.zeros(n), jnp.eye(n), blank, jnp.zeros(()))

        def scores(x, data: Data):
            return single.whitened_scores(single.expected(prior_scaled(x, target.parameters), data.observed), data)

        settings = replace(settings, jittered=JITTERED, target_accept=max(settings.target_accept, CAREFUL))
        explored = SamplerSettings(CHAINS, WARMUP, POINTS // CHAINS, seed=settings.seed, max_tree_depth=EXPLORED_DEPTH)
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")  # in the order of their use, beside the main thread
        self._simulator = pool.submit(compile_simulator, target.parameters, target.design)
        self._explorer = pool.submit(Sampler, lambda x, given: POWER * along(x, given), n, given, explored)
        self._sampler = pool.submit(lambda: Sampler(exact_log_density(target), n, given, settings, along, apart=True))
        pool.shutdown(wait=False)
        self._gradient = jax.jit(jax.value_and_grad(along), compiler_options=compiler_options())
        self._compiled = jax.jit(scores, compiler_options=compiler_options()).lower(jnp.zeros(n), target.data).compile()
        self._target, self.settings, self.at_once = target, settings, min(settings.chains, CORES)

    def wait(self) -> None:
        """Return when the samplers are compiled."""
        for future in (self._sampler, self._explorer):
            future.result()

    def _scores(self, x: np.ndarray, data: Data) -> np.ndarray:
        """Return the whitened scores at the sampler's coordinates ``x``, computed in float32."""
        return np.asarray(self._compiled(x, data))

    def geometry(self, covariance_trials: int | None) -> tuple[Geometry, int]:
        """Return the normal approximation, with what the log-density is given, and how often the scores were computed.

        As ``methods.Method``.
        """
        target, data = self._target, self._target.data
        start = np.zeros(sum(not p.fixed for p in target.parameters))
        found, computed = normal_approximation(self._scores, target, data, start)
        if covariance_trials is not None:
            self._simulator.result()
            x = found.centre

            def of_trial(_: np.ndarray, observed: Observed) -> np.ndarray:  # not whitened yet: as if independent
                return self._scores(x, target.data._replace(observed=observed))

            at = np.asarray(prior_scaled(x, target.parameters))
            data = joined(target, data, of_trial, at, covariance_trials, self.settings.seed)
            found, more = normal_approximation(self._scores, target, data, x)
            computed += covariance_trials + more
        return Geometry(jnp.asarray(found.centre), jnp.asarray(found.root), data), computed

    def draws(self, geometry: Geometry, work: Path, kept_as: KeptAs, console: Console, enough: Enough) -> Sampled:
        """Return the kept draws of every chain, as ``sampling.sample``; ``geometry`` is the normal approximation.

        ``gradients`` of what is returned are computations of the model, which need no gradient here.
        """
        begin, cpu, s = time.perf_counter(), time.process_time(), self.settings
        with console.status("emulator"):
            there, computed = self.trained(geometry, work, console)
        slope = self._slope(there.data)
        found = sample(self._sampler.result(), there, slope, work, kept_as, console, refine=False, enough=enough)
        computed += found.draws.steps.size + s.chains * BLOCK * s.step_blocks()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        return found._replace(gradients=computed, seconds=seconds, cpu_seconds=cpu)

    def _slope(self, given: Emulated, power: float = 1.0):
        def gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._gradient(x, given)
            return power * float(value), power * np.asarray(slope)

        return gradient

    def trained(self, geometry: Geometry, work: Path, console: Console) -> tuple[Geometry, int]:
        """Return the geometry of the emulated posterior, whose data have the emulator, and the points it took."""
        data, at = geometry.data, Normal(np.asarray(geometry.centre), np.asarray(geometry.whiten))
        rng = np.random.default_rng([self.settings.seed, 11])
        u, wider = rng.standard_normal((FIRST_POINTS, len(at.centre))), 1.0 / np.sqrt(POWER)
        points = self._computed(at.centre + wider * u @ at.root.T, data, work / "points0.pickle")
        doubt = np.zeros(len(self._target.kept))
        for k in range(ROUNDS):
            given = given_by(points, data, at, doubt)
            place = work / f"emulated{k}"
            place.mkdir(exist_ok=True)
            near = Geometry(jnp.asarray(at.centre), jnp.asarray(wider * at.root), given)
            x = sample(self._explorer.result(), near, self._slope(given, POWER), place, np.asarray, QUIET).draws.z
            x = x.reshape(-1, len(at.centre))
            at = Normal(x.mean(axis=0), np.linalg.cholesky(np.cov(x.T)) / wider)
            new = self._computed(x, data, work / f"points{k + 1}.pickle")
            u = (x - np.asarray(given.centre)) @ np.asarray(given.root).T
            doubt = doubt_of(given.emulator, u, new.scores)
            console.print(
                f"emulator of {len(points.x)} points: misses the scores by {np.sqrt(doubt.mean()):.2f} of their SD among trials"
            )
            points = Points(*(np.concatenate(pair) for pair in zip(points, new, strict=True)))
        given = given_by(points, data, at, doubt)
        return Geometry(jnp.asarray(at.centre), jnp.asarray(at.root), given), len(points.x)

    def _computed(self, x: np.ndarray, data: Data, file: Path) -> Points:
        """Return the scores at the rows of ``x``, or what is in ``file`` if they have been computed."""
        points = load_pickle(file)
        if points is None:
            points = Points(x, as_rows(self._scores, x, data))
            save_pickle(file, points)
        return points


def given_by(points: Points, data: Data, at: Normal, doubt: np.ndarray) -> Emulated:
    """Return what the emulated log-density is given, fitted to ``points`` in coordinates in which ``at`` is standard normal."""
    root = np.linalg.inv(at.root)
    u = (points.x - at.centre) @ root.T
    emulator = fitted(u, points.scores, doubt)
    exact = whitened_log_likelihood(jnp.asarray(points.scores), data.joint)
    gap = exact - jax.vmap(partial(emulated_log_likelihood, emulator, joint=data.joint))(jnp.asarray(u))
    return Emulated(data, jnp.asarray(at.centre), jnp.asarray(root), emulator, jnp.nanmedian(gap))
