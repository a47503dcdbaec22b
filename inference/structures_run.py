"""Saved fits of several structures, from posterior files to tables and a figure."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console

from . import posterior_file
from .errors import input_error
from .figures_structures import structures_figure
from .files import write_whole
from .importance import Weighted
from .joint_covariance import rows_of_scores, score_function
from .mixture import FOLDER, file_of
from .power_scaling import group_of
from .processor import keep_memory
from .quantities import LOWER, SHORTER, TRIAL, quantity_function
from .structures import LeftOut, comparison_table, fit_equally, left_out, mixture, structure_name

console = Console(stderr=True, highlight=False)
PLANS = (TRIAL, LOWER, SHORTER)
STACKED = "stacked mixture"
KEPT = 400
"""Draws of the other structures that are kept for predictions."""
Draws = dict[str, np.ndarray]


def _read(path: Path, draws: int) -> tuple[xr.DataTree, str, str, dict[str, LeftOut], Draws]:
    """Return a fit, its structure, the hash of its evidence, the elpd of each left-out group, its draws of quantities."""
    tree, problem = posterior_file.load(path)
    joint = posterior_file.joint_of(tree)
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    z = z.reshape(-1, z.shape[-1])
    z = z[np.linspace(0, len(z) - 1, min(draws, len(z))).astype(int)]
    function, observed = score_function(problem.target), problem.target.data.observed
    scores = np.stack([function(row, observed) for row in z])
    groups = np.array([group_of(row) for row in rows_of_scores(problem.target)])
    found = {g: left_out(scores, joint, groups == g) for g in dict.fromkeys(groups.tolist())}
    of = quantity_function(problem.target, PLANS)
    each = [of(row) for row in z]
    quantities = {k: np.array([float(e[k]) for e in each]) for k in each[0]}
    return tree, structure_name(problem.settings.model), problem.evidence.sha256, found, quantities


def prediction_table(quantities: dict[str, Draws], weights: dict[str, float]) -> pd.DataFrame:
    """Return structure_predictions.csv: every quantity under every plan, by structure and for their mixture."""
    lines = []
    for name in next(iter(quantities.values())):
        draws = {s: q[name] for s, q in quantities.items()}
        parts = {s: (x, np.full(len(x), 1.0 / len(x))) for s, x in draws.items()} | {STACKED: mixture(draws, weights)}
        for structure, (x, w) in parts.items():
            low, median, high = (Weighted(w, np.nan).quantile(x, q) for q in (0.05, 0.5, 0.95))
            beyond = name.startswith((f"{LOWER.name}:", f"{SHORTER.name}:"))
            lines.append((name, structure, median, low, high, beyond))
    columns = ["quantity", "structure", "median", "pi90_low", "pi90_high", "extrapolated"]
    return pd.DataFrame.from_records(lines, columns=columns)


def run_structures(fits: list[Path], out: Path, draws: int) -> None:
    """Compare fits of the same numbers and write structures.csv, structure_predictions.csv and a figure to ``out``.

    The posteriors of all but the first, thinned, go to structures/: with these files beside the first one's posterior,
    predictions are the stacked mixture (mixture.py).

    Raises
    ------
    InputError: fits of other numbers, or twice of the same structure.
    """
    keep_memory()
    found: dict[str, dict[str, LeftOut]] = {}
    quantities: dict[str, Draws] = {}
    trees: dict[str, xr.DataTree] = {}
    first = ""
    for path in fits:
        with console.status(f"{path}"):
            tree, name, evidence, left, of = _read(path, draws)
        if name in found:
            raise input_error(path, f"is a second fit of the structure '{name}'", "name fits of different structures")
        if first and evidence != first:
            raise input_error(path, "is a fit of other numbers", "compare fits of the same evidence.csv")
        first, found[name], quantities[name], trees[name] = evidence, left, of, tree
        console.print(f"{name}: read")
    table = comparison_table(found)
    weights = {str(k): float(v) for k, v in table.groupby("structure", sort=False)["weight"].first().items()}
    predictions = prediction_table(quantities, weights)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    write_whole(out / "structures.csv", lambda p: table.to_csv(p, index=False, float_format="%.4g"))
    write_whole(out / "structure_predictions.csv", lambda p: predictions.to_csv(p, index=False, float_format="%.4g"))
    (out / FOLDER).mkdir(exist_ok=True)
    for name in list(trees)[1:]:  # the first one is there already: its folder is where predictions start from
        posterior_file.save(posterior_file.thin(trees[name], KEPT), file_of(out, name))
    structures_figure(predictions, weights, out / "figures" / "structures.png")
    for line in table.query("left_out == 'all'").to_dict("records"):
        console.print(
            f"{line['structure']}: elpd {line['elpd']:.1f}, {line['difference']:+.1f} (SE {line['difference_se']:.1f}) of "
            f"the best, weight {line['weight']:.2f}, k-hat at most {line['khat']:.2f}"
        )
    console.print(f"as good as the best: {', '.join(fit_equally(table))}")
