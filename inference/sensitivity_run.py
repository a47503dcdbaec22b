"""Sensitivity and learning of a saved fit, from draws to tables and figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import posterior_file
from .coordinates import straightened
from .figures_sensitivity import learning_figure, tornado_figure
from .groups import group_of
from .importance import TRUSTED, Weighted
from .joint_covariance import rows_of_scores, score_function
from .learning import NEW_PATIENTS, moves, one_more_count
from .power_scaling import by_group, log_priors, sensitivity_table
from .problem import Problem
from .processor import keep_memory, keep_programs
from .quantities import LOWER
from .results_folder import new_results, publish
from .sensitivity import ALTERNATIVES, Alternative, Program, normal_at, posterior_under, prior_of, with_visits

console = Console(stderr=True, highlight=False, markup=False)
QUANTILES = (0.05, 0.5, 0.95)


def _draws(tree: xr.DataTree, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` evenly spaced draws (draw, parameter) and their log-densities."""
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    lp = np.asarray(tree["sample_stats"]["lp"])
    chosen = np.linspace(0, lp.size - 1, min(count, lp.size)).astype(int)
    return z.reshape(-1, z.shape[-1])[chosen], lp.reshape(-1)[chosen]


def assumption_table(
    problem: Problem, program: Program, z: np.ndarray, log_density: np.ndarray, base: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Return sensitivity.csv: medians and 90 % intervals of every quantity under each alternative.

    ``shift_in_sd`` is the change of the median over the posterior SD of the fit; ``weights_trusted`` false means that the
    importance weights are dominated by few draws: the direction stands, the size is rough.
    """
    x = np.asarray(straightened(z, problem.parameters))
    home = normal_at(program, prior_of(problem, {}), {}, x[np.argmax(log_density)])
    columns = TextColumn("alternatives"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    lines: list[dict] = []
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("alternatives", total=len(ALTERNATIVES))
        for alternative in ALTERNATIVES:
            used = program
            if alternative.visits is not None:
                used = Program(problem, with_visits(program.target, alternative.visits), program.data)
            weighted, moved = posterior_under(used, problem, alternative, x, log_density, home)
            lines += _lines(alternative, weighted, used.quantities(moved, alternative.changes), base)
            bar.advance(task)
    return pd.DataFrame(lines)


def _lines(
    alternative: Alternative, weighted: Weighted, found: dict[str, np.ndarray], base: dict[str, np.ndarray]
) -> list[dict]:
    lines = []
    for name, x in found.items():
        low, median, high = (weighted.quantile(x, q) for q in QUANTILES)
        was = float(np.median(base[name]))
        lines.append(
            dict(
                assumption=alternative.assumption, value=alternative.value, quantity=name, base_median=was,
                median=median, pi90_low=low, pi90_high=high, shift=median - was,
                shift_in_sd=(median - was) / float(base[name].std()), khat=weighted.khat,
                weights_trusted=weighted.khat <= TRUSTED, extrapolated=name.startswith(LOWER.name),
            )
        )  # fmt: skip
    return lines


def run_sensitivity(fit: Path, out: Path, draws: int) -> None:
    """Write sensitivity.csv, power_scaling.csv, learning.csv, next_number.csv and their figures to ``out``."""
    keep_memory()
    keep_programs()
    tree, problem = posterior_file.load(fit)
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
    learned = moves(base | parameters, scores, data.joint, problem.target.score_names)
    # What a count at 0.6 mg would be: the probability of the event among those treated at that dose.
    probability = base[f"{LOWER.name}: neutropenia grade >= 3, %"] / 100.0
    following = one_more_count(base | parameters, probability, NEW_PATIENTS)
    table = assumption_table(problem, program, z, log_density, base)
    new = new_results(out)
    for name, frame in (
        ("power_scaling", power), ("learning", learned), ("next_number", following), ("sensitivity", table),
    ):  # fmt: skip
        frame.to_csv(new / f"{name}.csv", index=False, float_format="%.4g")
    tornado_figure(table, new / "figures" / "tornado.png")
    learning_figure(learned, tuple(base), new / "figures" / "learning.png")
    publish(out)
    _say(table, power)


def _say(table: pd.DataFrame, power: pd.DataFrame) -> None:
    strongest = np.argsort(-np.abs(table["shift_in_sd"].to_numpy(float)))[:3]
    for line in table.iloc[strongest].to_dict("records"):
        console.print(
            f"{line['assumption']} {line['value']}: {line['quantity']} {line['base_median']:.3g} -> {line['median']:.3g} "
            f"({line['shift_in_sd']:+.1f} posterior SD, k-hat {line['khat']:.2f})"
        )
    by = power.drop_duplicates("quantity").groupby("driven_by")["quantity"].apply(list)
    for what, quantities in by.items():
        console.print(f"decided by {what}: {'; '.join(quantities)}")
