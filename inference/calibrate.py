"""The calibration from folder to tables: trials fixed by seed, fitted one by one, saved as they come, none dropped."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .calibration import (
    VERSIONS,
    Calibrator,
    TrialFit,
    drawn_truths,
    normal_prior,
    settings_of,
    simulated_evidence,
)
from .calibration_tables import contraction, coverage_table, rank_table, with_rank_tests
from .cluster import Remote
from .errors import input_error
from .figures_calibration import coverage_figure, rank_figure
from .files import load_pickle, save_pickle
from .mode import CORES
from .posterior_file import opened
from .posterior_file import versions as package_versions
from .problem import Problem, load_problem
from .processor import keep_memory, keep_programs
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .tasks import Task, results_of
from .workers import workers

FINISHED = "calibration.csv"
CHOSEN = "covariance"
"""The version in use."""
console = Console(stderr=True, highlight=False, markup=False)


def _posterior_draws(path: Path, problem: Problem) -> np.ndarray:
    """Return the prior-scaled draws of a fit with the same parameters."""
    tree = opened(path)
    if "unconstrained_posterior" not in tree or "z" not in tree["unconstrained_posterior"]:
        raise input_error(path, "is no fit to reported numbers", "name one, or give --around prior")
    z = xr.DataArray(tree["unconstrained_posterior"]["z"])
    names = [p.name for p in problem.free]
    if z["parameter"].to_numpy().tolist() != names:
        raise input_error(path, "is a fit of other parameters", "fit this folder first, or --around prior")
    return np.asarray(z).reshape(-1, len(names))


def run_calibrate(
    folder: Path,
    posterior: Path | None,
    out: Path,
    trials: int,
    seed: int,
    virtual_patients: int,
    covariance_trials: int,
    widen: float,
    restart: bool,
    cluster: Executor | None = None,
    versions: Sequence[str] = VERSIONS,
) -> bool:
    """Calibrate the fit in ``folder`` and write calibration.csv, ranks.csv and figures to ``out``.

    Parameters
    ----------
    posterior: the posterior.nc whose widened draws are the prior of trials and fits; None for the declared prior.
    trials, seed: how many trials, and what fixes them; more trials with the same seed begin with the same ones.
    virtual_patients, covariance_trials: of each fit.
    widen: how many posterior SDs of prior.
    cluster: worker processes (cluster.py) that fit the trials; None for threads of this one. Results are the same.
    versions: of VERSIONS, those to fit; CHOSEN among them.

    Returns whether every quantity users read is covered within the 99 % binomial band and ranked within the 99 %
    simultaneous band, in the version 'covariance'.
    """
    begin = time.perf_counter()
    keep_memory()
    keep_programs()
    problem = load_problem(folder, {"virtual_patients": virtual_patients})
    draws = None if posterior is None else _posterior_draws(posterior, problem)
    prior = None if draws is None else normal_prior(draws, widen)
    inputs = {
        "settings": problem.settings.model_dump(), "files": problem.texts(), "seed": seed, "widen": widen,
        "covariance_trials": covariance_trials, "trials": trials,
        "posterior": None if draws is None else hashlib.sha256(np.ascontiguousarray(draws)).hexdigest(),
        "versions": package_versions(), "fitted": list(versions),
    }  # fmt: skip
    resume_or_begin(out, "calibration", json.dumps(inputs, sort_keys=True), FINISHED, restart)
    work = out / UNFINISHED
    truths = drawn_truths(prior, len(problem.free), trials, seed)
    evidence = load_pickle(work / "evidence.pickle")
    if evidence is None:
        with console.status(f"simulating {trials} trials"):
            evidence = simulated_evidence(problem, truths, seed)
        save_pickle(work / "evidence.pickle", evidence)
    results: dict[int, TrialFit] = {}
    for i in range(trials):
        saved = load_pickle(work / f"{i:05d}.pickle")
        if saved is not None:
            results[i] = saved
    if results:
        console.print(f"going on with the unfinished calibration in {out}: {len(results)} of {trials} trials are there")
    missing = [i for i in range(trials) if i not in results]
    settings = settings_of(seed, problem.settings.sampler.target_accept)
    asked = {i: (i, truths[i], evidence[i], seed) for i in missing}
    make = partial(_compiled_fit, problem, prior, settings, covariance_trials, versions)
    if missing and cluster is not None:
        results |= progress(cluster, Remote(make, package_versions()), asked, work, trials)
    elif missing:
        with console.status("compiling"):
            fit = make()
        console.print(f"{time.perf_counter() - begin:.0f} s: compiled")
        with workers(CORES) as pool:
            results |= progress(pool, fit, asked, work, trials)
    fits = [results[i] for i in range(trials)]
    parameters = {p.name for p in problem.free}
    ranks = rank_table(fits, set(fits[0].truth) - parameters)
    table = with_rank_tests(coverage_table(ranks), ranks)
    table["contraction"] = table["quantity"].map(contraction(ranks, CHOSEN).get)
    new = new_results(out)
    coverage_figure(table, new / "figures" / "coverage.png")
    rank_figure(ranks, new / "figures" / "ranks.png")
    ranks.to_csv(new / "ranks.csv", index=False, float_format="%.5g")
    table.to_csv(new / FINISHED, index=False, float_format="%.4g")
    publish(out, last=FINISHED)
    drop_unfinished(out)
    return _say(table, fits, time.perf_counter() - begin)


def _compiled_fit(*of: Any) -> Callable[..., TrialFit]:
    """Return the fit of one trial, compiled in this process."""
    keep_memory()
    keep_programs()
    return Calibrator.build(*of).fit


def progress[Result](
    pool: Executor, fit: Callable[..., Result], asked: Mapping[int, tuple], work: Path, trials: int
) -> dict[int, Result]:
    """Return the fits of the trials ``asked`` for, by number, each saved in ``work`` as it comes."""
    columns = TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    tasks = {i: Task(work / f"{i:05d}.pickle", fit, arguments) for i, arguments in asked.items()}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("trials", total=trials, completed=trials - len(asked))
        return results_of(pool, tasks, lambda: bar.advance(task))


def _say(table, fits: list[TrialFit], seconds: float) -> bool:
    read = table[table["kind"] == "quantity"]
    for version, part in read.groupby("version", sort=False):
        fit = [f.fits[str(version)] for f in fits]
        ranked = part.drop_duplicates("quantity")["rank_p"].to_numpy(float)
        console.print(
            f"{version}: {int(part['inside'].sum())} of {len(part)} coverages inside their 99 % band, "
            f"{int((ranked >= 0.01).sum())} of {len(ranked)} rank sets inside theirs; "
            f"acceptance {np.mean([f.accept for f in fit]):.2f}, {sum(f.divergences for f in fit)} divergences"
        )
    console.print(f"{seconds:.0f} s")
    chosen = read[read["version"] == CHOSEN]
    return bool(chosen["inside"].all() and (chosen["rank_p"] >= 0.01).all())
