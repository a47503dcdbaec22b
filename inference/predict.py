"""`mezikd predict` from posterior to files: simulate, tabulate, draw, write. Results appear when complete."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import extrapolation, figures_scenarios
from .benefit_risk import benefit_risk_table
from .figures_course import thinned
from .posterior_file import load
from .prediction import predict, steps
from .prediction_summary import summary_text
from .prediction_tables import csv_text, difference_table, prediction_table
from .problem import Problem
from .processor import keep_memory
from .scenario_files import Source
from .scenario_writer import scenarios_toml
from .scenarios import Fitted, Request, reachable, resolve

UNFINISHED = ".unfinished-predict"
console = Console(stderr=True, highlight=False)


def fitted_of(problem: Problem) -> Fitted:
    """Return what the fitted trial's mezigdomide arm received."""
    design = problem.target.design
    regimen = replace(design.regimen, levels_mg=reachable(design.regimen.levels_mg, design.regimen.dose_mg))
    shares = np.array(design.mezikd.regions, float) / sum(design.mezikd.regions)
    return Fitted(regimen, tuple(float(x) for x in shares))


def prepare(posterior: Path, source: Source) -> tuple[Request, Problem, np.ndarray]:
    """Return the resolved request, the fit's problem and the coordinates of the draws, shape ``(draws, parameter)``.

    Raises
    ------
    InputError: a mistake in the scenarios, or more draws than the posterior has.
    """
    tree, problem = load(posterior)
    request = resolve(source, fitted_of(problem))
    kept = int(np.prod(np.asarray(tree["unconstrained_posterior"]["z"]).shape[:2]))
    if request.prediction.draws > kept:
        raise source.error(
            ("prediction", "draws"),
            f"value {request.prediction.draws} is more than the posterior's {kept}",
            "ask for fewer, or fit with more",
            allowed=f"20 to {kept}",
        )
    return request, problem, thinned(tree, request.prediction.draws)


def run_predict(posterior: Path, source: Source, out: Path) -> None:
    """Predict the scenarios of ``source`` under a posterior and write everything into ``out``.

    Files: predictions.csv, differences.csv, benefit_risk.csv, summary.md, scenarios.toml, figures/*.png. A run before in
    the same folder is replaced.

    Raises
    ------
    InputError: as ``prepare``.
    """
    keep_memory()
    request, problem, z = prepare(posterior, source)
    for name in request.above_range:
        console.print(
            f"mezikd: warning: {name}: above the studied range (up to {request.fitted.highest_mg:g} mg), extrapolated",
            soft_wrap=True,
        )
    settings = request.prediction
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("scenarios x batches of draws", total=steps(request.scenarios, len(z)))
        predicted = predict(
            z, problem.parameters, problem.target.design, request.scenarios, request.reference, settings,
            lambda: bar.advance(task),
        )  # fmt: skip
    extrapolated = partial(extrapolation.is_extrapolated, fitted=request.fitted, evidence=problem.evidence)
    table = prediction_table(predicted, extrapolated)
    differences = difference_table(predicted, request.reference, extrapolated)
    utility = benefit_risk_table(predicted, request.reference, request.utility, settings.horizon_months, extrapolated)

    work = out / UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    (work / "figures").mkdir(parents=True)
    texts = {
        "predictions.csv": csv_text(table),
        "differences.csv": csv_text(differences),
        "benefit_risk.csv": csv_text(utility),
        "summary.md": summary_text(request, table, differences, utility),
        "scenarios.toml": scenarios_toml(request, posterior.parent.name),
    }
    for name, text in texts.items():
        (work / name).write_text(text, "utf-8")
    figures_scenarios.write_figures(request, table, differences, utility, work / "figures")
    _move(work, out)
    console.print(f"written to {out}: read summary.md first", soft_wrap=True)


def _move(work: Path, out: Path) -> None:
    (out / "figures").mkdir(exist_ok=True)
    drawn = {p.name for p in (work / "figures").iterdir()}
    for name in figures_scenarios.NAMES:
        if name not in drawn:  # of a run before, with other scenarios
            (out / "figures" / name).unlink(missing_ok=True)
    for path in sorted(work.rglob("*")):
        if path.is_file():
            path.replace(out / path.relative_to(work))
    shutil.rmtree(work)
