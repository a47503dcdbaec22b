"""Saved fits of several structures, from posterior files to tables and a figure."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.text import Text

from . import posterior_file
from .bridge import MIXED
from .diagnostics import MAX_RHAT
from .errors import input_error
from .figures_structures import structures_figure
from .groups_left_out import Opened, groups_of, scores_of, without_groups
from .importance import Weighted
from .likelihood import NOTHING
from .mixture import TABLE, file_of, spaced
from .places import OTHERS
from .processor import keep_memory, keep_programs
from .quantities import LOWER, SHORTER, TRIAL, quantity_function
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .structures import (
    GROUPS,
    Gap,
    LeftOut,
    comparison_table,
    fit_equally,
    largest_gap,
    left_out,
    mixture,
)

console = Console(stderr=True, highlight=False, markup=False)
PLANS = (TRIAL, LOWER, SHORTER)
STACKED = "stacked mixture"
KEPT = 400
"""Draws of the other structures that are kept for predictions."""
Draws = dict[str, np.ndarray]


def _shared(fit: Opened) -> dict[str, Any]:
    """Return what fits that are compared must have in common: all settings but structure, sizes and seeds."""
    settings = fit.problem.settings.model_dump(exclude={"patients": True, "sampler": True, "study": True})
    return {
        f"{section}.{key}": value
        for section, keys in settings.items()
        for key, value in keys.items()
        if key not in ("structure", "tumour", "infection", "leave_out", "covariance_trials")
    }


class Read(NamedTuple):
    """What a fit to all numbers predicts."""

    tree: xr.DataTree
    max_rhat: float
    groups: dict[str, LeftOut]
    rows: dict[str, LeftOut]
    quantities: Draws


def open_fits(fits: list[Path]) -> list[Opened]:
    """Return the saved fits, loaded: of one evidence, one for each structure.

    Raises
    ------
    InputError: a fit that has not converged or leaves numbers out, fits of other numbers or settings, or two of one
        structure.
    """
    found: list[Opened] = []
    for path in fits:
        tree, problem = posterior_file.load(path)
        fit = Opened(path, tree, problem, posterior_file.whole_rhat(tree))
        if problem.target.leave_out != NOTHING:
            remedy = "name a fit to all numbers; --refit leaves groups out by itself"
            raise input_error(path, f"was fitted without {problem.target.leave_out}", remedy)
        if not fit.max_rhat < MIXED:
            remedy = "fit it with more draws or another --seed (its diagnostics.json says what failed)"
            unmixed = f"its chains have not mixed: R-hat {fit.max_rhat:.2f}"
            raise input_error(path, unmixed, remedy, allowed=f"below {MIXED:g}")
        if found and fit.problem.evidence.sha256 != found[0].problem.evidence.sha256:
            raise input_error(path, "is a fit of other numbers", "compare fits of the same evidence.csv")
        other = [k for k, v in _shared(fit).items() if found and v != _shared(found[0])[k]]
        if other:
            remedy = "compare fits that differ in structure alone; `mezikd sensitivity` varies assumptions"
            raise input_error(path, f"differs from {found[0].path} in `{other[0]}` of fit.toml", remedy)
        if fit.name in {x.name for x in found}:
            raise input_error(path, f"is a second fit of the structure '{fit.name}'", "name one of the two")
        found.append(fit)
    return found


def _draws(fit: Opened, draws: int) -> np.ndarray:
    """Return evenly spaced draws of the coordinates."""
    kept = int(np.prod(np.asarray(fit.tree["unconstrained_posterior"]["z"]).shape[:2]))
    return spaced(fit.tree, min(draws, kept))


def read_fit(fit: Opened, draws: int) -> Read:
    """Return what a fit to all numbers predicts: numbers left out, and what users read."""
    target, joint = fit.problem.target, posterior_file.joint_of(fit.tree)
    z = _draws(fit, draws)
    scores = scores_of(target, z)
    groups, rows = groups_of(fit), np.array(target.score_names)
    of = quantity_function(target, PLANS)
    each = [of(row) for row in z]
    return Read(
        fit.tree,
        fit.max_rhat,
        {g: left_out(scores, joint, groups == g) for g in dict.fromkeys(groups.tolist())},
        {r: left_out(scores, joint, rows == r) for r in dict.fromkeys(rows.tolist())},
        {k: np.array([float(e[k]) for e in each]) for k in each[0]},
    )


def read_fits(
    opened: list[Opened], draws: int, work: Path | None = None, cluster: Executor | None = None
) -> dict[str, Read]:
    """Return what the fits predict, by structure.

    With ``work``, a folder, a group that the weights of any converged structure cannot predict is left out of all of them
    in earnest (``without_groups``): weighted predictions of a group are too good by far, and must not be compared with
    sampled ones.
    """
    found: dict[str, Read] = {}
    for fit in opened:
        with console.status(Text(str(fit.path))):
            found[fit.name] = read_fit(fit, draws)
        console.print(f"{fit.name}: read")
    if work is not None:
        converged = [x for x in opened if x.max_rhat <= MAX_RHAT]
        doubtful = {g: None for x in converged for g, part in found[x.name].groups.items() if not part.trusted}
        weighted = {name: read.groups for name, read in found.items()}
        for (name, group), part in without_groups(converged, weighted, list(doubtful), work, cluster).items():
            found[name].groups[group] = part
    return found


def prediction_table(quantities: Mapping[str, Draws], weights: dict[str, float]) -> pd.DataFrame:
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


def _gap_text(g: Gap) -> str:
    """Return a gap in words; ratios as such, not their logarithms."""
    if "log hazard ratio" in g.quantity:
        name = g.quantity.replace("log hazard ratio", "hazard ratio")
        return f"{name} {np.exp(g.two):.2f} against {np.exp(g.one):.2f}"
    return f"{g.quantity} {g.two:.3g} against {g.one:.3g}"


def with_gaps(table: pd.DataFrame, found: Mapping[str, Read]) -> pd.DataFrame:
    """Return structures.csv with where each structure differs most from the best one, its R-hat, and when it was fitted."""
    sums = table[table["left_out"] == GROUPS].set_index("structure")
    best = str(sums.index[sums["difference"].astype(float) == 0.0][0])
    gaps = {name: largest_gap(found[best].quantities, read.quantities) for name, read in found.items()}
    texts = {name: _gap_text(g) if g.differs else "" for name, g in gaps.items()}
    made = {name: str(read.tree.attrs["created_at"]) for name, read in found.items()}
    at = table["structure"]
    return table.assign(
        differs=at.map(texts.get),
        gap=at.map({k: g.size for k, g in gaps.items()}.get),
        max_rhat=at.map({k: x.max_rhat for k, x in found.items()}.get),
        created_at=at.map(made.get),
    )


def run_structures(
    fits: list[Path],
    out: Path,
    draws: int,
    refit: bool = False,
    restart: bool = False,
    cluster: Executor | None = None,
) -> None:
    """Compare fits of the same numbers and write structures.csv, structure_predictions.csv and a figure to ``out``.

    The posteriors of all but the first, thinned, go to structures/: with these files beside the first one's posterior,
    predictions are the stacked mixture (mixture.py). With ``refit`` groups whose weights cannot be trusted are left out in
    earnest (``read_fits``), by worker processes where there is a ``cluster``; an interrupted run goes on, unless ``restart``.

    Raises
    ------
    InputError: as ``open_fits``.
    """
    keep_memory()
    keep_programs()
    opened, work = open_fits(fits), None
    if refit:
        made = [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in fits]
        fingerprint = json.dumps({"fits": made, "draws": draws, "versions": posterior_file.versions()})
        resume_or_begin(out, "comparison", fingerprint, TABLE, restart)
        work = out / UNFINISHED
    found = read_fits(opened, draws, work, cluster)
    by_group, by_row = {n: x.groups for n, x in found.items()}, {n: x.rows for n, x in found.items()}
    table = comparison_table(by_group, by_row, [n for n, x in found.items() if x.max_rhat > MAX_RHAT])
    table = with_gaps(table, found)
    weights = {str(k): float(v) for k, v in table.groupby("structure", sort=False)["weight"].first().items()}
    predictions = prediction_table({n: x.quantities for n, x in found.items()}, weights)
    new = new_results(out)
    (new / OTHERS).mkdir()
    for name in list(found)[1:]:  # the first one is there already: its folder is where predictions start from
        posterior_file.save(posterior_file.thin(found[name].tree, KEPT), file_of(new, name))
    structures_figure(predictions, weights, new / "figures" / "structures.png")
    predictions.to_csv(new / "structure_predictions.csv", index=False, float_format="%.4g")
    table.to_csv(new / TABLE, index=False, float_format="%.5g")
    publish(out, last=TABLE)
    drop_unfinished(out)
    for line in table.query(f"left_out == '{GROUPS}'").to_dict("records"):
        if np.isnan(line["difference"]):
            console.print(f"{line['structure']}: elpd {line['elpd']:.1f}, from weighted draws: not to be compared")
            continue
        console.print(
            f"{line['structure']}: elpd {line['elpd']:.1f}, {line['difference']:+.1f} (SE {line['difference_se']:.1f}) of "
            f"the best, weight {line['weight']:.2f}, {line['refits']} groups refitted"
        )
        if not line["trusted"]:
            console.print(f"  not to be trusted: {'the refits did not settle it' if line['refits'] else 'try --refit'}")
    for name, read in found.items():
        if read.max_rhat > MAX_RHAT:
            console.print(
                f"mezikd: warning: {name}: R-hat {read.max_rhat:.3f}, above {MAX_RHAT}: its numbers are rough, and it has no weight"
            )
    console.print(f"as good as the best: {'; '.join(fit_equally(table))}")
