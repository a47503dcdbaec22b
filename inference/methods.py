"""The samplers of a fit to reported numbers: NUTS, one chain a core; along an emulator; many chains side by side, for a GPU.

NUTS in one program would make all chains wait for the longest trajectory at each transition. Side by side all take the same
number of steps (side_by_side.py). Both follow trajectories in float32, ``emulated`` ones those of an emulator (emulated.py);
all accept by the float64 density: draws are of the same posterior, and pass the same gate.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from .coordinates import prior_scaled
from .emulated import EmulatedSampler
from .joint_covariance import joined, score_function
from .likelihood import Target
from .mode import CORES, Gradient, find_mode, laplace
from .processor import compiler_options
from .sampler import Geometry, Sampler, SamplerSettings, in_background
from .sampling import Enough, KeptAs, Sampled, sample
from .side_by_side import Scale, SideBySide
from .side_by_side_run import sample_side_by_side


class Method(Protocol):
    """A way from a target to draws of its posterior."""

    at_once: int
    """Chains that run at a time."""

    def geometry(self, covariance_trials: int | None) -> tuple[Geometry, int]:
        """Return the normal approximation, with what the log-density is given, and the computations that it took.

        Mode with the numbers as if independent, ``covariance_trials`` simulated there, mode and curvature with their joint
        law; None: as if independent.
        """
        ...

    def wait(self) -> None:
        """Return when everything is compiled."""
        ...

    def draws(self, geometry: Geometry, work: Path, kept_as: KeptAs, console: Console, enough: Enough) -> Sampled:
        """Return the kept draws of every chain (``sampling.sample``)."""
        ...


def method_of(target: Target, settings: SamplerSettings, name: str) -> Method:
    """Return the method of fit.toml's ``name``; its programs compile in a thread of their own."""
    if name == "emulated":
        return EmulatedSampler(target, settings)
    return ByGradients(target, settings, side_by_side=name == "side_by_side")


class SingleGradient:
    """Compiled value and gradient of the log-density in the sampler's coordinates, counted; in float32 (precision.py)."""

    def __init__(self, target: Target):
        function = jax.value_and_grad(target.in_single().sampled_log_density)
        self._function = jax.jit(function, compiler_options=compiler_options())
        self.data = target.data
        self.calls = 0
        # Two programs that begin in another order on each of several devices wait for each other for ever.
        self._alone = nullcontext() if target.over is None else Lock()

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        self.calls += 1
        with self._alone:
            value, slope = self._function(z, self.data)
            return float(value), np.asarray(slope)


class ByGradients:
    """NUTS, or chains side by side, from the mode that gradients lead to."""

    def __init__(self, target: Target, settings: SamplerSettings, side_by_side: bool):
        # Chains whose programs span several devices would wait for each other.
        self.at_once = 1 if side_by_side or target.over is not None else min(settings.chains, CORES)
        self._target, self._settings = target, settings
        self._sampler = in_background(compiled_sampler, target, settings, side_by_side)
        self._gradient = SingleGradient(target)

    def geometry(self, covariance_trials: int | None) -> tuple[Geometry, int]:
        """Return the Laplace approximation and the gradients that it took."""
        gradient, target, seed = self._gradient, self._target, self._settings.seed
        n = sum(not p.fixed for p in target.parameters)
        rng = np.random.default_rng([seed, 1])
        starts = np.stack([np.zeros(n), 0.5 * rng.standard_normal(n)])
        z, _, _ = find_mode(gradient, starts)
        if covariance_trials is not None:
            at, one = np.asarray(prior_scaled(z, target.parameters)), replace(target, over=None)
            gradient.data = joined(one, gradient.data, score_function(one), at, covariance_trials, seed)
        mode = laplace(gradient, z[None])
        return Geometry(jnp.asarray(mode.z), jnp.asarray(mode.whiten), gradient.data), gradient.calls

    def wait(self) -> None:
        """Return when the sampler is compiled."""
        self._sampler.result()

    def draws(self, geometry: Geometry, work: Path, kept_as: KeptAs, console: Console, enough: Enough) -> Sampled:
        """Return the kept draws of every chain."""
        sampler, self._gradient.data = self._sampler.result(), geometry.data
        return draws_of(sampler, self._settings, geometry, self._gradient, work, kept_as, console, self.at_once, enough)


def compiled_sampler(target: Target, settings: SamplerSettings, side_by_side: bool) -> Sampler | SideBySide:
    """Return the sampler of ``target`` that needs its gradient, compiled."""
    wanted, along = target.sampled_log_density, target.in_single().sampled_log_density
    n = sum(not p.fixed for p in target.parameters)
    if not side_by_side:
        return Sampler(wanted, n, target.data, settings, along)
    wanted, along = (jax.vmap(f, in_axes=(0, None)) for f in (wanted, along))
    # Programs that span several devices run one at a time.
    return SideBySide(wanted, settings.chains, n, n, target.data, along, parts=None if target.over is None else 1)


def draws_of(
    sampler: Sampler | SideBySide,
    settings: SamplerSettings,
    geometry: Geometry,
    gradient: Gradient,
    work: Path,
    kept_as: KeptAs,
    console: Console,
    at_once: int = CORES,
    enough: Enough | None = None,
) -> Sampled:
    """Return the kept draws of every chain, which begin at draws of the approximation that ``geometry`` stands for.

    As ``sampling.sample``; ``at_once`` chains of NUTS run at a time.
    """
    if isinstance(sampler, SideBySide):
        centre = np.asarray(geometry.centre)
        scale = Scale(centre, np.asarray(geometry.whiten), np.zeros(0), np.zeros((0, len(centre))))
        return sample_side_by_side(sampler, settings, scale, geometry.data, work, console, kept_as, enough)
    return sample(sampler, geometry, gradient, work, kept_as, console, at_once, enough=enough)
