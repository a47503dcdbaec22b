"""`mezikd predict` from posterior to files: simulate, tabulate, draw, write. Results appear when complete."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread

import numpy as np
from mezikd.model.exact import Form, form_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import extrapolation
from .benefit_risk import benefit_risk_table
from .mixture import STACKED, Member, members, said
from .posterior_file import load_draws
from .prediction import Predicted, Theta, predict, steps, theta_of, together
from .prediction_summary import summary_text
from .prediction_tables import csv_text, difference_table, prediction_table
from .problem import Problem
from .processor import keep_memory, keep_programs
from .results_folder import new_results, publish
from .scenario_files import Source
from .scenario_writer import scenarios_toml
from .scenarios import Request, fitted_of, resolve
from .workers import workers

console = Console(stderr=True, highlight=False, markup=False)


def prepare(posterior: Path, source: Source, structure: str) -> tuple[Request, Problem, list[Member]]:
    """Return the resolved request, the fit's problem and the structures with their draws.

    Raises
    ------
    InputError: a mistake in the scenarios, more draws than the posterior has, or an unknown structure.
    """
    tree, problem = load_draws(posterior)
    request = resolve(source, fitted_of(problem))
    kept = int(np.prod(np.asarray(tree["unconstrained_posterior"]["z"]).shape[:2]))
    if request.prediction.draws > kept:
        raise source.error(
            ("prediction", "draws"),
            f"value {request.prediction.draws} is more than the posterior's {kept}",
            "ask for fewer, or fit with more",
            allowed=f"20 to {kept}",
        )
    return request, problem, members(posterior, tree, problem, request.prediction.draws, structure)


def predict_structures(
    request: Request, structures: Sequence[Member], done: Callable[[], None] = lambda: None
) -> Predicted:
    """Return the outcomes of the request's scenarios under the draws of all structures.

    Programs run side by side: each compiles on a core of its own.
    """
    found = programs(structures)
    gcsf = any(s.scenario.gcsf.policy != "none" for s in request.scenarios)
    first = np.cumsum([0, *(len(next(iter(theta.values()))) for _, theta in found)])

    def part(i: int) -> Predicted:
        form, theta = found[i]
        return predict(
            theta,
            form._replace(gcsf=gcsf),
            request.scenarios,
            request.reference,
            request.prediction,
            done,
            int(first[i]),
        )

    with workers(len(found)) as pool:
        return together(list(pool.map(part, range(len(found)))))


def programs(structures: Sequence[Member]) -> list[tuple[Form, dict[str, np.ndarray]]]:
    """Return the draws of structures that one compiled program serves together, program by program."""
    found: dict[Form, list[Theta]] = {}
    for m in structures:
        found.setdefault(form_of(m.problem.design), []).append(theta_of(m.z, m.problem.parameters))
    return [(form, {k: np.concatenate([t[k] for t in each]) for k in each[0]}) for form, each in found.items()]


def run_predict(posterior: Path, source: Source, out: Path, structure: str = STACKED) -> None:
    """Predict the scenarios of ``source`` under a posterior and write everything into ``out``.

    ``structure`` is one structure's name, or 'stacked': the mixture, where structures.csv lies beside the posterior.

    Files: predictions.csv, differences.csv, benefit_risk.csv, summary.md, scenarios.toml, figures/*.png. A run before in
    the same folder is replaced.

    Raises
    ------
    InputError: as ``prepare``.
    """
    keep_memory()
    keep_programs()
    request, problem, structures = prepare(posterior, source, structure)
    origin = said(structures)
    console.print(origin, soft_wrap=True)
    for name in request.above_range:
        console.print(
            f"mezikd: warning: {name}: above the studied range (up to {request.fitted.highest_mg:g} mg), extrapolated",
            soft_wrap=True,
        )
    # matplotlib takes a second to import: meanwhile the simulation is compiled.
    Thread(target=import_module, args=(".figures_scenarios", __package__), daemon=True).start()
    settings = request.prediction
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(
            "scenarios x batches of draws",
            total=sum(steps(request.scenarios, len(t["tumour_memory"])) for _, t in programs(structures)),
        )
        predicted = predict_structures(request, structures, lambda: bar.advance(task))
    extrapolated = partial(extrapolation.is_extrapolated, fitted=request.fitted, evidence=problem.evidence)
    table = prediction_table(predicted, extrapolated)
    differences = difference_table(predicted, request.reference, extrapolated)
    utility = benefit_risk_table(predicted, request.reference, request.utility, settings.horizon_months, extrapolated)

    from . import figures_scenarios

    new = new_results(out)
    texts = {
        "predictions.csv": csv_text(table),
        "differences.csv": csv_text(differences),
        "benefit_risk.csv": csv_text(utility),
        "summary.md": summary_text(request, table, differences, utility, origin),
        "scenarios.toml": scenarios_toml(request, posterior.parent.name),
    }
    for name, text in texts.items():
        (new / name).write_text(text, "utf-8")
    figures_scenarios.write_figures(request, table, differences, utility, new / "figures")
    publish(out, outdated=(f"figures/{name}" for name in figures_scenarios.NAMES))
    console.print(f"written to {out}: read summary.md first", soft_wrap=True)
