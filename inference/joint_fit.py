"""The fit of patients of one trial together with reported numbers of another, from folder to results."""

import json
import time
from pathlib import Path

import jax
import numpy as np

from . import arrest_results, joint_results
from .arrest_fit import start_and_sample
from .arrest_problem import build, read_tables
from .arrest_settings import ArrestFit, Joint
from .event_check import event_table
from .joint_problem import build_joint, load_other
from .joint_start import find_joint_start
from .joint_target import JointInputs, JointTarget
from .patient_fit import console
from .patient_output import diagnosed, publish_patient_fit
from .patient_results import digest
from .patient_start import Gradient, Start
from .patients_left_out import left_out
from .places import POSTERIOR
from .posterior_file import versions
from .processor import keep_memory
from .results_folder import UNFINISHED, resume_or_begin


def run_joint_fit(folder: Path, out: Path, settings: ArrestFit, joint: Joint, restart: bool) -> bool:
    """Fit the patients in ``folder`` and the numbers that ``joint`` names into ``out``; return whether the gate was passed.

    Raises
    ------
    InputError: a mistake in the tables or in the other trial's files, or ``out`` holds another fit.
    """
    begin = time.perf_counter()
    keep_memory()
    other = load_other(folder, settings, joint)
    tables = read_tables(folder, settings)
    single, patients = build(folder, settings, tables)
    target, data = build_joint(single, patients, other, joint)
    inputs = {
        "settings": settings.model_dump(), "table": digest(folder / settings.tables.file), "other": other.texts(),
        "versions": versions(),
    }  # fmt: skip
    work = out / UNFINISHED
    if resume_or_begin(out, "fit", json.dumps(inputs, sort_keys=True), POSTERIOR, restart):
        console.print(f"going on with the unfinished fit in {out} (--restart begins anew)")
    console.print(
        f"{settings.study.name}: {target.patients} patients, {int(patients.counts.there.sum())} counts; "
        f"{other.settings.study.name}: {len(other.evidence.fit)} reported numbers; {len(joint.shared)} parameters shared, "
        f"{target.dimensions} coordinates"
    )

    def find(target: JointTarget, data: JointInputs, gradient: Gradient) -> Start:
        return find_joint_start(target, other, data, gradient)

    reader = joint_results.reader(target)
    start, _, sampled, posterior = start_and_sample(target, data, settings, work, begin, find, reader, tables.ids)
    seed, sides = settings.sampler.seed, joint_results.sides_of(target, sampled.draws)
    draws = joint_results.of_patients(sampled.draws, sides)
    patients = jax.tree.map(np.asarray, patients._replace(information=start.data.information))
    seconds = time.perf_counter() - begin
    every = joint_results.with_means(posterior.copy(), target, sides, seed)
    tree = arrest_results.build_tree(single, patients, tables, draws, every, folder, settings, seconds)
    parameters, loo = arrest_results.parameter_table(tree, single, start.shrinkage), left_out(tree)
    by_patient = {"patients": arrest_results.patient_table(tree), "loo": loo}
    tree.attrs.update({f"file:{name}": text for name, text in other.texts().items()})
    table, check = joint_results.joint_table(tree, target, seed), joint_results.numbers_table(other, sides, seed)

    def summary(d) -> str:
        own = arrest_results.summary_text(settings, tables, patients, d, parameters, loo)
        return own + joint_results.joint_text(other, table, check, d)

    diagnostics = publish_patient_fit(
        out,
        begin,
        settings,
        diagnosed(posterior, sampled, int(start.gradients)),
        tree,
        tables,
        parameters,
        by_patient | {"joint": table, "check": check},
        summary,
        event_table(single, patients, tables, draws),
    )
    console.print(f"gate: {diagnostics.gate} {diagnostics.failed}".rstrip())
    console.print(f"{out / 'summary.md'} ({diagnostics.seconds:.0f} s)")
    return diagnostics.gate == "pass"
