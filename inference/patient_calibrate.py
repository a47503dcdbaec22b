"""The calibration of a fit to single patients, from fit.toml to tables: trials fixed by seed, saved as they come, none dropped."""

import json
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.parameters import free

from .arrest_settings import ArrestFit
from .calibrate import FINISHED, console, progress
from .calibration import drawn_truths
from .calibration_tables import contraction, coverage_table, rank_table, with_rank_tests
from .cluster import Remote
from .figures_calibration import coverage_figure, rank_figure
from .files import load_pickle
from .mode import CORES
from .patient_calibration import VERSION, PatientCalibrator, PatientTrial, TrialPlan, trial_table
from .places import built_in_fit
from .posterior_file import versions
from .problem import design_of
from .processor import keep_memory, keep_programs
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .settings import load_settings
from .workers import workers


def run_patient_calibrate(
    settings: ArrestFit, out: Path, trials: int, patients: int, cycles: int, seed: int, restart: bool,
    cluster: Executor | None = None,
) -> bool:  # fmt: skip
    """Calibrate fits of ``settings`` and write calibration.csv, ranks.csv, trials.csv and figures to ``out``.

    Parameters
    ----------
    trials, seed: how many trials, and what fixes them; more trials with the same seed begin with the same ones.
    patients, cycles: of each trial, both arms together; arms, regions, regimen and visits are the built-in trial's.
    cluster: worker processes (cluster.py) that fit the trials; None for threads of this one. Results are the same.

    Returns whether every parameter is covered within the 99 % binomial band and ranked within the 99 % simultaneous band.
    """
    begin = time.perf_counter()
    keep_memory()
    keep_programs()
    plan = TrialPlan(settings, design_of(load_settings(built_in_fit())), patients, cycles, seed)
    inputs = {
        "settings": settings.model_dump(), "design": repr(plan.design), "trials": trials, "patients": patients,
        "cycles": cycles, "seed": seed, "versions": versions(),
    }  # fmt: skip
    resume_or_begin(out, "calibration", json.dumps(inputs, sort_keys=True), FINISHED, restart)
    work = out / UNFINISHED
    truths = drawn_truths(None, len(free(settings.declared)), trials, seed)
    saved = {i: load_pickle(work / f"{i:05d}.pickle") for i in range(trials)}
    results: dict[int, PatientTrial] = {i: t for i, t in saved.items() if t is not None}
    if results:
        console.print(f"going on with the unfinished calibration in {out}: {len(results)} of {trials} trials are there")
    asked = {i: (i, truths[i]) for i in range(trials) if i not in results}
    make = partial(_compiled_fit, plan)
    if asked and cluster is not None:
        results |= progress(cluster, Remote(make, versions()), asked, work, trials)
    elif asked:
        with console.status("compiling"):
            fit = make()
        console.print(f"{time.perf_counter() - begin:.0f} s: compiled")
        with workers(CORES) as pool:
            results |= progress(pool, fit, asked, work, trials)
    ranks = rank_table([results[i] for i in range(trials)], set())
    table = with_rank_tests(coverage_table(ranks), ranks)
    table["contraction"] = table["quantity"].map(contraction(ranks, VERSION).get)
    told = pd.DataFrame(trial_table(results))
    new = new_results(out)
    coverage_figure(table, new / "figures" / "coverage.png", "parameter")
    rank_figure(ranks, new / "figures" / "ranks.png", "parameter")
    ranks.to_csv(new / "ranks.csv", index=False, float_format="%.5g")
    told.to_csv(new / "trials.csv", index=False, float_format="%.5g")
    table.to_csv(new / FINISHED, index=False, float_format="%.4g")
    publish(out, last=FINISHED)
    drop_unfinished(out)
    return _say(table, told, time.perf_counter() - begin)


def beyond_simulation(settings: ArrestFit) -> tuple[str, str] | None:
    """Return what of ``settings`` simulated patients do not have, and how to leave it out; None where there is nothing."""
    if settings.exposure is not None:
        return (
            "[parameters] exposure is given by a column",
            "leave exposure out of a copy of the folder: the rest is tested",
        )
    if named := [n for n, p in settings.parameters.items() if p.covariates]:
        return (
            f"[parameters] has covariates of {', '.join(named)}",
            "leave them out of a copy of the folder: the rest is tested",
        )
    if settings.effects.correlation != "none":
        return (
            "[effects] correlation of effects",
            'write correlation = "none" in a copy of the folder: the rest is tested',
        )
    return None


def _compiled_fit(plan: TrialPlan) -> Callable[[int, np.ndarray], PatientTrial]:
    """Return the fit of one trial, compiled in this process."""
    keep_memory()
    keep_programs()
    return PatientCalibrator.build(plan).fit


def _say(table: pd.DataFrame, told: pd.DataFrame, seconds: float) -> bool:
    ranked = table.drop_duplicates("quantity")["rank_p"].to_numpy(float)
    console.print(
        f"{int(table['inside'].sum())} of {len(table)} coverages inside their 99 % band, "
        f"{int((ranked >= 0.01).sum())} of {len(ranked)} rank sets inside theirs; "
        + "; ".join(
            f"{100 * float(str(level)):.0f} % intervals of all parameters: {100 * part['coverage'].mean():.1f} %"
            for level, part in table.groupby("level")
        )
        + f"; gate passed in {int((told['gate'] == 'pass').sum())} of {len(told)} fits"
    )
    console.print(f"{seconds:.0f} s")
    return bool(table["inside"].all() and (ranked >= 0.01).all())
