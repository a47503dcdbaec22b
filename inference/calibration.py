"""Simulation-based calibration: is the truth where the intervals say, in trials whose truth is known? (inference.md, 5)

Parameters are drawn from a prior; an exact trial of the real size is simulated (discrete holds, regions, follow-up); the
paper's estimators reduce it to the reported numbers; the model is fitted to these with the same prior and the likelihood
in use, started as a user's fit starts; the truth is ranked among the draws (Talts et al. 2018). The trials follow from the
seed alone and none is dropped. Errors of the virtual patients and of the mean-field rules are inside.

The declared prior reaches trials that nobody would report (all patients neutropenic, nobody progressing), so the default
is narrower: normal with the mean of a posterior and ``widen`` times its SDs, at most the declared ones. It is the prior of
the trial and of the fit, so ranks are uniform if and only if the fit is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .coordinates import prior_scaled, straightened
from .joint_covariance import joined, score_function
from .likelihood import Data, Prior, independent
from .mode import find_mode, laplace
from .observed import Observed
from .problem import Problem
from .processor import compiler_options
from .quantities import quantity_function
from .reported_trial import reported_by
from .sampler import BLOCK, Geometry, Sampler, SamplerSettings, frozen, in_background, run_chain
from .step_size import common_step
from .trial import simulated_trials
from .whitening import refined

VERSIONS = ("independent", "covariance")
"""How reported numbers vary together; the second is in use."""
RANKED = 39
"""Draws among which the truth is ranked: 40 ranks, of which 36 are a 90 % and 20 a 50 % interval."""
THIN = 3
"""Every so many draws are ranked, so that they are about independent."""


def normal_prior(z: np.ndarray, widen: float) -> Prior:
    """Return the normal with the mean of draws ``z`` and ``widen`` times their SDs, nowhere wider than the declared prior."""
    values, vectors = np.linalg.eigh(np.cov(z.T))
    values = np.minimum(widen**2 * values, 1.0)
    return Prior(jnp.asarray(z.mean(axis=0)), jnp.asarray((vectors / np.sqrt(values)).T))


def drawn_truths(prior: Prior | None, parameters: int, trials: int, seed: int) -> np.ndarray:
    """Return prior-scaled coordinates of ``trials`` truths."""
    u = np.random.default_rng([seed, 11]).standard_normal((trials, parameters))
    if prior is None:
        return u
    return np.asarray(prior.centre) + np.linalg.solve(np.asarray(prior.root), u.T).T


def simulated_evidence(problem: Problem, truths: np.ndarray, seed: int) -> list[Observed]:
    """Return what the trial of each truth would have reported."""
    trials = simulated_trials(truths, problem.parameters, problem.target.design, seed)
    return [reported_by(trial, problem.evidence) for trial, _ in trials]


class Fitted(NamedTuple):
    """One trial's fit in one version."""

    draws: dict[str, np.ndarray]
    """Ranked draws of every quantity and parameter."""
    accept: float
    divergences: int


class TrialFit(NamedTuple):
    """One trial: the truth of every quantity and parameter, and the fits by version."""

    truth: dict[str, float]
    fits: dict[str, Fitted]


@dataclass(frozen=True)
class Calibrator:
    """Everything compiled that one trial's fit needs; shared by the threads of a process."""

    problem: Problem
    prior: Prior | None
    settings: SamplerSettings
    covariance_trials: int
    versions: Sequence[str]
    gradient: Any
    sampler: Sampler
    scores: Any
    quantities: Any

    @classmethod
    def build(
        cls,
        problem: Problem,
        prior: Prior | None,
        settings: SamplerSettings,
        covariance_trials: int,
        versions: Sequence[str] = VERSIONS,
    ) -> "Calibrator":
        """Compile; a minute or two, on two cores."""
        target = problem.target
        data = target.data._replace(prior=prior)
        along = target.in_single().sampled_log_density
        waiting = in_background(Sampler, target.sampled_log_density, len(problem.free), data, settings, along)
        function = jax.jit(jax.value_and_grad(along), compiler_options=compiler_options())
        scores, quantities, z = score_function(target), quantity_function(target), np.zeros(len(problem.free))
        _ = function(z, data), scores(z, data.observed), quantities(z)
        found = waiting.result()
        return cls(problem, prior, settings, covariance_trials, versions, function, found, scores, quantities)

    def named(self, z: np.ndarray) -> dict[str, float]:
        """Return the quantities and the parameters at coordinates ``z``."""
        parameters = {p.name: float(p.from_standard(x)) for p, x in zip(self.problem.free, z, strict=True)}
        return {k: float(v) for k, v in self.quantities(z).items()} | parameters

    def fit(self, index: int, truth: np.ndarray, observed: Observed, seed: int) -> TrialFit:
        """Fit one trial, in each version; a pure function of its arguments. A version is fitted alike alone and beside others."""
        target = self.problem.target
        data = Data(observed, independent(len(target.score_names)), self.prior)
        centre = np.zeros(len(truth)) if self.prior is None else np.asarray(self.prior.centre)
        spread = np.random.default_rng([seed, index, 13]).standard_normal(len(truth))
        starts = self._sampled(np.stack([centre, centre + 0.3 * spread]))
        found, _, _ = find_mode(partial(self._slope, data), starts)
        at = np.asarray(prior_scaled(found, self.problem.parameters))
        both = joined(target, data, self.scores, at, self.covariance_trials, seed + 7919 * (index + 1))
        mode = laplace(partial(self._slope, both), found[None])
        geometry = Geometry(jnp.asarray(mode.z), jnp.asarray(mode.whiten), both)
        geometry, last, covariance = self._chain(index, geometry, None)
        fits = {"covariance": covariance}
        if "independent" in self.versions:
            fits = {"independent": self._chain(index, geometry._replace(data=data), last)[2]} | fits
        return TrialFit(self.named(truth), fits)

    def _sampled(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(straightened(z, self.problem.parameters))

    def _slope(self, data: Data, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = self.gradient(x, data)
        return float(value), np.asarray(slope)

    def _chain(self, index: int, geometry: Geometry, start: np.ndarray | None) -> tuple[Geometry, np.ndarray, Fitted]:
        """Return the coordinates in use, the last draw and the ranked draws; with ``start`` the pilot is left out."""
        s, gradient = self.settings, partial(self._slope, geometry.data)

        def blocks(total, begin):
            return run_chain(self.sampler, geometry, begin, total, None, lambda *_: None)

        if start is None:
            _, pilot = blocks(s.pilot_blocks(), partial(self.sampler.start, index, geometry, None, gradient))
            geometry, start = refined(geometry, [pilot]), pilot[-1].z[-1]
        state, adapted = blocks(s.step_blocks(), partial(self.sampler.start, index, geometry, start, gradient))
        step = common_step([adapted], s.target_accept)
        _, kept = blocks(s.draw_blocks(), partial(frozen, state, s, step))
        x = np.concatenate([b.z for b in kept])
        z = np.asarray(prior_scaled(x[::-1][: RANKED * THIN : THIN], self.problem.parameters))
        each = [self.named(row) for row in z]
        draws = {name: np.array([d[name] for d in each]) for name in each[0]}
        accept = float(np.mean([b.accept.mean() for b in kept]))
        return geometry, x[-1], Fitted(draws, accept, int(sum(b.diverging.sum() for b in kept)))


def settings_of(seed: int, target_accept: float) -> SamplerSettings:
    """Return the short sampling of one trial: one chain, 75 warm-up and RANKED x THIN kept draws (in whole blocks)."""
    draws = -(-RANKED * THIN // BLOCK) * BLOCK
    return SamplerSettings(chains=1, warmup=75, draws=draws, seed=seed, target_accept=target_accept, max_tree_depth=3)
