"""Sensitivity and learning of a saved fit, from draws to tables and figures."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import posterior_file
from .bridge import MIXED
from .cluster import Remote
from .coordinates import straightened
from .figures_sensitivity import learning_figure, tornado_figure
from .groups import group_of
from .importance import TRUSTED, Normal, Weighted
from .joint_covariance import rows_of_scores, score_function
from .learning import NEW_PATIENTS, Sampled, moves, one_more_count
from .likelihood import Target
from .power_scaling import by_group, log_priors, sensitivity_table
from .problem import Problem
from .processor import keep_memory, keep_programs
from .quantities import LOWER
from .refits import Asked, Posteriors, Refit, with_power
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .sensitivity import (
    ALTERNATIVES,
    Alternative,
    Program,
    Under,
    normal_at,
    posterior_under,
    prior_of,
    with_visits,
)
from .tasks import Task, results_of
from .workers import workers

console = Console(stderr=True, highlight=False, markup=False)
QUANTILES = (0.05, 0.5, 0.95)
TABLE = "sensitivity.csv"
QUANTITIES_AT = 400
"""Draws of a sampled posterior without a number at which quantities are computed."""


def _draws(tree: xr.DataTree, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` evenly spaced draws (draw, parameter) and their log-densities."""
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    lp = np.asarray(tree["sample_stats"]["lp"])
    return evenly(z.reshape(-1, z.shape[-1]), count), evenly(lp.reshape(-1), count)


def evenly(draws: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` evenly spaced rows of ``draws``, or all if they are fewer."""
    return draws[np.linspace(0, len(draws) - 1, min(count, len(draws))).astype(int)]


def as_fitted(problem: Problem, program: Program) -> Asked:
    """Return what the fit itself was asked for."""
    return Asked(program.data._replace(prior=prior_of(problem, {})), program.base)


class Moved(NamedTuple):
    """The posterior under an alternative, from weighted draws."""

    alternative: Alternative
    program: Program
    under: Under


class Wanted(NamedTuple):
    """A posterior to be sampled."""

    name: str
    """Which tells it from others."""
    program: Program
    asked: Asked
    near: Normal


def sampler_of(
    target: Target, seed: int, max_tree_depth: int, work: Path | None = None
) -> Callable[[str, Asked, Normal], Refit]:
    """Return a function: (name, what is asked for, where it is about) -> its draws. As ``Posteriors``."""
    return Posteriors(target, seed, max_tree_depth, work).sample


class SampledPosteriors:
    """Posteriors under alternatives or without a number, sampled here or by the worker processes of a ``cluster``.

    They are saved in ``work`` as they come.
    """

    def __init__(self, problem: Problem, work: Path, cluster: Executor | None = None):
        self._problem, self._work, self._cluster, self._samplers = problem, work, cluster, {}

    def draws(self, wanted: Sequence[Wanted]) -> dict[str, Refit]:
        """Return draws of the posteriors, by name."""
        remote, samplers, tasks = self._cluster is not None, self._samplers, {}
        for name, program, asked, near in wanted:
            if program not in samplers:
                s = self._problem.settings.sampler
                make = partial(sampler_of, program.target, s.seed, s.max_tree_depth)
                samplers[program] = Remote(make, posterior_file.versions()) if remote else make(self._work)
            place = re.sub(r"\W+", "_", name)
            tasks[name] = Task(self._work / f"{place}.pickle", samplers[program], (place, asked, near))
        # Posteriors that are sampled here have bars of their own.
        columns = TextColumn("posteriors"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, disable=not remote) as bar, workers(1) as here:
            shown = bar.add_task("posteriors", total=len(tasks))
            return results_of(self._cluster or here, tasks, lambda: bar.advance(shown))

    def without(self, program: Program, start: np.ndarray, rows: Mapping[str, np.ndarray]) -> dict[str, Sampled]:
        """Return draws of the posteriors without the scores that are true in ``rows``, from prior-scaled ``start``."""
        wanted, x = [], np.asarray(straightened(start, self._problem.parameters))
        for row, members in rows.items():
            fitted = as_fitted(self._problem, program)
            asked = fitted._replace(data=fitted.data._replace(joint=with_power(program.data.joint, members, 0.0)))
            wanted.append(Wanted(f"without {row}", program, asked, normal_at(program, asked, x)))
        return {
            name.removeprefix("without "): self._quantities(program, refit)
            for name, refit in self.draws(wanted).items()
        }

    def _quantities(self, program: Program, refit: Refit) -> Sampled:
        z = evenly(refit.z, QUANTITIES_AT)
        named = {p.name: z[:, i] for i, p in enumerate(self._problem.free)}
        return Sampled(program.quantities(z, {}) | named, refit.max_rhat)


def assumption_table(
    problem: Problem,
    program: Program,
    z: np.ndarray,
    log_density: np.ndarray,
    base: dict[str, np.ndarray],
    refits: SampledPosteriors | None = None,
) -> pd.DataFrame:
    """Return sensitivity.csv: medians and 90 % intervals of every quantity under each alternative.

    ``shift_in_sd`` is the change of the median over the posterior SD of the fit. Draws are weighted, and their ``khat``
    told; with ``refits`` they are sampled where it is above 0.7, and the ``max_rhat`` of these draws told. ``trusted``
    false means that weights are dominated by few draws, or that chains have not mixed: the direction stands, the size is
    rough.
    """
    x = np.asarray(straightened(z, problem.parameters))
    home = normal_at(program, as_fitted(problem, program), x[np.argmax(log_density)])
    columns = TextColumn("alternatives"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    every: list[Moved] = []
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("alternatives", total=len(ALTERNATIVES))
        for alternative in ALTERNATIVES:
            used = program
            if alternative.visits is not None:
                used = Program(problem, with_visits(program.target, alternative.visits), program.data)
            every.append(Moved(alternative, used, posterior_under(used, problem, alternative, x, log_density, home)))
            bar.advance(task)
    sampled: dict[str, Refit] = {}
    if refits is not None:
        for alternative, _, under in every:
            console.print(f"{alternative.name}: k-hat {under.weights.khat:.2f}")
        untrusted = [m for m in every if m.under.weights.khat > TRUSTED]
        sampled = refits.draws([Wanted(m.alternative.name, m.program, m.under.asked, m.under.near) for m in untrusted])
    lines: list[dict] = []
    with console.status("quantities under the alternatives"):
        for alternative, used, under in every:
            weights, at, rhat = under.weights, under.z, np.nan
            if alternative.name in sampled:
                refit = sampled[alternative.name]
                at = evenly(refit.z, len(z))
                weights, rhat = Weighted(np.full(len(at), 1.0 / len(at)), np.nan), refit.max_rhat
            lines += _lines(alternative, weights, used.quantities(at, alternative.changes), base, rhat)
    return pd.DataFrame(lines)


def _lines(
    alternative: Alternative,
    weighted: Weighted,
    found: dict[str, np.ndarray],
    base: dict[str, np.ndarray],
    rhat: float,
) -> list[dict]:
    trusted = weighted.khat <= TRUSTED if np.isnan(rhat) else rhat <= MIXED
    lines = []
    for name, x in found.items():
        low, median, high = (weighted.quantile(x, q) for q in QUANTILES)
        was = float(np.median(base[name]))
        lines.append(
            dict(
                assumption=alternative.assumption, value=alternative.value, quantity=name, base_median=was,
                median=median, pi90_low=low, pi90_high=high, shift=median - was,
                shift_in_sd=(median - was) / float(base[name].std()), khat=weighted.khat, max_rhat=rhat,
                trusted=trusted, extrapolated=name.startswith(LOWER.name),
            )
        )  # fmt: skip
    return lines


def run_sensitivity(
    fit: Path, out: Path, draws: int, refit: bool = False, restart: bool = False, cluster: Executor | None = None
) -> None:
    """Write sensitivity.csv, power_scaling.csv, learning.csv, next_number.csv and their figures to ``out``.

    With ``refit`` posteriors whose weights cannot be trusted are sampled, by worker processes where there is a
    ``cluster``; an interrupted run goes on, unless ``restart``.
    """
    keep_memory()
    keep_programs()
    tree, problem = posterior_file.load(fit)
    refits = None
    if refit:
        made = hashlib.sha256(fit.read_bytes()).hexdigest()
        fingerprint = json.dumps({"fit": made, "draws": draws, "versions": posterior_file.versions()})
        resume_or_begin(out, "sensitivity analysis", fingerprint, TABLE, restart)
        refits = SampledPosteriors(problem, out / UNFINISHED, cluster)
    data = problem.target.data._replace(joint=posterior_file.joint_of(tree))
    z, log_density = _draws(tree, draws)
    program = Program(problem, problem.target, data)
    with console.status("quantities and scores of the draws"):
        base = program.quantities(z, {})
        function = score_function(problem.target)
        scores = np.stack([function(row, data.observed) for row in z])
    groups = tuple(group_of(row) for row in rows_of_scores(problem.target))
    names = tuple(p.name for p in problem.free)
    power = sensitivity_table(base, log_priors(z, names), by_group(scores, data.joint, groups))
    parameters = {n: z[:, i] for i, n in enumerate(names)}
    without = None if refits is None else partial(refits.without, program, z[np.argmax(log_density)])
    learned = moves(base | parameters, scores, data.joint, problem.target.score_names, without)
    # What a count at 0.6 mg would be: the probability of the event among those treated at that dose.
    probability = base[f"{LOWER.name}: neutropenia grade >= 3, %"] / 100.0
    following = one_more_count(base | parameters, probability, NEW_PATIENTS)
    table = assumption_table(problem, program, z, log_density, base, refits)
    new = new_results(out)
    for name, frame in (
        ("power_scaling", power), ("learning", learned), ("next_number", following), ("sensitivity", table),
    ):  # fmt: skip
        frame.to_csv(new / f"{name}.csv", index=False, float_format="%.4g")
    tornado_figure(table, new / "figures" / "tornado.png")
    learning_figure(learned, tuple(base), new / "figures" / "learning.png")
    publish(out, last=TABLE)
    if refits is not None:
        drop_unfinished(out)
    _say(table, power)


def _say(table: pd.DataFrame, power: pd.DataFrame) -> None:
    strongest = np.argsort(-np.abs(table["shift_in_sd"].to_numpy(float)))[:3]
    for line in table.iloc[strongest].to_dict("records"):
        console.print(
            f"{line['assumption']} {line['value']}: {line['quantity']} {line['base_median']:.3g} -> {line['median']:.3g} "
            f"({line['shift_in_sd']:+.1f} posterior SD{'' if line['trusted'] else ', not to be trusted'})"
        )
    by = power.drop_duplicates("quantity").groupby("driven_by")["quantity"].apply(list)
    for what, quantities in by.items():
        console.print(f"decided by {what}: {'; '.join(quantities)}")
