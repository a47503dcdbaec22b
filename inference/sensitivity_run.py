"""Sensitivity and learning of a saved fit, from draws to tables and figures."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import posterior_file
from .bridge import MIXED
from .coordinates import straightened
from .figures_sensitivity import learning_figure, tornado_figure
from .files import load_pickle, save_pickle
from .groups import group_of
from .importance import TRUSTED, Normal, Weighted
from .joint_covariance import rows_of_scores, score_function
from .learning import NEW_PATIENTS, Sampled, moves, one_more_count
from .power_scaling import by_group, log_priors, sensitivity_table
from .problem import Problem
from .processor import keep_memory, keep_programs
from .quantities import LOWER
from .refits import Asked, Refit, Refitter, with_power
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .sensitivity import (
    ALTERNATIVES,
    Alternative,
    Program,
    normal_at,
    posterior_under,
    prior_of,
    with_visits,
)

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


class SampledPosteriors:
    """Posteriors under alternatives or without a number, sampled; saved in ``work`` as they come."""

    def __init__(self, problem: Problem, work: Path):
        self._problem, self._work, self._compiled = problem, work, {}

    def draws(self, program: Program, name: str, asked: Asked, near: Normal) -> Refit:
        """Return draws of the posterior that is ``asked`` for, which ``name`` tells from others."""
        place = self._work / re.sub(r"\W+", "_", name)
        file = place.with_suffix(".pickle")
        saved = load_pickle(file)
        if saved is None:
            if program not in self._compiled:
                s = self._problem.settings.sampler
                self._compiled[program] = Refitter(program.target, asked, s.seed, s.max_tree_depth)
            place.mkdir(exist_ok=True)
            saved = self._compiled[program].sample(asked, near, place, console)
            save_pickle(file, saved)
        return saved

    def without(self, program: Program, start: np.ndarray, reported: str, members: np.ndarray) -> Sampled:
        """Return draws of the posterior without the scores that are ``members``, from prior-scaled ``start``."""
        fitted = as_fitted(self._problem, program)
        asked = fitted._replace(data=fitted.data._replace(joint=with_power(program.data.joint, members, 0.0)))
        near = normal_at(program, asked, np.asarray(straightened(start, self._problem.parameters)))
        refit = self.draws(program, f"without {reported}", asked, near)
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
    lines: list[dict] = []
    with Progress(*columns, console=console, disable=refits is not None) as bar:
        task = bar.add_task("alternatives", total=len(ALTERNATIVES))
        for alternative in ALTERNATIVES:
            used = program
            if alternative.visits is not None:
                used = Program(problem, with_visits(program.target, alternative.visits), program.data)
            under, rhat = posterior_under(used, problem, alternative, x, log_density, home), np.nan
            if refits is not None:
                console.print(f"{alternative.name}: k-hat {under.weights.khat:.2f}")
                if under.weights.khat > TRUSTED:
                    refit = refits.draws(used, alternative.name, under.asked, under.near)
                    thin = evenly(refit.z, len(z))
                    rhat, even = refit.max_rhat, Weighted(np.full(len(thin), 1.0 / len(thin)), np.nan)
                    under = under._replace(weights=even, z=thin)
            lines += _lines(alternative, under.weights, used.quantities(under.z, alternative.changes), base, rhat)
            bar.advance(task)
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


def run_sensitivity(fit: Path, out: Path, draws: int, refit: bool = False, restart: bool = False) -> None:
    """Write sensitivity.csv, power_scaling.csv, learning.csv, next_number.csv and their figures to ``out``.

    With ``refit`` posteriors whose weights cannot be trusted are sampled; an interrupted run goes on, unless
    ``restart``.
    """
    keep_memory()
    keep_programs()
    tree, problem = posterior_file.load(fit)
    refits = None
    if refit:
        made = hashlib.sha256(fit.read_bytes()).hexdigest()
        fingerprint = json.dumps({"fit": made, "draws": draws, "versions": posterior_file.versions()})
        resume_or_begin(out, "sensitivity analysis", fingerprint, TABLE, restart)
        refits = SampledPosteriors(problem, out / UNFINISHED)
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
