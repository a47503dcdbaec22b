"""`mezikd predict` from posterior to files: simulate, tabulate, draw, write. Results appear when complete."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from mezikd.model.exact import Form
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import extrapolation
from .benefit_risk import benefit_risk_table
from .cluster import Remote
from .mixture import STACKED, Member, members, said
from .posterior_file import load_draws, versions
from .prediction import (
    STRUCTURE,
    Outcomes,
    Predicted,
    Theta,
    batch_predictor,
    batches,
    of_batches,
    predict,
    steps,
    theta_of,
    together,
)
from .prediction_summary import summary_text
from .prediction_tables import csv_text, difference_table, prediction_table
from .problem import Problem
from .processor import keep_memory, keep_programs
from .programs import form_of_prediction, ordered
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .scenario_files import Source
from .scenario_writer import scenarios_toml
from .scenarios import Request, fitted_of, resolve
from .tasks import Task, results_of
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

    Should there be several programs, they run side by side: each compiles on a core of its own.
    """
    found = programs(structures)
    first = _firsts(found)

    def part(i: int) -> Predicted:
        form, theta = found[i]
        return predict(theta, form, request.scenarios, request.reference, request.prediction, done, first[i])

    with workers(len(found)) as pool:
        return together(list(pool.map(part, range(len(found)))))


def predict_on_workers(
    request: Request,
    structures: Sequence[Member],
    cluster: Executor,
    work: Path,
    done: Callable[[], None] = lambda: None,
) -> Predicted:
    """Return what ``predict_structures`` does, batch by batch from worker processes, each saved in ``work`` as it comes.

    ``done`` is called after each batch.
    """
    tasks, found = {}, programs(structures)
    asked = request.scenarios, request.reference
    for i, ((form, theta), first) in enumerate(zip(found, _firsts(found), strict=True)):
        make = partial(_compiled_predictor, theta, form, *asked, request.prediction, first)
        one_batch = Remote(make, versions())
        tasks |= {(i, at): Task(work / f"{i}_{at:06d}.pickle", one_batch, (at,)) for at in batches(theta)}
    results = results_of(cluster, tasks, done)
    return together(
        [of_batches([results[i, at] for at in batches(theta)], *asked) for i, (_, theta) in enumerate(found)]
    )


def _compiled_predictor(*of: Any) -> Callable[[int], dict[str, Outcomes]]:
    """Return the outcomes of a batch of draws, compiled in this process."""
    keep_memory()
    keep_programs()
    return batch_predictor(*of)


def _firsts(found: Sequence[tuple[Form, Theta]]) -> list[int]:
    """Return the number of the first draw of each program: those of a second one go on where the first one's end."""
    return np.cumsum([0, *(_draws(theta) for _, theta in found)])[:-1].tolist()


def _fingerprint(request: Request, structures: Sequence[Member]) -> str:
    """Return what the batches depend on."""
    draws = hashlib.sha256()
    for form, theta in programs(structures):
        draws.update(repr(form).encode())
        for name, x in sorted(theta.items()):
            draws.update(name.encode() + np.ascontiguousarray(x).tobytes())
    asked = repr((request.scenarios, request.reference, request.prediction))
    return json.dumps({"draws": draws.hexdigest(), "asked": asked, "versions": versions()}, sort_keys=True)


def programs(structures: Sequence[Member]) -> list[tuple[Form, dict[str, np.ndarray]]]:
    """Return the draws of structures that one compiled program serves together, program by program.

    One serves all neutrophil structures, unless their fits differ in steps a day. Draws of one structure follow each other.
    """
    found: dict[Form, dict[str, list[Theta]]] = {}
    for m in structures:
        design = m.problem.design
        form = form_of_prediction((design.structure_name,), design.steps_per_day)
        of_form = found.setdefault(form._replace(structures=()), {})
        of_form.setdefault(form.structures[0], []).append(theta_of(m.z, m.problem.parameters))
    out = []
    for form, each in found.items():
        names = ordered(each)
        theta = [{**t, STRUCTURE: np.full(_draws(t), i)} for i, name in enumerate(names) for t in each[name]]
        out.append((form._replace(structures=names), {k: np.concatenate([t[k] for t in theta]) for k in theta[0]}))
    return out


def _draws(theta: Theta) -> int:
    return len(next(iter(theta.values())))


def run_predict(
    posterior: Path,
    source: Source,
    out: Path,
    structure: str = STACKED,
    cluster: Executor | None = None,
    restart: bool = False,
) -> None:
    """Predict the scenarios of ``source`` under a posterior and write everything into ``out``.

    ``structure`` is one structure's name, or 'stacked': the mixture, where structures.csv lies beside the posterior. With
    ``cluster``, worker processes simulate; an interrupted run goes on, unless ``restart``. Results are the same.

    Files: predictions.csv, differences.csv, benefit_risk.csv, summary.md, scenarios.toml, figures/*.png. A run before in
    the same folder is replaced.

    Raises
    ------
    InputError: as ``prepare``, or ``out`` holds an unfinished run on a cluster of other inputs.
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
    if cluster is not None:
        resume_or_begin(out, "prediction", _fingerprint(request, structures), None, restart)
    # matplotlib takes a second to import: meanwhile the simulation is compiled.
    Thread(target=import_module, args=(".figures_scenarios", __package__), daemon=True).start()
    settings = request.prediction
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        found = [theta for _, theta in programs(structures)]
        if cluster is not None:
            task = bar.add_task("batches of draws", total=sum(len(batches(theta)) for theta in found))
            predicted = predict_on_workers(request, structures, cluster, out / UNFINISHED, lambda: bar.advance(task))
        else:
            each = [steps(request.scenarios, theta) for theta in found]
            task = bar.add_task("scenarios x batches of draws", total=sum(each))
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
    if cluster is not None:  # else what is unfinished there is something else
        drop_unfinished(out)
    console.print(f"written to {out}: read summary.md first", soft_wrap=True)
