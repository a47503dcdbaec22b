"""Patients and reported numbers fitted together: mistakes in [joint], and from files to results."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference.commands import built_in_fit, run
from simulated_tables import simulated_trial, write_tables

FIT = """
[study]
name = "Simulated patients"
title = "One virtual trial"
citation = "none"

[tables]
file = "."

[model]
structure = "arrest"

[parameters]
ec50 = {}
anc0 = {}
sigma_anc = {}
infection_rate = {}
progression_rate = {}
hill = { centre = 2.0, spread = 0.0 }
theta = { centre = 0.96, spread = 0.005 }

[joint]
evidence = "other"
shared = ["ec50", "anc0"]
between_trial_sd = 0.2

[sampler]
chains = 2
warmup = 25
draws = 25
seed = 3
max_tree_depth = 3
"""


def other_trial(place: Path, old: str = "", new: str = "", file: str = "fit.toml") -> None:
    """Write the built-in trial to ``place``/other, with a change in one of its files."""
    (place / "other").mkdir()
    for name in ("fit.toml", "evidence.csv", "priors.csv"):
        shutil.copy(built_in_fit() / name, place / "other" / name)
    path = place / "other" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


MISTAKES = {
    "no such parameter": ('shared = ["ec50"', 'shared = ["ec5"', "shares ec5"),
    "one that is not estimated here": ('shared = ["ec50"', 'shared = ["hill"', "shares hill"),
    "one that is fixed there": ('shared = ["ec50"', 'shared = ["theta"', "theta is not estimated in"),
    "twice": ('"ec50", "anc0"]', '"ec50", "ec50"]', "names ec50 twice"),
    "nothing shared": ('["ec50", "anc0"]', "[]", "joint.shared"),
    "no spread between trials": ("between_trial_sd = 0.2", "between_trial_sd = 0.0", "joint.between_trial_sd"),
    "no such folder": ('evidence = "other"', 'evidence = "another"', "another holds no evidence.csv"),
    "no evidence": ('evidence = "other"\n', "", "key `joint.evidence` is missing"),
    "unknown key": ("between_trial_sd", "between_trials_sd", "between_trial_sd"),
    "another prior": ("anc0 = {}", "anc0 = { centre = 3.0, spread = 0.3 }", "anc0 has prior 3 (spread 0.3) here"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes(tmp_path, capsys, name):
    """One line that names file and key; exit code 2; nothing written. No table is read before."""
    old, new, words = MISTAKES[name]
    assert old in FIT
    other_trial(tmp_path)
    (tmp_path / "fit.toml").write_text(FIT.replace(old, new, 1))
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and "fit.toml" in error and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("fit.toml", 'structure = "arrest"', 'structure = "friberg"', 'the patients have "arrest"'),
        ("evidence.csv", "mezikd,all", "mezikd,everyone", "evidence.csv, line"),
    ],
)
def test_mistakes_in_the_other_trial(tmp_path, capsys, file, old, new, words):
    other_trial(tmp_path, old, new, file)
    (tmp_path / "fit.toml").write_text(FIT)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and f"other/{file}" in error, error


@pytest.mark.slow
def test_from_files_to_results(tmp_path):
    """Small: 12 patients, 32 virtual ones. Results of a patient fit, joint.csv, check.csv; a patient predicted from them.

    The patients have a covariate, correlated effects and exposures that are given; the reported numbers have none of these.
    """
    write_tables(tmp_path, simulated_trial(12))
    subjects = pd.read_csv(tmp_path / "adsl.csv")
    subjects.assign(AUC=40.0 * subjects["EXPOSURE"]).to_csv(tmp_path / "adsl.csv", index=False)
    small = "[patients]\nmezikd = 32\nkd = 32\n\n[likelihood]\ncovariance_trials = 100\n"
    text = (built_in_fit() / "fit.toml").read_text()
    other_trial(tmp_path)
    kept = text[: text.index("[patients]")] + small
    (tmp_path / "other" / "fit.toml").write_text(kept)
    covariate = "anc0 = { covariates = { BNEUT = { power = 0.5, reference = 3.0, spread = 0.2 } } }"
    given = 'exposure = { column = "AUC", reference = 40.0 }\nec50 = {}'
    text = FIT.replace("theta =", "# theta =").replace("anc0 = {}", covariate).replace("ec50 = {}", given)
    (tmp_path / "fit.toml").write_text(text.replace("[sampler]", '[effects]\ncorrelation = "lkj"\n\n[sampler]'))
    out = tmp_path / "out"
    assert run(["fit", str(tmp_path), "--out", str(out)]) == 3
    assert {"posterior.nc", "joint.csv", "check.csv", "parameters.csv", "summary.md"} <= {p.name for p in out.iterdir()}
    joint = pd.read_csv(out / "joint.csv").set_index(["name", "value"])
    assert len(joint) == 8 and np.isfinite(joint.drop(columns="unit").to_numpy(float)).all()
    tau = joint.loc[("ec50", "between-trial SD")]
    assert tau["prior_median"] == pytest.approx(0.2 * 0.6745, rel=1e-3) and tau["posterior_q95"] < 1.0
    wide, mean = joint.loc[("anc0", "in the other trial")], joint.loc[("anc0", "mean of trials")]
    assert wide["prior_q95"] > mean["prior_q95"]
    with xr.open_datatree(out / "posterior.nc") as found:
        posterior = found["posterior"].to_dataset()
        assert {"ec50", "reported_ec50", "mean_of_trials_ec50", "between_trial_sd_ec50", "reported_hill"} <= set(
            posterior
        )
        assert found["unconstrained_posterior"]["x"].shape[-1] == 5 + 1 + 3 + 3 * posterior.sizes["patient"]
    parameters = pd.read_csv(out / "parameters.csv").set_index("name")
    assert (
        parameters.loc["power_anc0_BNEUT", "prior_median"] == 0.5 and "correlation_anc0_maturation" in parameters.index
    )
    check = pd.read_csv(out / "check.csv")
    assert (check["role"] == "fit").sum() > 30
    assert "Fitted together with reported numbers" in (out / "summary.md").read_text()
    alive = pd.read_csv(tmp_path / "adtte.csv").query("PARAMCD == 'OS' and CNSR > 0")["USUBJID"].iloc[0]
    options = ["--patient", str(alive), "--dose", "0.6", "--months", "1", "--out", str(tmp_path / "predicted")]
    assert run(["predict", str(out), *options]) == 0
