"""The fit of the arrest model to single patients, from folder to results; saved as it goes, as patient_fit.py."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from . import arrest_results as results
from .arrest_problem import build, read_tables
from .arrest_settings import ArrestFit
from .arrest_start import find_arrest_start
from .arrest_target import ArrestTarget
from .diagnostics import passes
from .event_check import event_table
from .files import load_pickle, save_pickle
from .patient_fit import console
from .patient_output import diagnosed, publish_patient_fit
from .patient_posterior import Reader
from .patient_results import digest
from .patient_start import Gradient, Start, scale_of
from .patients_left_out import left_out
from .places import POSTERIOR
from .posterior_file import versions
from .processor import keep_memory, keep_programs
from .results_folder import UNFINISHED, resume_or_begin
from .sampler import SamplerSettings, in_background
from .sampling import Sampled
from .side_by_side import SideBySide
from .side_by_side_run import sample_side_by_side


def start_and_sample(
    target: Any,
    data: Any,
    settings: ArrestFit,
    work: Path,
    begin: float,
    find: Callable[..., Start],
    reader: Reader,
    ids: Sequence[str],
) -> tuple[Start, Any, Sampled, xr.Dataset]:
    """Return the start, what the log-density is given from there on, the draws and their posterior; an interrupted run goes on.

    Parameters
    ----------
    target: log-densities of many points (``ArrestTarget`` and its like); ``data``: what it is given.
    begin: the clock (``time.perf_counter``) when the fit began.
    find: (target, data, gradient) -> start.
    reader, ids: of the posterior, which the gate looks at.
    """
    s = SamplerSettings(**settings.sampler.model_dump(exclude={"method"}))
    data = jax.tree.map(jnp.asarray, data)
    along = target.in_single().log_densities if isinstance(target, ArrestTarget) else None
    build_args = target.log_densities, s.chains, target.dimensions, target.shared_size, data, along
    future = in_background(SideBySide, *build_args)
    gradient = Gradient(target, data)
    start = load_pickle(work / "start.pickle")
    if start is None:
        with console.status("modes of patients, curvature"):
            start = jax.tree.map(np.asarray, find(target, data, gradient))
        save_pickle(work / "start.pickle", start)
    data = jax.tree.map(jnp.asarray, start.data)
    console.print(f"{time.perf_counter() - begin:.0f} s: mode and curvature")
    with console.status("compiling the sampler"):
        sampler = future.result()
    console.print(f"{time.perf_counter() - begin:.0f} s: sampler compiled")

    def posterior(z: np.ndarray) -> xr.Dataset:
        return reader.posterior(z, data, ids)

    scale = scale_of(start, target.shared_size)
    sampled = sample_side_by_side(sampler, s, scale, data, work, console, enough=lambda z: passes(posterior(z)))
    console.print(f"{time.perf_counter() - begin:.0f} s: sampled")
    return start, data, sampled, posterior(sampled.draws.z)


def run_arrest_fit(folder: Path, out: Path, settings: ArrestFit, restart: bool) -> bool:
    """Fit the patients in ``folder`` into ``out``; return whether the convergence gate was passed.

    Raises
    ------
    InputError: a mistake in the tables, or ``out`` holds another fit.
    """
    begin = time.perf_counter()
    keep_memory()
    keep_programs()
    tables = read_tables(folder, settings)
    target, data = build(folder, settings, tables)
    hashed = digest(folder / settings.tables.file)
    inputs = {"settings": settings.model_dump(), "table": hashed, "versions": versions()}
    work = out / UNFINISHED
    if resume_or_begin(out, "fit", json.dumps(inputs, sort_keys=True), POSTERIOR, restart):
        console.print(f"going on with the unfinished fit in {out} (--restart begins anew)")
    console.print(
        f"{settings.study.name}: {target.patients} patients, {int(data.counts.there.sum())} counts, "
        f"{data.ledger.dose.shape[0]} weeks, {target.dimensions} coordinates"
    )
    start, data, sampled, posterior = start_and_sample(
        target, data, settings, work, begin, find_arrest_start, results.reader(target), tables.ids
    )
    seconds = time.perf_counter() - begin
    tree = results.build_tree(target, data, tables, sampled.draws, posterior, folder, settings, seconds)
    parameters, loo = results.parameter_table(tree, target, start.shrinkage), left_out(tree)
    diagnostics = publish_patient_fit(
        out,
        begin,
        settings,
        diagnosed(posterior, sampled, int(start.gradients)),
        tree,
        tables,
        parameters,
        {"patients": results.patient_table(tree), "loo": loo},
        lambda d: results.summary_text(settings, tables, data, d, parameters, loo),
        event_table(target, data, tables, sampled.draws),
    )
    console.print(f"gate: {diagnostics.gate} {diagnostics.failed}".rstrip())
    console.print(f"{out / 'summary.md'} ({diagnostics.seconds:.0f} s)")
    return diagnostics.gate == "pass"
