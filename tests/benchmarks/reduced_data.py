"""What patients' tables add to the numbers that a trial reports: one simulated trial with a known truth, fitted both ways.

``python tests/benchmarks/reduced_data.py runs/reduced`` simulates a trial of 120 + 80 patients, followed for 12 cycles, at the
posterior mean of the built-in fit; writes its patients' tables (``patients/``) and the numbers that its report would hold
(``summary/``: the rows of the built-in evidence by the paper's estimators); fits both by ``mezikd fit`` with the same declared
priors; and writes ``reduced_data.csv`` beside this file. What is finished in the folder is not done again.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.inference import estimators, posterior_file
from mezikd.inference.arrest_settings import READ, REGIONAL
from mezikd.inference.commands import built_in_fit, run
from mezikd.inference.evidence import COLUMNS, Row
from mezikd.inference.observed import Z95
from mezikd.inference.patient_calibration import EXACTLY, written
from mezikd.inference.reported_trial import wanted
from mezikd.inference.trial import SAMPLES, SURVIVAL, ArmData, reduce
from mezikd.inference.virtual_trial import Order, VirtualTrial, simulated_at
from mezikd.model.parameters import DECLARED, REGIONS, Parameter, free, natural
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario
from mezikd.model.trial_design import ARMS, Arm

RESULTS = Path(__file__).with_name("reduced_data.csv")
PATIENTS, CYCLES, SEED, FEWEST = 120, 12, 21, 4
CUTOFF_MONTHS = 28.0 * CYCLES / DAYS_PER_MONTH
FOLLOW_UP = f"name,centre,spread,source\nfollowup_months,{CUTOFF_MONTHS:.4f},0.01,known\nfollowup_sd,0.02,0.1,known\n"
"""priors.csv of the fit to reported numbers: when data were cut off is known to it, as it is to the other."""
SAMPLER = "[sampler]\nchains = 8\nwarmup = 300\ndraws = 350\nmore_draws = 650\nseed = 1\ntarget_accept = 0.9\nmax_tree_depth = 6\n"


def sizes(trial: VirtualTrial) -> dict[str, Arm]:
    """Return who was in each arm."""
    found = {}
    for arm in trial.arms:
        regions = tuple(int(x) for x in np.bincount(arm.region, minlength=len(REGIONS)))
        found[arm.name] = Arm(arm.size, int(arm.treated.sum()), regions)
    return found


def reported(row: Row, trial: dict[str, ArmData]) -> tuple[float, float, float] | None:
    """Return value, low and high of a row as a report would give them; None where it could not."""
    if row.statistic == "count":
        return reduce(trial, row)[1], np.nan, np.nan
    if row.statistic == "quartiles":
        x = np.asarray(SAMPLES[row.outcome](trial, row))
        low, middle, high = estimators.quartiles(x) if len(x) >= FEWEST else (0.0, 0.0, 0.0)
        at_cutoff = row.outcome in ("duration of treatment", "follow-up") and high > 0.999 * CUTOFF_MONTHS
        return (middle, low, high) if low < middle < high and not at_cutoff else None
    what = SURVIVAL[row.outcome]
    if row.statistic == "median":
        time, event = trial[row.arm].time_to_event(what)
        middle = estimators.kaplan_meier_median(time, event)
        low, high = estimators.kaplan_meier_median_interval(time, event)
        return (middle, low, high) if low < middle < high else None
    times, events = zip(*(trial[a].time_to_event(what) for a in ARMS), strict=True)
    arm = np.repeat([1, 0], [len(x) for x in times])
    beta, error = estimators.cox(np.concatenate(times), np.concatenate(events), arm)
    return float(np.exp(beta)), float(np.exp(beta - Z95 * error)), float(np.exp(beta + Z95 * error))


def evidence(trial: VirtualTrial, problem) -> pd.DataFrame:
    """Return evidence.csv of the trial: the rows that the built-in fit reads."""
    arms, old = sizes(trial), {a: problem.design.arm(a) for a in ARMS}
    data = {a.name: ArmData(arms[a.name], a.region, a.treated, a.history) for a in trial.arms}
    names, lines, count = wanted(problem.evidence), [], {}

    def denominator(row: Row) -> float:
        given = problem.evidence.given(row)
        if row.statistic == "quartiles" and given is not None:
            return count[given.name]
        if row.outcome == "infection concurrent with grade >=3 neutropenia":
            return count[given.name]  # out of those with the event
        if row.subgroup != "all":
            return arms[row.arm].regions[REGIONS.index(row.subgroup)]
        if row.arm in arms:
            return arms[row.arm].treated if row.denominator == old[row.arm].treated else arms[row.arm].randomised
        return sum(a.randomised for a in arms.values())

    for row in (r for r in problem.evidence.rows if r.name in names):
        found = reported(row, data)
        if found is None:
            continue
        if row.statistic == "count":
            count[row.name] = found[0]
        bounds = ["" if np.isnan(x) else "NR" if np.isinf(x) else f"{x:.6g}" for x in found]
        cells = dict(zip(("value", "low", "high"), bounds, strict=True))
        cells |= {"denominator": f"{denominator(row):g}", "where": "simulated"}
        lines.append({c: cells.get(c, getattr(row, c)) for c in COLUMNS})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def study(trial: VirtualTrial, problem) -> str:
    """Return fit.toml of the fit to reported numbers: the built-in one with this trial's sizes."""
    text = (built_in_fit() / "fit.toml").read_text("utf-8")
    for name, arm in sizes(trial).items():
        old = problem.design.arm(name)
        was, now = (
            f"randomised = {a.randomised}\ntreated = {a.treated}\nregions = {{ "
            + ", ".join(f"{r} = {n}" for r, n in zip(REGIONS, a.regions, strict=True)) + " }"
            for a in (old, arm)
        )  # fmt: skip
        if was not in text:
            raise RuntimeError(f"the built-in fit.toml describes arm {name} in another way")
        text = text.replace(was, now)
    return text


def estimated() -> tuple[Parameter, ...]:
    """Return the parameters that both fits estimate, with the same declared priors."""
    return tuple(p for p in free(DECLARED) if p.name in (*READ, *REGIONAL))


def prepare(folder: Path) -> dict[str, float]:
    """Simulate the trial, write both folders where they are missing, and return the truth."""
    tree, problem = posterior_file.load(built_in_fit() / "posterior.nc")
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    theta = natural(z.reshape(-1, z.shape[-1]).mean(axis=0), problem.parameters)
    theta |= {"followup_months": CUTOFF_MONTHS, "followup_sd": EXACTLY}
    design = replace(problem.design, horizon_weeks=4 * CYCLES)
    order = Order(PATIENTS, ARMS, Scenario(regimen=design.regimen), None, "posterior-mean", SEED)
    trial = simulated_at(theta, design, order, "posterior mean, followed for 12 cycles")
    patients, summary = folder / "patients", folder / "summary"
    for place in (patients, summary):
        place.mkdir(parents=True, exist_ok=True)
    written(trial, patients)
    header = (
        '[study]\nname = "Reduced data"\ntitle = "One simulated trial"\ncitation = "none"\n\n[tables]\nfile = "."\n'
    )
    names = "\n".join(f"{p.name} = {{}}" for p in estimated())
    toml = f'{header}\n[model]\nstructure = "arrest"\n\n[parameters]\n{names}\n\n{SAMPLER}'
    (patients / "fit.toml").write_text(toml, "utf-8")
    (summary / "fit.toml").write_text(study(trial, problem), "utf-8")
    evidence(trial, problem).to_csv(summary / "evidence.csv", index=False)
    (summary / "priors.csv").write_text(FOLLOW_UP, "utf-8")
    return trial.theta


def compared(truth: dict[str, float], patients: Path, summary: Path) -> pd.DataFrame:
    """Return the table: truth, 90 % intervals of both fits, ratio of their widths on the scale of the prior."""
    draws = [posterior_file.opened(p / "posterior.nc")["posterior"].to_dataset() for p in (patients, summary)]
    lines = []
    for p in estimated():
        p = replace(p, fixed=False)
        (low, high), (low_s, high_s) = (np.quantile(d[p.name].to_numpy(), [0.05, 0.95]) for d in draws)
        width, width_s = (float(p.to_working(b) - p.to_working(a)) for a, b in ((low, high), (low_s, high_s)))
        prior = 2.0 * 1.6448536 * p.spread
        lines.append(
            (
                p.name, p.unit, truth[p.name], low, high, low_s, high_s, width_s / width, prior / width_s,
                low <= truth[p.name] <= high, low_s <= truth[p.name] <= high_s, low_s <= low and high <= high_s,
            )
        )  # fmt: skip
    columns = [
        "parameter", "unit", "truth", "patients_q05", "patients_q95", "summary_q05", "summary_q95",
        "summary_over_patients", "prior_over_summary", "patients_hold_truth", "summary_holds_truth", "summary_contains_patients",
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=pd.Index(columns))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    truth = prepare(folder)
    fits = {"patients": [], "summary": ["--virtual-patients", "128", "--draws", "600"]}
    for name, options in fits.items():
        if not (folder / f"{name}_fit" / "posterior.nc").exists():
            run(["fit", str(folder / name), "--out", str(folder / f"{name}_fit"), *options])
    table = compared(truth, folder / "patients_fit", folder / "summary_fit")
    table.to_csv(RESULTS, index=False, float_format="%.4g")
    print(table.to_string())
