"""Patients of one trial fitted together with the reported numbers of another: ``python tests/benchmarks/joint_fit.py runs/joint``.

24 + 16 patients are simulated for 6 cycles at the posterior mean of the built-in fit. All 29 parameters of fits/patients are
estimated from their tables, four of them shared with the built-in trial up to a between-trial effect. Writes ``joint_fit.csv``
beside this file: joint.csv with the truth in the patients' trial, and how the sampling went.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.inference import posterior_file
from mezikd.inference.commands import built_in_fit, run
from mezikd.inference.patient_calibration import EXACTLY, written
from mezikd.inference.virtual_trial import Order, VirtualTrial, simulated_at
from mezikd.model.parameters import natural
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario
from mezikd.model.trial_design import ARMS

RESULTS = Path(__file__).with_name("joint_fit.csv")
PATIENTS, CYCLES, SEED = 24, 6, 11
SHARED = ("ec50", "anc0", "infection_rate", "progression_rate")
JOINT = f'[joint]\nevidence = "built-in"\nshared = {json.dumps(SHARED)}\nbetween_trial_sd = 0.2\n\n'
SAMPLER = "[sampler]\nchains = 8\nwarmup = 250\ndraws = 300\nmore_draws = 700\nseed = 1\ntarget_accept = 0.8\nmax_tree_depth = 6\n"


def simulated() -> tuple[VirtualTrial, dict[str, float]]:
    """Return the patients' trial and its true parameters."""
    tree, problem = posterior_file.load(built_in_fit() / "posterior.nc")
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    theta = natural(z.reshape(-1, z.shape[-1]).mean(axis=0), problem.parameters)
    theta |= {"followup_months": 28.0 * CYCLES / DAYS_PER_MONTH, "followup_sd": EXACTLY}
    regimen = problem.design.regimen
    design = replace(problem.design, horizon_weeks=CYCLES * regimen.cycle_days // 7)
    order = Order(PATIENTS, ARMS, Scenario(regimen=regimen), None, "posterior-mean", SEED)
    return simulated_at(theta, design, order, "joint fit"), {k: float(v) for k, v in theta.items()}


def main(place: Path) -> None:
    folder, out = place / "patients", place / "fit"
    folder.mkdir(parents=True, exist_ok=True)
    trial, truth = simulated()
    written(trial, folder)
    text = (built_in_fit().parent / "patients" / "fit.toml").read_text("utf-8")
    (folder / "fit.toml").write_text(text[: text.index("[sampler]")] + JOINT + SAMPLER, "utf-8")
    if not (out / "posterior.nc").exists():
        run(["fit", str(folder), "--out", str(out)])
    table, d = pd.read_csv(out / "joint.csv"), json.loads((out / "diagnostics.json").read_text("utf-8"))
    mine = table["value"] == "in the patients' trial"
    table.insert(
        2, "truth", np.array([truth[n] if own else np.nan for n, own in zip(table["name"], mine, strict=True)])
    )
    for name in ("gate", "max_rhat", "min_ess_bulk", "min_ess_tail", "divergences", "draws", "chains", "gradients"):
        table[name] = d[name]
    table.to_csv(RESULTS, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
