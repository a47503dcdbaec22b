"""The end of a fit to patients' own data, whatever its structure: diagnostics of the draws, files that appear together."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import xarray as xr

from .arrest_settings import ArrestFit
from .diagnostics import Diagnostics, diagnose
from .figures_checks import draw_events, draw_pit, draw_vpc
from .figures_patients import individual_fits
from .patient_data import PatientData
from .patient_settings import PatientFit
from .patient_store import TABLES, stored
from .places import POSTERIOR
from .posterior_file import FAILED, device_name, save
from .predictive_checks import checks_text, observables, pit_table, seen, vpc_table
from .results_folder import drop_unfinished, new_results, publish
from .sampling import Sampled
from .spreadsheet import inert


def diagnosed(posterior: xr.Dataset, sampled: Sampled, start_gradients: int) -> Diagnostics:
    """Return the diagnostics of the draws, ``seconds`` still 0; a gradient's time is that of all cores."""
    draws = sampled.draws
    chains, length = draws.diverging.shape
    return diagnose(
        posterior,
        draws.energy,
        draws.diverging,
        seconds=0.0,
        gradient_ms=1e3 * sampled.cpu_seconds / max(sampled.gradients, 1),
        gradients=sampled.gradients + start_gradients,
        virtual_patients=0,
        device=device_name(),
        draws=length,
        chains=chains,
        mean_steps=float(draws.steps.mean()),
        sampling_seconds=sampled.seconds,
        sampling_cpu_seconds=sampled.cpu_seconds,
    )


def publish_patient_fit(
    out: Path,
    begin: float,
    settings: ArrestFit | PatientFit,
    diagnostics: Diagnostics,
    tree: xr.DataTree,
    tables: PatientData,
    parameters: pd.DataFrame,
    by_patient: dict[str, pd.DataFrame],
    summary: Callable[[Diagnostics], str],
    events: pd.DataFrame | None = None,
) -> Diagnostics:
    """Write the results to ``out``, where they appear together, and return the diagnostics with the seconds since ``begin``.

    Parameters
    ----------
    begin: the clock (``time.perf_counter``) when the fit began.
    by_patient: tables with texts of the user's, by the name of their file.
    summary: summary.md without the predictive checks, given the diagnostics.
    events: the predictive check of events, where there are any (event_check.py).
    """
    new = new_results(out)
    individual_fits(tree, tables, new / "figures")
    vpc, pit = (
        vpc_table(tree, tables, settings.checks.prediction_corrected),
        pit_table(tree, tables, settings.sampler.seed),
    )
    draw_vpc(vpc, {n: seen(tree, tables, n) for n in observables(tree)}, new / "figures")
    draw_pit(pit, new / "figures" / "pit.png")
    checks = {"vpc": vpc, "pit": pit} | ({} if events is None else {"events": events})
    if events is not None:
        draw_events(events, new / "figures" / "events.png")
    for name, table in checks.items():
        table.to_csv(new / f"{name}.csv", index=False, float_format="%.5g")
    parameters.to_csv(new / "parameters.csv", index=False, float_format="%.5g")
    for name, table in by_patient.items():
        inert(table).to_csv(new / f"{name}.csv", index=False, float_format="%.5g")
    diagnostics = replace(diagnostics, seconds=time.perf_counter() - begin)
    (new / "diagnostics.json").write_text(json.dumps(asdict(diagnostics), indent=1) + "\n")
    (new / "summary.md").write_text(summary(diagnostics) + checks_text(vpc, pit, events), "utf-8")
    tree[TABLES] = xr.DataTree(stored(tables))
    if diagnostics.failed:
        tree.attrs[FAILED] = diagnostics.failed
    save(tree, new / POSTERIOR)
    publish(out, last=POSTERIOR)
    drop_unfinished(out)
    return diagnostics
