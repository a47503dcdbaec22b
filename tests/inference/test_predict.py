"""`mezikd predict` on the shipped posterior, small: files, columns, reproducibility, direction of effects."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mezikd.inference import commands, prediction
from mezikd.inference import predict as predict_command
from mezikd.inference.prediction_outcomes import FEBRILE, HAZARD_RATIO, NEUTROPENIA, PFS, PFS_MEAN, SEVERE
from mezikd.inference.scenario_settings import Prediction
from mezikd.inference.scenarios import CONTROL
from mezikd.model.exact import Form
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Gcsf, Scenario

SMALL = ["--draws", "32", "--patients", "128", "--months", "12"]
"""Sizes of every run of this file: two compiled programs a structure, with and without G-CSF."""
TABLES = ("predictions.csv", "differences.csv", "benefit_risk.csv", "summary.md", "scenarios.toml")
FILE = """
[[scenario]]
name = "low"
dose_mg = 0.3
[[scenario]]
name = "middle"
dose_mg = 0.6
[[scenario]]
name = "fitted"
[[scenario]]
name = "full"
rdi = 1.0
[[scenario]]
name = "high"
dose_mg = 2.0
[[scenario]]
name = "asia"
regions = "asia"
[[scenario]]
name = "support"
gcsf = "primary"
"""


def predict(out: Path, *arguments: str) -> Path:
    assert commands.run(["predict", *arguments, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Results of FILE."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "mine.toml").write_text(FILE)
    return predict(folder / "out", "--scenarios", str(folder / "mine.toml"), *SMALL)


@pytest.fixture(scope="module")
def medians(results) -> pd.Series:
    """Posterior medians by (scenario, outcome, month)."""
    return pd.read_csv(results / "predictions.csv").set_index(["scenario", "outcome", "month"])["median"]


def test_files_and_columns(results):
    found = {str(p.relative_to(results)) for p in results.rglob("*") if p.is_file()}
    drawn = {f"figures/{f}.png" for f in ("dose_response", "trade_off", "differences", "benefit_risk")}
    assert found == {*TABLES, *drawn}
    table = pd.read_csv(results / "predictions.csv")
    assert list(table.columns) == [
        "scenario", "arm", "outcome", "month", "unit", "median", "pi90_low", "pi90_high", "extrapolated",
        "pi50_low", "pi50_high", "mc_error",
    ]  # fmt: skip
    assert set(table["scenario"]) == {"low", "middle", "fitted", "full", "high", "asia", "support", CONTROL}
    assert set(table.loc[table["arm"] == "kd", "scenario"]) == {CONTROL}
    order = table[["pi90_low", "pi50_low", "median", "pi50_high", "pi90_high"]].dropna().to_numpy()
    assert (order[:, :-1] <= order[:, 1:] + 1e-9).all()
    shares = table[table["unit"] == "percent"]
    assert shares["pi90_low"].ge(0).all() and shares["pi90_high"].le(100).all()


def test_extrapolated(results):
    """Every number of another scenario; for the fitted one those without a fitted number."""
    table = pd.read_csv(results / "predictions.csv")
    other = table[~table["scenario"].isin(["fitted", CONTROL])]
    assert other["extrapolated"].all()
    fitted = table[table["scenario"] == "fitted"].set_index(["outcome", "month"])["extrapolated"]
    assert not fitted[(NEUTROPENIA, 12)] and not fitted[(PFS, 12)] and not fitted[(HAZARD_RATIO, 12)]
    assert fitted[(FEBRILE, 12)]
    differences = pd.read_csv(results / "differences.csv")
    assert differences.loc[differences["scenario"] != CONTROL, "extrapolated"].all()
    summary = (results / "summary.md").read_text()
    assert "extrapolated" in summary and "Above the studied range" in summary and "high" in summary


def test_neutropenia_and_infection_rise_with_dose(medians):
    for outcome in (NEUTROPENIA, SEVERE):
        by_dose = [medians[s, outcome, 12] for s in (CONTROL, "low", "middle", "fitted", "high")]
        assert (np.diff(by_dose) > 0.0).all(), (outcome, by_dose)
    nadir = [medians[s, "ANC nadir of cycle 1, median patient", 1] for s in ("low", "middle", "fitted", "high")]
    assert (np.diff(nadir) < 0.0).all()


def test_pfs_is_not_worse_at_a_higher_dose(medians):
    for outcome in (PFS, PFS_MEAN):
        by_dose = [medians[s, outcome, 12] for s in (CONTROL, "low", "middle", "fitted")]
        assert (np.diff(by_dose) >= 0.0).all(), (outcome, by_dose)
    assert medians["fitted", HAZARD_RATIO, 12] < medians["low", HAZARD_RATIO, 12] < 1.0


def test_full_dose_without_rules_is_more_neutropenic(medians):
    assert medians["full", NEUTROPENIA, 12] > medians["fitted", NEUTROPENIA, 12]
    assert medians["full", "relative dose intensity, median", 12] == pytest.approx(100.0)
    assert ("full", "held for neutropenia", 12) not in medians.index
    assert medians["fitted", "relative dose intensity, median", 12] < 95.0


def test_region_and_gcsf_act(medians):
    """Asia had the highest rates of neutropenia; prophylaxis lowers them."""
    assert medians["asia", NEUTROPENIA, 12] > medians["fitted", NEUTROPENIA, 12] + 5.0
    assert medians["support", NEUTROPENIA, 12] < medians["fitted", NEUTROPENIA, 12] - 5.0


def test_differences_are_against_the_fitted_regimen(results, medians):
    table = pd.read_csv(results / "differences.csv")
    assert set(table["reference"]) == {"fitted"}
    line = table[(table["scenario"] == "low") & (table["outcome"] == NEUTROPENIA) & (table["month"] == 12)].iloc[0]
    unpaired = medians["low", NEUTROPENIA, 12] - medians["fitted", NEUTROPENIA, 12]
    assert line["median"] == pytest.approx(unpaired, abs=3.0)
    assert (line["better_if"], line["p_better"]) == ("lower", 1.0)


def test_same_seed_same_bytes(results, tmp_path):
    """scenarios.toml run again, seed and sizes included, gives the same files; another seed does not."""
    again = predict(tmp_path / "again", "--scenarios", str(results / "scenarios.toml"))
    for name in TABLES[:4]:
        assert (again / name).read_bytes() == (results / name).read_bytes(), name
    for figure in (results / "figures").iterdir():
        assert (again / "figures" / figure.name).read_bytes() == figure.read_bytes(), figure.name
    other = predict(tmp_path / "other", "--scenarios", str(results / "scenarios.toml"), "--seed", "2")
    assert (other / TABLES[0]).read_bytes() != (results / TABLES[0]).read_bytes()


def test_options_replace_an_earlier_run_and_warn(tmp_path, capsys):
    """One dose is compared with the fitted one; figures that the new scenarios do not have go."""
    out = tmp_path / "out"
    predict(out, "--dose", "2.0", *SMALL)
    assert "warning: 2.0 mg 21/28: above the studied range" in " ".join(capsys.readouterr().err.split())
    assert (out / "figures" / "dose_response.png").exists()
    predict(out, "--rdi", "0.8", *SMALL)
    assert not (out / "figures" / "dose_response.png").exists()
    table = pd.read_csv(out / "predictions.csv")
    assert list(table["scenario"].unique()) == ["1.0 mg 21/28", "1.0 mg 21/28, RDI 80 %", CONTROL]
    rdi = table[table["outcome"] == "relative dose intensity, quartile 1"].set_index("scenario")["median"]
    assert rdi["1.0 mg 21/28, RDI 80 %"] == pytest.approx(80.0)


def test_more_draws_than_the_posterior_has(tmp_path, capsys):
    code = commands.run(["predict", "--draws", "5000", "--out", str(tmp_path / "out")])
    stderr = capsys.readouterr().err
    assert code == commands.BAD_INPUT
    diagnostics = json.loads((commands.built_in_fit() / "diagnostics.json").read_text())
    kept = diagnostics["draws"] * diagnostics["chains"]
    assert f"--draws: value 5000 is more than the posterior's {kept}" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("policy", ["none", "primary", "reactive"])
def test_gcsf_is_compiled_only_where_a_scenario_gives_it(policy, monkeypatch):
    scenarios = [SimpleNamespace(scenario=Scenario(gcsf=Gcsf(p))) for p in ("none", policy)]
    monkeypatch.setattr(predict_command, "programs", lambda _: [(Form(), {"a": np.zeros(3)})])
    monkeypatch.setattr(predict_command, "predict", lambda _, form, *__: form.gcsf)
    monkeypatch.setattr(predict_command, "together", lambda parts: parts)
    request = SimpleNamespace(scenarios=scenarios, reference="", prediction=None)
    assert predict_command.predict_structures(request, ()) == [policy != "none"]  # type: ignore[arg-type]


def test_a_program_without_gcsf_refuses_to_give_it():
    simulator = prediction.Simulator({"a": np.zeros(3)}, Form(gcsf=False), Prediction())
    with pytest.raises(ValueError, match="G-CSF"):
        simulator.histories(None, plan_of(Scenario(gcsf=Gcsf("primary")), 4), np.zeros(4))  # type: ignore[arg-type]
