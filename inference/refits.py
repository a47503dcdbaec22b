"""Fits again, of other numbers or under other assumptions: where importance weights cannot tell what they would say.

One compiled sampler serves all fits of one structure: reported numbers, their joint law, priors and assumptions are what
the log-density is given at run time. Groups of numbers are left out of the joint law, or count there with a power between 0
and 1.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from .coordinates import prior_scaled
from .diagnostics import largest_rhat
from .importance import Normal
from .likelihood import Data, Joint, Target, part_of
from .processor import compiler_options, keep_memory, keep_programs
from .sampler import Geometry, LogDensity, Sampler, SamplerSettings
from .sampling import sample

console = Console(stderr=True, highlight=False, markup=False)
CHAINS, WARMUP, DRAWS = 4, 75, 200
"""Enough for a bridge (bridge.py) and for medians; the Monte Carlo error is told."""


def with_power(joint: Joint, members: np.ndarray, power: float) -> Joint:
    """Return the joint law in which the scores that are ``members`` count with a power, 0 (not at all) to 1, same shape.

    The squared distance is (1 - power) that of the other scores + power that of all.
    """
    keep = np.flatnonzero(~members)
    part = np.asarray(part_of(joint, keep).root)
    root = np.zeros(np.shape(joint.root))
    root[np.ix_(keep, keep)] = part
    if power > 0.0:
        whole = np.asarray(joint.root)
        precision = (1.0 - power) * root.T @ root + power * whole.T @ whole
        root = np.linalg.cholesky(precision).T
    return Joint(jnp.asarray(joint.mean), jnp.asarray(root), joint.trials)


class Asked(NamedTuple):
    """What a fit is asked for."""

    data: Data
    changes: dict[str, float]
    """Of parameters and assumptions, in natural units (``Target.log_density``); the same keys in all fits."""


class Refit(NamedTuple):
    """Draws of a fit again."""

    z: np.ndarray
    """Prior-scaled, by chain, shape ``(draws, parameter)``."""
    max_rhat: float


class Refitter:
    """Fits again of one structure."""

    def __init__(self, target: Target, asked: Asked, seed: int, max_tree_depth: int):
        """Compile the sampler; ``asked`` gives the shapes."""
        self._target = target

        def density(of: Target) -> LogDensity:
            return lambda x, asked: of.sampled_log_density(x, asked.data, asked.changes)

        settings = SamplerSettings(CHAINS, WARMUP, DRAWS, seed=seed, max_tree_depth=max_tree_depth)
        wanted, along = density(target), density(target.in_single())
        self._sampler = Sampler(wanted, sum(not p.fixed for p in target.parameters), asked, settings, along)
        self._gradient = jax.jit(jax.value_and_grad(along), compiler_options=compiler_options())

    def sample(self, asked: Asked, near: Normal, work: Path, console: Console) -> Refit:
        """Return draws of the posterior that is ``asked`` for; chains begin at draws of ``near``, the sampler's coordinates.

        ``work`` keeps blocks as they come.
        """
        given = jax.tree.map(jnp.asarray, asked)
        geometry = Geometry(jnp.asarray(near.centre), jnp.asarray(near.root), given)

        def gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._gradient(x, given)
            return float(value), np.asarray(slope)

        kept = partial(prior_scaled, parameters=self._target.parameters)
        z = sample(self._sampler, geometry, gradient, work, kept, console).draws.z
        return Refit(z.reshape(-1, z.shape[-1]), largest_rhat(z))


class Posteriors:
    """Posteriors of one structure, each sampled when it is asked for; compiled with the first one."""

    def __init__(self, target: Target, seed: int, max_tree_depth: int, work: Path | None = None):
        """``work`` keeps blocks of draws, in a folder for each posterior; None on a worker, which keeps and says nothing."""
        self._target, self._seed, self._max_tree_depth, self._work = target, seed, max_tree_depth, work
        self._refitter: Refitter | None = None

    def sample(self, name: str, asked: Asked, near: Normal) -> Refit:
        """Return draws of the posterior that is ``asked`` for; ``name`` is that of its folder. As ``Refitter.sample``."""
        if self._refitter is None:
            keep_memory()
            keep_programs()
            self._refitter = Refitter(self._target, asked, self._seed, self._max_tree_depth)
        if self._work is None:
            with TemporaryDirectory(prefix="mezikd-") as place:
                return self._refitter.sample(asked, near, Path(place), Console(quiet=True))
        place = self._work / name
        place.mkdir(exist_ok=True)
        return self._refitter.sample(asked, near, place, console)
