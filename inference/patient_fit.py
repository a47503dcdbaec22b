"""The fit to patients' own data from folder to results; blocks of draws are saved as they come, results when complete."""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from mezikd.model.dosing_events import Unsupported
from rich.console import Console

from . import patient_results as results
from .diagnostics import passes
from .errors import input_error
from .files import load_pickle, save_pickle
from .patient_output import diagnosed, publish_patient_fit
from .patient_problem import build, check_columns
from .patient_settings import PatientFit
from .patient_start import Gradient, find_start, scale_of
from .patient_tables import read_patients
from .patients_left_out import left_out
from .places import POSTERIOR
from .posterior_file import versions
from .processor import keep_memory
from .results_folder import UNFINISHED, resume_or_begin
from .sampler import Geometry, Sampler, SamplerSettings, in_background
from .sampling import sample
from .side_by_side import SideBySide
from .side_by_side_run import sample_side_by_side

console = Console(stderr=True, highlight=False, markup=False)


def load(folder: Path, settings: PatientFit):
    """Return the patients' tables, the log-density and what it is given.

    Raises
    ------
    InputError: a mistake in a table, a column that is missing (``check_columns``), or records that the model does not handle.
    """
    path = folder / settings.tables.file
    tables = read_patients(path, {int(k): v for k, v in settings.tables.dvid.items()}, exposure=settings.model.exposure)
    check_columns(folder, settings, tables)
    if not {"concentration", "anc"} & set(tables.observations["observable"]):
        raise input_error(path, "holds no observation", "give concentrations or neutrophil counts")
    try:
        target, data = build(settings, tables)
    except Unsupported as error:
        raise input_error(path, f"not supported: {error}", "see `mezikd tables --help`") from None
    return tables, target, data


def run_patient_fit(folder: Path, out: Path, settings: PatientFit, restart: bool) -> bool:
    """Fit the patients in ``folder`` into ``out``; return whether the convergence gate was passed.

    Raises
    ------
    InputError: as ``load``, or ``out`` holds another fit.
    """
    begin = time.perf_counter()
    keep_memory()
    tables, target, data = load(folder, settings)
    table = folder / settings.tables.file
    inputs = {"settings": settings.model_dump(), "table": results.digest(table), "versions": versions()}
    work = out / UNFINISHED
    if resume_or_begin(out, "fit", json.dumps(inputs, sort_keys=True), POSTERIOR, restart):
        console.print(f"going on with the unfinished fit in {out} (--restart begins anew)")
    counted = tables.observations["observable"].value_counts()
    said = ", ".join(f"{n} {'counts' if o == 'anc' else 'concentrations'}" for o, n in counted.items())
    console.print(f"{settings.study.name}: {target.patients} patients, {said}, {target.dimensions} coordinates")
    s = SamplerSettings(**settings.sampler.model_dump(exclude={"method"}))
    shared, side_by_side = target.layout.shared, settings.sampler.method == "side_by_side"
    data = jax.tree.map(jnp.asarray, data)
    if side_by_side:
        future = in_background(SideBySide, target.log_densities, s.chains, target.dimensions, shared, data)
    else:
        future = in_background(Sampler, target.log_density, target.dimensions, data, s)
    gradient = Gradient(target, data)
    start = load_pickle(work / "start.pickle")
    if start is None:
        with console.status("modes of patients, curvature"):
            start = jax.tree.map(np.asarray, find_start(target, data, gradient, lambda _: None))
        save_pickle(work / "start.pickle", start)
    data = jax.tree.map(jnp.asarray, start.data)
    gradient.data = data
    console.print(f"{time.perf_counter() - begin:.0f} s: modes and curvature")
    with console.status("compiling the sampler"):
        sampler = future.result()
    console.print(f"{time.perf_counter() - begin:.0f} s: sampler compiled")
    reader = results.reader(target)

    def posterior(z: np.ndarray) -> xr.Dataset:
        return reader.posterior(z, data, tables.ids)

    def enough(z: np.ndarray) -> bool:
        return passes(results.sampled(posterior(z)))

    if isinstance(sampler, SideBySide):
        sampled = sample_side_by_side(sampler, s, scale_of(start, shared), data, work, console, enough=enough)
    else:
        geometry = Geometry(jnp.asarray(start.x), jnp.asarray(start.whiten), data)
        sampled = sample(sampler, geometry, gradient, work, np.asarray, console, enough=enough)
    console.print(f"{time.perf_counter() - begin:.0f} s: sampled")
    found, seconds = posterior(sampled.draws.z), time.perf_counter() - begin
    tree = results.build_tree(target, data, tables, sampled.draws, found, folder, settings, seconds)
    parameters, loo = results.parameter_table(tree, target, start.shrinkage), left_out(tree)
    diagnostics = publish_patient_fit(
        out,
        begin,
        settings,
        diagnosed(results.sampled(found), sampled, int(start.gradients)),
        tree,
        tables,
        parameters,
        {"patients": results.patient_table(tree), "loo": loo},
        lambda d: results.summary_text(settings, target, tables, d, parameters, loo),
    )
    console.print(f"gate: {diagnostics.gate} {diagnostics.failed}".rstrip())
    console.print(f"{out / 'summary.md'} ({diagnostics.seconds:.0f} s)")
    return diagnostics.gate == "pass"
