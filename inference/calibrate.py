"""The calibration from folder to tables: trials fixed by seed, fitted one by one, saved as they come, none dropped."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .calibration import (
    Calibrator,
    TrialFit,
    drawn_truths,
    normal_prior,
    settings_of,
    simulated_evidence,
)
from .calibration_tables import contraction, coverage_table, rank_table, with_rank_tests
from .errors import input_error
from .figures_calibration import coverage_figure, rank_figure
from .files import load_pickle, save_pickle, write_whole
from .mode import CORES
from .problem import Problem, load_problem
from .processor import keep_memory

UNFINISHED = "unfinished"
console = Console(stderr=True, highlight=False)


def _prepare(out: Path, fingerprint: str, restart: bool) -> Path:
    """Return the folder of unfinished work, made ready; InputError where another calibration is in the way."""
    work = out / UNFINISHED
    if restart:
        shutil.rmtree(work, ignore_errors=True)
    elif (out / "calibration.csv").exists():
        raise input_error(out, "holds a finished calibration", "name another --out, or --restart to replace it")
    saved = work / "calibration.json"
    if saved.exists() and saved.read_text("utf-8") != fingerprint:
        remedy = "name another --out, or --restart to begin anew"
        raise input_error(out, "holds an unfinished calibration of other inputs", remedy)
    work.mkdir(parents=True, exist_ok=True)
    write_whole(saved, lambda p: p.write_text(fingerprint, "utf-8"))
    return work


def _posterior_draws(path: Path, problem: Problem) -> np.ndarray:
    """Return the prior-scaled draws of a fit with the same parameters."""
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            z = xr.DataArray(tree["unconstrained_posterior"]["z"]).load()
    except (OSError, KeyError, ValueError) as error:
        remedy = "name the posterior.nc that `mezikd fit --out` wrote, complete, or --around prior"
        raise input_error(path, f"cannot be read as a fit ({type(error).__name__})", remedy) from None
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
) -> bool:
    """Calibrate the fit in ``folder`` and write calibration.csv, ranks.csv and figures to ``out``.

    Parameters
    ----------
    posterior: the posterior.nc whose widened draws are the prior of trials and fits; None for the declared prior.
    trials, seed: how many trials, and what fixes them; more trials with the same seed begin with the same ones.
    virtual_patients, covariance_trials: of each fit.
    widen: how many posterior SDs of prior.

    Returns whether every quantity users read is covered within the 99 % binomial band and ranked within the 99 %
    simultaneous band, in the version 'covariance'.
    """
    begin = time.perf_counter()
    keep_memory()
    problem = load_problem(folder, {"virtual_patients": virtual_patients})
    draws = None if posterior is None else _posterior_draws(posterior, problem)
    prior = None if draws is None else normal_prior(draws, widen)
    inputs = {
        "settings": problem.settings.model_dump(), "files": problem.texts(), "seed": seed, "widen": widen,
        "covariance_trials": covariance_trials, "trials": trials,
        "posterior": None if draws is None else hashlib.sha256(np.ascontiguousarray(draws)).hexdigest(),
    }  # fmt: skip
    work = _prepare(out, json.dumps(inputs, sort_keys=True), restart)
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
    if missing:
        with console.status("compiling"):
            calibrator = Calibrator.build(problem, prior, settings, covariance_trials)
        console.print(f"{time.perf_counter() - begin:.0f} s: compiled")

        def one(i: int) -> TrialFit:
            found = calibrator.fit(i, truths[i], evidence[i], seed)
            save_pickle(work / f"{i:05d}.pickle", found)
            return found

        with ThreadPoolExecutor(CORES) as pool:
            results |= _progress(pool, one, missing, trials)
    fits = [results[i] for i in range(trials)]
    parameters = {p.name for p in problem.free}
    ranks = rank_table(fits, set(fits[0].truth) - parameters)
    table = with_rank_tests(coverage_table(ranks), ranks)
    table["contraction"] = table["quantity"].map(contraction(ranks).get)
    (out / "figures").mkdir(exist_ok=True)
    coverage_figure(table, out / "figures" / "coverage.png")
    rank_figure(ranks, out / "figures" / "ranks.png")
    write_whole(out / "ranks.csv", lambda p: ranks.to_csv(p, index=False, float_format="%.5g"))
    write_whole(out / "calibration.csv", lambda p: table.to_csv(p, index=False, float_format="%.4g"))
    shutil.rmtree(work)
    return _say(table, fits, time.perf_counter() - begin)


def _progress(pool: Executor, one: Callable[[int], TrialFit], missing: list[int], trials: int) -> dict[int, TrialFit]:
    columns = TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    results = {}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("trials", total=trials, completed=trials - len(missing))
        waiting = {pool.submit(one, i): i for i in missing}
        try:
            for done in as_completed(waiting):
                results[waiting[done]] = done.result()
                bar.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what is running ends and is saved
            raise
    return results


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
    chosen = read[read["version"] == "covariance"]
    return bool(chosen["inside"].all() and (chosen["rank_p"] >= 0.01).all())
