"""The tables of one virtual trial, and the folder that holds them: complete or not there."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.scenario import Scenario
from rich.console import Console

from . import posterior_file
from .define_page import define_text, versions_text
from .errors import input_error, nearest_first, shown
from .exposure_tables import adex, nonmem
from .finding_tables import adae, adlb, baseline_counts
from .mixture import alone
from .problem import Problem
from .results_folder import OURS, new_results, publish
from .scenario_files import Source
from .scenarios import described, fitted_of
from .spreadsheet import inert
from .subject_tables import adsl, adtte
from .table_columns import TABLES
from .virtual_trial import Order, VirtualTrial, simulate_virtual_trial

DEFINE = "define.md"
PACKAGES = ("mezikd", "jax", "jaxlib", "numpy", "pandas")
SUFFIXES = (".csv", ".parquet")
OWN_FILES = frozenset({DEFINE, *(name + suffix for name in TABLES for suffix in SUFFIXES)})
"""Files that `mezikd simulate` writes; a folder with others is not replaced."""
console = Console(stderr=True, highlight=False, markup=False)


def tables_of(trial: VirtualTrial, study: str) -> dict[str, pd.DataFrame]:
    """Return the tables of a simulated trial by name, arm after arm; ``study`` is the name of the fitted study."""
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES if name != "nonmem"}
    for i, arm in enumerate(trial.arms):
        baseline = baseline_counts(arm, np.random.default_rng([trial.order.seed, 13, i]))
        doses = adex(arm, study)
        parts["adex"].append(doses)
        parts["adsl"].append(adsl(arm, baseline, doses, study))
        parts["adlb"].append(adlb(arm, baseline, study))
        parts["adae"].append(adae(arm, study))
        parts["adtte"].append(adtte(arm, study))
    # An empty part has no types to offer.
    out = {name: pd.concat([x for x in some if len(x)] or some[:1], ignore_index=True) for name, some in parts.items()}
    return out | {"nonmem": nonmem(out["adsl"], out["adex"], out["adlb"])}


def check_folder(out: Path, overwrite: bool) -> None:
    """Make sure that the tables may become ``out``.

    Raises
    ------
    InputError: it holds tables and ``overwrite`` is not given, or it holds other files.
    """
    held = sorted(p.name for p in out.iterdir() if p.name not in OURS) if out.is_dir() else []
    other = [name for name in held if name not in OWN_FILES]
    if other:
        raise input_error("--out", f"{out} holds other files, such as {other[0]}", "name another folder")
    if held and not overwrite:
        raise input_error("--out", f"{out} holds tables already", "name another --out, or --overwrite to replace them")


def write_folder(out: Path, tables: Mapping[str, pd.DataFrame], define: str, suffix: str) -> None:
    """Write tables and define.md into ``out``, all of them or none; tables of a run before are replaced."""
    new = new_results(out)
    for name, table in tables.items():
        if suffix == ".csv" or name == "nonmem":
            inert(table).to_csv(new / f"{name}.csv", index=False, lineterminator="\n")
        else:
            table.to_parquet(new / f"{name}{suffix}", index=False, engine="pyarrow")
    (new / DEFINE).write_text(define, "utf-8")
    publish(out, last=DEFINE, outdated=OWN_FILES)


def ordered_scenario(problem: Problem, regimen: Mapping[str, float], rdi: float | None) -> Scenario:
    """Return the fitted regimen with the keys of ``regimen`` (dose_mg, days_on, cycle_days) replaced.

    Raises
    ------
    InputError: more dosing days than the cycle has.
    """
    asked = {**{k: getattr(problem.target.design.regimen, k) for k in ("dose_mg", "days_on", "cycle_days")}, **regimen}
    if asked["days_on"] > asked["cycle_days"]:
        option = "--days-on" if "days_on" in regimen else "--cycle-days"
        raise input_error(
            option, f"{asked['days_on']} dosing days in a cycle of {asked['cycle_days']} days", "correct --days-on or --cycle-days",
            allowed=f"days on from 1 to {asked['cycle_days']}",
        )  # fmt: skip
    return Scenario(regimen=replace(problem.target.design.regimen, **asked), rdi=rdi)


def named_scenario(problem: Problem, source: Source, name: str | None) -> Scenario:
    """Return one scenario of a file by its name; without a name, the only one it describes.

    Raises
    ------
    InputError: a mistake in the file, an unknown name, or several scenarios and no name. A region mix is left to --region.
    """
    fitted = fitted_of(problem)
    found = {s.name: s for s in described(source, fitted)}
    if name is None and len(found) > 1:
        raise input_error("--scenario", "missing", "name one of the file's scenarios", allowed=", ".join(found))
    chosen = next(iter(found)) if name is None else name
    if chosen not in found:
        near = nearest_first(chosen, list(found))
        raise input_error(
            "--scenario", f"{shown(chosen)} is not in the file", f"did you mean {near[0]}?", allowed=", ".join(found)
        )
    if found[chosen].regions != fitted.regions:
        raise input_error(
            "--scenario", f"{shown(chosen)} has a region mix of its own", "leave it out of the file, and give --region"
        )
    return found[chosen].scenario


def run_simulate(
    posterior: Path, out: Path, order: Mapping, regimen: Mapping[str, float], rdi: float | None, suffix: str,
    source: Source | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Simulate one trial from the fit in ``posterior`` and write its tables to the folder ``out``.

    ``order`` holds patients, arms, region, draw and seed of an ``Order``; ``source`` a scenario file, of which ``name`` is
    simulated, in place of a regimen.
    """
    tree, problem = posterior_file.load_draws(posterior)
    scenario = ordered_scenario(problem, regimen, rdi) if source is None else named_scenario(problem, source, name)
    asked = Order(scenario=scenario, **order)
    with console.status("simulating"):
        trial = simulate_virtual_trial(np.asarray(tree["unconstrained_posterior"]["z"]), problem, asked)
    study = problem.settings.study.name
    tables = tables_of(trial, study)
    structure = f"{alone(posterior, problem)}. {posterior_file.caution(tree)}".strip()
    provenance = {
        "Structure of the model": structure,
        "Posterior, SHA-256": hashlib.sha256(posterior.read_bytes()).hexdigest(),
        "Posterior, made with": versions_text(str(tree.attrs["versions"])),
        "Tables, made with": ", ".join(
            f"{p} {metadata.version(p)}" for p in ("mezikd", "jax", "jaxlib", "numpy", "pandas")
        ),
    }
    write_folder(out, tables, define_text(trial, problem, tables, suffix, provenance), suffix)
    sizes = ", ".join(f"{name} {len(table)}" for name, table in tables.items())
    console.print(f"{out}: {sizes} rows; {DEFINE} explains them")
    console.print(f"structure: {structure}", soft_wrap=True)
    if trial.extrapolated:
        console.print("extrapolated: no reported number speaks of this regimen or mix of regions")
