"""`mezikd compare --refit`: groups of numbers left out of fits in earnest, the posteriors sampled here or on workers."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import posterior_file
from .bridge import Level, between, level
from .cluster import Remote
from .coordinates import straightened
from .groups import group_of
from .importance import Normal
from .joint_covariance import rows_of_scores, score_function
from .likelihood import Joint, Target
from .problem import Problem
from .refits import Asked, Posteriors, with_power
from .structures import LeftOut, refitted
from .tasks import Task, results_of
from .variants import structure_name
from .workers import workers

console = Console(stderr=True, highlight=False, markup=False)
MOST_BETWEEN = 3
"""Posteriors sampled between those with and without a group."""
MOST_SCORED = 1000
"""Draws of the fit itself that a bridge ends in; up to twice as many."""
OfFit = tuple[str, str]
"""Name of a fit, and a group."""


class Opened(NamedTuple):
    """A saved fit, loaded."""

    path: Path
    tree: xr.DataTree
    problem: Problem
    max_rhat: float

    @property
    def name(self) -> str:
        """Its structure."""
        return structure_name(self.problem.settings.model)


def scores_of(target: Target, z: np.ndarray) -> np.ndarray:
    """Return the scores of all numbers under each draw."""
    function = score_function(target)
    return np.stack([function(row, target.data.observed) for row in z])


def groups_of(fit: Opened) -> np.ndarray:
    """Return the group of each score."""
    return np.array([group_of(row) for row in rows_of_scores(fit.problem.target)])


def level_sampler(
    target: Target, joint: Joint, near: Normal, seed: int, max_tree_depth: int, work: Path | None = None
) -> Callable[[str, np.ndarray, float], Level]:
    """Return a function: (name, members, power) -> the level of draws in which the scores that are members count so.

    As ``Posteriors``; ``near`` is where chains begin.
    """
    posteriors = Posteriors(target, seed, max_tree_depth, work)

    def sampled(name: str, members: np.ndarray, power: float) -> Level:
        asked = Asked(target.data._replace(joint=with_power(joint, members, power)), {})
        refit = posteriors.sample(name, asked, near)
        return level(power, scores_of(target, refit.z), joint, members, refit.max_rhat)

    return sampled


class Fit(NamedTuple):
    """What the levels of a fit are made of."""

    name: str
    joint: Joint
    groups: np.ndarray
    """Group of each score."""
    scores: np.ndarray
    """Of all numbers, under draws of the fit itself."""
    max_rhat: float
    sampled: Callable[[str, np.ndarray, float], Level]
    """As ``level_sampler``, or on a worker."""

    @classmethod
    def of(cls, fit: Opened, work: Path, remote: bool) -> "Fit":
        """Return those of a saved fit."""
        target, joint = fit.problem.target, posterior_file.joint_of(fit.tree)
        z = np.asarray(fit.tree["unconstrained_posterior"]["z"])
        z = z.reshape(-1, z.shape[-1])
        x = np.asarray(straightened(z, target.parameters))
        near, s = Normal(x.mean(axis=0), np.linalg.cholesky(np.cov(x.T))), fit.problem.settings.sampler
        make = partial(level_sampler, target, joint, near, s.seed, s.max_tree_depth)
        sampled = Remote(make, posterior_file.versions()) if remote else make(work)
        scores = scores_of(target, z[:: max(1, len(z) // MOST_SCORED)])
        return cls(fit.name, joint, groups_of(fit), scores, fit.max_rhat, sampled)

    def levels(self, group: str) -> list[Level]:
        """Return the level of the fit itself."""
        return [level(1.0, self.scores, self.joint, self.groups == group, self.max_rhat)]

    def wanted(self, levels: Sequence[Level]) -> float | None:
        """Return the power at which draws are wanted next, beside ``levels``; None where they are enough."""
        if len(levels) == 1:
            return 0.0
        if len(levels) == 2 + MOST_BETWEEN:
            return None
        return between(levels, float(np.asarray(self.joint.trials)))

    def task(self, group: str, power: float, work: Path) -> Task:
        """Return the task of sampling a level."""
        name = f"{self.name} with {group} to the power {power:.3f}".replace(" ", "_")
        return Task(work / f"{name}.pickle", self.sampled, (name, self.groups == group, power))


def without_groups(
    opened: Sequence[Opened],
    weighted: Mapping[str, Mapping[str, LeftOut]],
    groups: Sequence[str],
    work: Path,
    cluster: Executor | None = None,
) -> dict[OfFit, LeftOut]:
    """Return what posteriors without each of ``groups`` say of it, by fit and group.

    Further posteriors, in which the group counts with a power, are sampled where those with and without it hardly
    overlap. What is sampled is saved in ``work``, one file each.

    Parameters
    ----------
    weighted: what weighted draws say, by fit and group.
    cluster: worker processes; without them posteriors are sampled one after the other.
    """
    fits = {fit.name: Fit.of(fit, work, cluster is not None) for fit in opened}
    levels = {(name, group): fit.levels(group) for name, fit in fits.items() for group in groups}
    found: dict[OfFit, LeftOut] = {}

    def next_of(at: OfFit) -> dict[tuple[OfFit, float], Task]:
        """Return the next task of a fit and a group, or none, once it is settled."""
        (name, group), fit = at, fits[at[0]]
        power = fit.wanted(levels[at])
        if power is not None:
            return {(at, power): fit.task(group, power, work)}
        part = found[at] = refitted(levels[at], fit.joint, fit.groups == group)
        console.print(
            f"{name} without {group}: elpd {part.elpd:.2f}, Monte Carlo error {part.error:.2f}, overlap "
            f"{part.overlap:.2f}, {len(levels[at]) - 2} between, R-hat {part.rhat:.3f} "
            f"(weights {weighted[name][group].elpd:.2f})"
        )
        return {}

    def more(key: tuple[OfFit, float], new: Level) -> dict[tuple[OfFit, float], Task]:
        levels[key[0]] = sorted([*levels[key[0]], new], key=lambda x: x.power)
        tasks = next_of(key[0])
        bar.update(shown, total=sum(len(x) - 1 for x in levels.values()) + len(levels) - len(found))
        return tasks

    columns = TextColumn("posteriors"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Posteriors that are sampled here have bars of their own.
    with Progress(*columns, console=console, disable=cluster is None) as bar, workers(1) as here:
        shown = bar.add_task("posteriors", total=len(levels))
        first = {key: task for at in levels for key, task in next_of(at).items()}
        results_of(cluster or here, first, lambda: bar.advance(shown), more)
    return found
