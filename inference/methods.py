"""The two samplers of a fit to reported numbers: NUTS, one chain a core, or many chains side by side, for a GPU.

NUTS in one program would make all chains wait for the longest trajectory at each transition. Side by side all take the same
number of steps (side_by_side.py). Both follow trajectories in float32 and accept by the float64 density: draws of either are
of the same posterior, and pass the same gate.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from .likelihood import Target
from .mode import CORES, Gradient
from .sampler import Geometry, Sampler, SamplerSettings
from .sampling import Sampled, sample
from .side_by_side import Scale, SideBySide
from .side_by_side_run import sample_side_by_side


def compiled_sampler(target: Target, settings: SamplerSettings, side_by_side: bool) -> Sampler | SideBySide:
    """Return the sampler of ``target``, compiled."""
    wanted, along = target.sampled_log_density, target.in_single().sampled_log_density
    n = sum(not p.fixed for p in target.parameters)
    if not side_by_side:
        return Sampler(wanted, n, target.data, settings, along)
    wanted, along = (jax.vmap(f, in_axes=(0, None)) for f in (wanted, along))
    return SideBySide(wanted, settings.chains, n, n, target.data, along)


def draws_of(
    sampler: Sampler | SideBySide,
    settings: SamplerSettings,
    geometry: Geometry,
    gradient: Gradient,
    work: Path,
    kept_as: Callable[[np.ndarray], Any],
    console: Console,
    at_once: int = CORES,
) -> Sampled:
    """Return the kept draws of every chain, which begin at draws of the approximation that ``geometry`` stands for.

    As ``sampling.sample``; ``at_once`` chains of NUTS run at a time.
    """
    if isinstance(sampler, SideBySide):
        scale = Scale(np.asarray(geometry.centre), np.asarray(geometry.whiten), np.zeros(0))
        return sample_side_by_side(sampler, settings, scale, geometry.data, work, console, kept_as)
    return sample(sampler, geometry, gradient, work, kept_as, console, at_once)
