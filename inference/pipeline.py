"""The fit from folder to results, and the check of a saved fit. Results appear when complete; blocks of draws as they come."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from mezikd.model.parameters import REGIONS
from rich.console import Console

from . import check, posterior_file
from .coordinates import prior_scaled
from .devices import patients_mesh
from .errors import input_error
from .files import load_pickle, save_pickle
from .likelihood import Data, Target
from .methods import method_of
from .mode import CORES
from .places import POSTERIOR
from .problem import Problem, load_problem
from .processor import MANY_CYCLES, keep_memory, keep_programs
from .results_folder import UNFINISHED, drop_unfinished, new_results, publish, resume_or_begin
from .sampler import SamplerSettings
from .workers import workers

PREDICTIVE_DRAWS = 400
console = Console(stderr=True, highlight=False, markup=False)


def _fingerprint(problem: Problem) -> str:
    inputs = {
        "settings": problem.settings.model_dump(),
        "files": problem.texts(),
        "versions": posterior_file.versions(),
    }
    return json.dumps(inputs, sort_keys=True)


def _pointwise(target: Target, z: np.ndarray, data: Data) -> dict[str, np.ndarray]:
    """Return the log-likelihood of every term at draws of ``z`` (chain, draw, parameter), thinned to about 100 a chain."""
    z = z[:, :: max(1, z.shape[1] // 100)]
    draws = (target.compiled_given(target.compiled_expected(x), x, data)[1] for x in z.reshape(-1, z.shape[-1]))
    out = [{k: float(v) for k, v in d.items()} for d in draws]
    return {k: np.array([o[k] for o in out]).reshape(z.shape[:2]) for k in out[0]}


def run_fit(
    folder: Path, out: Path, overrides: Mapping[str, int | str], restart: bool, devices: int | None = None
) -> bool:
    """Fit ``folder`` into ``out``; return whether the convergence gate was passed.

    ``devices``: over how many the virtual patients are spread (devices.patients_mesh).
    """
    begin = time.perf_counter()
    keep_programs()
    problem = load_problem(folder, overrides)
    keep_memory(shared=problem.settings.model.daily_cycles >= MANY_CYCLES)
    if problem.settings.sampler.method == "emulated":
        if (devices or 1) > 1:
            what = f"{devices} devices for one program, but emulated computes a program a core"
            raise input_error("--device", what, "give --method nuts or side_by_side")
        devices = 1
    resumes = resume_or_begin(out, "fit", _fingerprint(problem), POSTERIOR, restart)
    work, s = out / UNFINISHED, problem.settings.sampler
    if resumes:
        console.print(f"going on with the unfinished fit in {out} (--restart begins anew)")
    settings = SamplerSettings(**s.model_dump(exclude={"method"}))
    console.print(f"{problem.settings.study.name}: {len(problem.evidence.fit)} reported numbers fitted, "
                  f"{len(problem.free)} parameters, {problem.settings.patients.mezikd} virtual patients")  # fmt: skip
    target = problem.target
    mesh = patients_mesh(devices, min(target.mezikd.size, target.kd.size) // len(REGIONS))
    if mesh is not None:
        console.print(f"virtual patients spread over {mesh.size} devices")
    method = method_of(target if mesh is None else replace(target, over=mesh), settings, s.method)
    # What the results need takes seconds to import: meanwhile the method's programs compile.
    from . import figures, summary
    from .diagnostics import diagnose, passes

    saved = load_pickle(work / "geometry.pickle")
    if saved is None:
        likelihood = problem.settings.likelihood
        trials = likelihood.covariance_trials if likelihood.covariance == "simulated" else None
        with console.status("mode, simulated trials, curvature"):
            there, mode_gradients = method.geometry(trials)
        saved = (jax.tree.map(np.asarray, there), mode_gradients)
        save_pickle(work / "geometry.pickle", saved)
    geometry, mode_gradients = jax.tree.map(jnp.asarray, saved[0]), saved[1]
    console.print(f"{time.perf_counter() - begin:.0f} s: posterior mode and its curvature")
    with console.status("compiling the sampler"):
        method.wait()
    console.print(f"{time.perf_counter() - begin:.0f} s: sampler compiled")
    kept_as = partial(prior_scaled, parameters=problem.parameters)

    def enough(z: np.ndarray) -> bool:
        return passes(posterior_file.natural_dataset(z, problem))

    sampled = method.draws(geometry, work, kept_as, console, enough)
    stacked, gradients = sampled.draws, sampled.gradients
    diagnostics = diagnose(
        posterior_file.natural_dataset(stacked.z, problem),
        stacked.energy,
        stacked.diverging,
        seconds=0.0,
        gradient_ms=1e3 * sampled.seconds * method.at_once / max(gradients, 1),
        gradients=gradients + mode_gradients,
        virtual_patients=problem.settings.patients.mezikd,
        device=posterior_file.device_name(),
        draws=stacked.z.shape[1],
        chains=s.chains,
        mean_steps=float(stacked.steps.mean()),
        sampling_seconds=sampled.seconds,
        sampling_cpu_seconds=sampled.cpu_seconds,
    )
    console.print(f"{time.perf_counter() - begin:.0f} s: sampled")
    with console.status("simulated trials, check, figures"), workers(CORES) as pool:
        pointwise = pool.submit(_pointwise, target, stacked.z, geometry.data)
        flat = stacked.z.reshape(-1, stacked.z.shape[-1])
        chosen = flat[np.linspace(0, len(flat) - 1, min(PREDICTIVE_DRAWS, len(flat))).astype(int)]
        simulated = check.predictive(problem.evidence, chosen, problem.parameters, target.design, s.seed)
        table = check.check_table(problem.evidence, simulated)
        console.print(f"{time.perf_counter() - begin:.0f} s: checked against {len(chosen)} simulated trials")
        stats = {
            "lp": stacked.log_density, "energy": stacked.energy, "acceptance_rate": stacked.accept,
            "n_steps": stacked.steps, "diverging": stacked.diverging,
        }  # fmt: skip
        seconds = time.perf_counter() - begin
        tree = posterior_file.build_tree(
            problem, stacked.z, stats, pointwise.result(), simulated,
            posterior_file.attributes(problem, seconds, geometry.data.joint),
        )  # fmt: skip
        parameters = summary.parameter_table(tree, problem)
        new = new_results(out)
        mode = prior_scaled(geometry.centre, problem.parameters)
        integration_error = pool.submit(summary.integration_error, problem, mode)
        figures.write_figures(tree, problem, table, new / "figures")
        error = integration_error.result()
    diagnostics = replace(diagnostics, seconds=time.perf_counter() - begin)
    (new / "diagnostics.json").write_text(json.dumps(asdict(diagnostics), indent=1) + "\n")
    parameters.to_csv(new / "parameters.csv", index=False, float_format="%.5g")
    table.to_csv(new / "check.csv", index=False, float_format="%.5g")
    error.to_csv(new / "integration_error.csv", index=False, float_format="%.4f")
    text = summary.summary_text(problem, diagnostics, parameters, table, error)
    (new / "summary.md").write_text(text, "utf-8")
    if diagnostics.failed:
        tree.attrs[posterior_file.FAILED] = diagnostics.failed
    posterior_file.save(tree, new / POSTERIOR)
    publish(out, last=POSTERIOR)
    drop_unfinished(out)
    console.print(f"gate: {diagnostics.gate} {diagnostics.failed}".rstrip())
    console.print(f"{out / 'summary.md'} ({diagnostics.seconds:.0f} s)")
    return diagnostics.gate == "pass"


def run_check(fit: Path, out: Path, trials: int, seed: int) -> None:
    """Simulate ``trials`` trials from the posterior in ``fit`` and write check.csv and its figure to ``out``."""
    keep_memory()
    keep_programs()
    tree, problem = posterior_file.load(fit)
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    flat = z.reshape(-1, z.shape[-1])
    chosen = flat[np.random.default_rng([seed, 5]).integers(0, len(flat), trials)]
    with console.status(f"{trials} simulated trials"):
        simulated = check.predictive(problem.evidence, chosen, problem.parameters, problem.target.design, seed)
    table: pd.DataFrame = check.check_table(problem.evidence, simulated)
    from . import figures

    new = new_results(out)
    figures.reported_against_predicted(table, problem, new / "reported_against_predicted.png")
    table.to_csv(new / "check.csv", index=False, float_format="%.5g")
    publish(out)
    inside = table.groupby("role")["covered"].agg(["sum", "size"])
    for role, line in inside.iterrows():
        console.print(f"{role}: {line['sum']} of {line['size']} inside the 90 % predictive interval")
