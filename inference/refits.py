"""A fit again without one group of reported numbers: where importance weights cannot tell what it would have predicted.

One compiled sampler serves all groups of a structure: a group is left out of the joint law that the log-density is given
at run time, or counts there with a power between 0 and 1. Chains begin at draws of the fit to all numbers, in coordinates
whitened by these draws; the pilot then finds those of the wider posterior.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from .coordinates import prior_scaled, straightened
from .diagnostics import largest_rhat
from .likelihood import Joint, Target, part_of
from .pipeline import SingleGradient
from .sampler import Geometry, Sampler, SamplerSettings
from .sampling import sample

CHAINS, WARMUP, DRAWS = 4, 75, 200
"""Enough for a bridge (bridge.py): its Monte Carlo error is below the differences that matter, and told."""


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


class Refit(NamedTuple):
    """Draws in which a group counts with a power."""

    z: np.ndarray
    """Prior-scaled, by chain, shape ``(draws, parameter)``."""
    max_rhat: float


class Refitter:
    """Fits of one structure without some of its numbers."""

    def __init__(self, target: Target, z: np.ndarray, joint: Joint, seed: int, max_tree_depth: int):
        """Compile the sampler; ``z`` are prior-scaled draws of the fit to all numbers, shape ``(draws, parameter)``."""
        self._target, self._joint = target, joint
        self._x = np.asarray(straightened(z, target.parameters))
        self._data = target.data._replace(joint=joint)
        settings = SamplerSettings(CHAINS, WARMUP, DRAWS, seed=seed, max_tree_depth=max_tree_depth)
        along = target.in_single().sampled_log_density
        self._sampler = Sampler(target.sampled_log_density, z.shape[-1], self._data, settings, along)
        self._gradient = SingleGradient(target)

    def sample(self, members: np.ndarray, power: float, work: Path, console: Console) -> Refit:
        """Return draws of the posterior in which the scores that are ``members`` count with a power, 0 without them.

        ``work`` keeps blocks as they come.
        """
        data = self._data._replace(joint=with_power(self._joint, members, power))
        centre, root = self._x.mean(axis=0), np.linalg.cholesky(np.cov(self._x.T))
        geometry = Geometry(jnp.asarray(centre), jnp.asarray(root), jax.tree.map(jnp.asarray, data))
        self._gradient.data = geometry.data
        kept = partial(prior_scaled, parameters=self._target.parameters)
        z = sample(self._sampler, geometry, self._gradient, work, kept, console).draws.z
        return Refit(z.reshape(-1, z.shape[-1]), largest_rhat(z))
