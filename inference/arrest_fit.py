"""The fit of the arrest model to single patients, from folder to results; saved as it goes, as patient_fit.py."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from . import arrest_results as results
from .arrest_problem import build, read_tables
from .arrest_settings import ArrestFit
from .arrest_start import find_arrest_start
from .diagnostics import diagnose
from .figures_patients import individual_fits, predictive_check
from .files import load_pickle, save_pickle
from .patient_fit import console
from .patient_results import digest, left_out
from .patient_start import Gradient, scale_of
from .places import POSTERIOR
from .posterior_file import device_name, save, versions
from .processor import keep_memory
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .sampler import SamplerSettings, in_background
from .side_by_side import SideBySide
from .side_by_side_run import sample_side_by_side
from .spreadsheet import inert


def run_arrest_fit(folder: Path, out: Path, settings: ArrestFit, restart: bool) -> bool:
    """Fit the patients in ``folder`` into ``out``; return whether the convergence gate was passed.

    Raises
    ------
    InputError: a mistake in the tables, or ``out`` holds another fit.
    """
    begin = time.perf_counter()
    keep_memory()
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
    s = SamplerSettings(**settings.sampler.model_dump(exclude={"method"}))
    data = jax.tree.map(jnp.asarray, data)
    build_args = target.log_densities, s.chains, target.dimensions, target.shared_size, data
    future = in_background(SideBySide, *build_args)
    gradient = Gradient(target, data)
    start = load_pickle(work / "start.pickle")
    if start is None:
        with console.status("modes of patients, curvature"):
            start = jax.tree.map(np.asarray, find_arrest_start(target, data, gradient))
        save_pickle(work / "start.pickle", start)
    data = jax.tree.map(jnp.asarray, start.data)
    console.print(f"{time.perf_counter() - begin:.0f} s: mode and curvature")
    with console.status("compiling the sampler"):
        sampler = future.result()
    console.print(f"{time.perf_counter() - begin:.0f} s: sampler compiled")
    sampled = sample_side_by_side(sampler, s, scale_of(start, target.shared_size), data, work, console)
    console.print(f"{time.perf_counter() - begin:.0f} s: sampled")
    draws = sampled.draws
    tree = results.build_tree(target, data, tables, draws, folder, settings, time.perf_counter() - begin)
    diagnostics = diagnose(
        tree["posterior"].to_dataset(),
        draws.energy,
        draws.diverging,
        seconds=0.0,
        gradient_ms=1e3 * sampled.cpu_seconds / max(sampled.gradients, 1),
        gradients=sampled.gradients + int(start.gradients),
        virtual_patients=0,
        device=device_name(),
        draws=draws.z.shape[1],
        chains=s.chains,
        mean_steps=float(draws.steps.mean()),
        sampling_seconds=sampled.seconds,
        sampling_cpu_seconds=sampled.cpu_seconds,
    )
    new = new_results(out)
    individual_fits(tree, tables, new / "figures")
    predictive_check(tree, tables, new / "figures")
    parameters = results.parameter_table(tree, target, start.shrinkage)
    patients, loo = results.patient_table(tree), left_out(tree)
    diagnostics = replace(diagnostics, seconds=time.perf_counter() - begin)
    (new / "diagnostics.json").write_text(json.dumps(asdict(diagnostics), indent=1) + "\n")
    parameters.to_csv(new / "parameters.csv", index=False, float_format="%.5g")
    inert(patients).to_csv(new / "patients.csv", index=False, float_format="%.5g")
    inert(loo).to_csv(new / "loo.csv", index=False, float_format="%.4g")
    text = results.summary_text(settings, data, diagnostics, parameters, loo)
    (new / "summary.md").write_text(text, "utf-8")
    save(tree, new / POSTERIOR)
    publish(out, last=POSTERIOR)
    drop_unfinished(out)
    console.print(f"gate: {diagnostics.gate} {diagnostics.failed}".rstrip())
    console.print(f"{out / 'summary.md'} ({diagnostics.seconds:.0f} s)")
    return diagnostics.gate == "pass"
