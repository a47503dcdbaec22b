"""Exposures that change in time in fits of the arrest model, a column of adex: density, predictions, files, mistakes."""

import tomllib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference.arrest_prediction import predict_arrest
from mezikd.inference.arrest_problem import build, daily_doses, read_tables
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.arrest_target import GIVEN as LOG_EXPOSURE
from mezikd.inference.commands import run
from mezikd.inference.errors import InputError
from mezikd.inference.event_check import continued, observed
from mezikd.inference.patient_data import BY_RECORD, PatientData
from mezikd.inference.patient_regimen import Proposal
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_store import TABLES, restored
from simulated_tables import simulated_trial, write_tables
from test_arrest_covariates import FIT, GIVEN, copied, three, two_draws
from test_patient_prediction import arrest_by_scipy

RECORDS = GIVEN.replace(', dose = "AUCDOSE"', "")
VARYING = np.array([30.0, 27.0, 36.0])
"""AUC of the records of three(): 1.0 and then 0.6 mg, 0.6 mg of another patient. The reference is 40."""


def with_records(auc) -> PatientData:
    """Return three() with the exposure of each record."""
    tables = three()
    return replace(tables, exposure=tables.exposure.assign(**{BY_RECORD: auc}))


def built(text: str, tables: PatientData):
    return build(Path("nowhere"), ArrestFit.model_validate(tomllib.loads(text)), tables)


def densities(text: str, tables: PatientData) -> np.ndarray:
    """Return the log-density at three points."""
    target, data = built(text, tables)
    xs = 0.5 * np.random.default_rng(1).normal(size=(3, target.dimensions))
    return np.asarray(target.log_densities(jnp.asarray(xs), data))


def test_constant_within_patients():
    """As the same exposures by patient: 30 of 1.0 mg and 36 of 0.6 mg there."""
    by_record = densities(RECORDS, with_records([30.0, 18.0, 36.0]))
    np.testing.assert_allclose(by_record, densities(GIVEN, three()), rtol=1e-10)


def test_exposures_that_change():
    """As doses of exposure / reference in patients whose exposure is 1; and not as exposures that are constant."""
    tables = three()
    edited = replace(tables, exposure=tables.exposure.assign(taken_mg=VARYING / 40.0))
    ones = replace(edited, covariates=edited.covariates.assign(AUC=40.0, AUCDOSE=1.0))
    by_record = densities(RECORDS, with_records(VARYING))
    np.testing.assert_allclose(by_record, densities(GIVEN, ones), rtol=1e-10)
    assert (np.abs(by_record - densities(GIVEN, tables)) > 1e-3).all()
    target, data = built(RECORDS, with_records(VARYING))
    rng = np.random.default_rng(2)
    x, u = 0.3 * rng.normal(size=target.dimensions), rng.normal(size=target.dimensions)
    both = jax.jit(jax.value_and_grad(lambda x: target.log_density(x, data)))
    slope = both(jnp.asarray(x))[1]
    step = (both(jnp.asarray(x + 1e-5 * u))[0] - both(jnp.asarray(x - 1e-5 * u))[0]) / 2e-5
    assert np.isfinite(slope).all() and float(step) == pytest.approx(float(slope @ u), rel=1e-5)


def test_a_patients_own_exposure_is_the_mean_of_a_mg():
    """Total exposure over total dose; a record on hold says nothing, whatever stands there; who takes nothing has 1."""
    tables = with_records(VARYING)
    hold = tables.exposure.iloc[:1].assign(start=21, days=7, taken_mg=0.0, **{BY_RECORD: 999.0})
    tables = replace(tables, exposure=pd.concat([tables.exposure, hold], ignore_index=True))
    _, data = built(RECORDS, tables)
    first = (21 * 30.0 + 14 * 27.0) / (21 * 1.0 + 14 * 0.6) / 40.0
    np.testing.assert_allclose(np.exp(data.covariates[LOG_EXPOSURE]), [first, 36.0 / 0.6 / 40.0, 1.0], rtol=1e-12)
    assert data.ledger.dose.sum(axis=(0, 1)) == pytest.approx([21 * 1.0 + 14 * 0.6, 21 * 0.6, 0.0])


def test_a_patients_prediction(tmp_path):
    """From tables as the fit keeps them: past doses by their records, those to come at the mean; the course by the equations."""
    text = RECORDS.replace("steps_per_day = 4", "steps_per_day = 2")
    tables, settings = with_records(VARYING), ArrestFit.model_validate(tomllib.loads(text))
    target, data = built(text, tables)
    thetas, eta, tree = two_draws(text, tables, target, data)
    kept = restored(tree[TABLES].to_dataset())
    proposal = Proposal("01", None, months=1)
    predicted = predict_arrest(tmp_path / "posterior.nc", tree, kept, settings, proposal, np.arange(2))
    # The last dose that was taken, in mg.
    assert predicted.forecasts[0].scenario.startswith("0.6 mg") and not predicted.forecasts[0].extrapolated
    assert any("mean exposure of 1 mg: 34.29." in n for n in predicted.notes), predicted.notes
    now = int(predicted.now)
    doses = np.zeros(now + 30)
    doses[:21], doses[28:42], doses[now : now + 21] = 30.0 / 40.0, 27.0 / 40.0, 0.6 * (630.0 + 378.0) / 29.4 / 40.0
    for d in range(2):
        mine = {k: float(v) for k, v in thetas[d].items() if np.ndim(v) == 0}
        mine["ec50"] *= np.exp(mine["category_ec50_SEX_F"])
        mine["anc0"] *= (2.0 / 3.0) ** mine["power_anc0_BNEUT"]
        shift = np.append(0.0, eta[d, 0]) + np.array([0.0, 0.0, 0.2 * np.log(0.8), 0.0])
        log_anc, *_ = arrest_by_scipy(mine, shift, doses)
        error = np.abs(np.log(predicted.forecasts[0].anc[d, : len(doses)]) - log_anc)
        assert error.max() < 0.02, error


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a simulated trial whose adex has an AUC, that falls from cycle to cycle, of the dose of each record."""
    place = tmp_path_factory.mktemp("records")
    write_tables(place, simulated_trial(16))
    subjects, doses = pd.read_csv(place / "adsl.csv"), pd.read_csv(place / "adex.csv")
    own = doses["USUBJID"].map(subjects.set_index("USUBJID")["EXPOSURE"])
    auc = (40.0 * own * doses["EXDOSE"] * 0.97 ** doses["CYCLE"]).where(doses["EXDOSE"] > 0.0)
    doses.assign(AUC=auc).to_csv(place / "adex.csv", index=False)
    subjects.assign(SEX=np.where(np.arange(len(subjects)) % 2, "F", "M")).to_csv(place / "adsl.csv", index=False)
    (place / "fit.toml").write_text(FIT)
    return place


def test_from_files_to_results(folder, tmp_path):
    """Each day's product of dose and exposure is that of its record; a fit, its summary, and a prediction by the command."""
    settings = load_patient_settings(folder, ArrestFit)
    tables = read_tables(folder, settings)
    target, data = build(folder, settings, tables)
    assert target.effects == ("anc0", "maturation", "progression")
    product = data.ledger.dose * np.exp(data.covariates[LOG_EXPOSURE])
    days = product.reshape(-1, target.patients)
    records = pd.read_csv(folder / "adex.csv")
    number = {s: i for i, s in enumerate(tables.ids)}
    checked = 0
    for r in records.loc[records["EXDOSE"] > 0.0].itertuples():
        mine = days[r.ASTDY - 1 : r.AENDY, number[r.USUBJID]]
        np.testing.assert_allclose(mine, r.AUC / 40.0, rtol=1e-10)
        checked += len(mine)
    mg = daily_doses(tables, len(days))
    assert checked == (mg > 0.0).sum() == (days > 0.0).sum() > 500
    # New patients of the predictive checks go on with the exposures of four weeks before.
    ledger, _ = continued(data.ledger, observed(data, tables, True))
    longer = ledger.dose.reshape(days.shape)
    day, who = np.nonzero(longer != data.ledger.dose.reshape(days.shape))
    assert len(day) > 100
    np.testing.assert_array_equal(longer[day, who], longer[day - 28, who])
    out = tmp_path / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    text = (out / "summary.md").read_text()
    assert "Exposure is given, not estimated: column AUC, of the dose of each record of adex, over 40." in text
    alive = set(pd.read_csv(folder / "adtte.csv").query("PARAMCD == 'OS' and CNSR > 0")["USUBJID"])
    patient = next(s for s in records.loc[records["EXDOSE"] > 0.0, "USUBJID"] if s in alive)
    options = ["--patient", patient, "--dose", "0.6", "--months", "1", "--out", str(tmp_path / "predicted")]
    assert run(["predict", str(out), *options]) == 0
    mean = 40.0 * np.exp(data.covariates[LOG_EXPOSURE][number[patient]])
    assert f"mean exposure of 1 mg: {mean:.4g}." in (tmp_path / "predicted" / "summary.md").read_text()


def first_dose(place: Path) -> int:
    """Return the row of adex, 0 the first, of the first dose above 0."""
    return int(np.flatnonzero(pd.read_csv(place / "adex.csv")["EXDOSE"] > 0.0)[0])


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "value '.' of a dose of"), ("0", "value '0'"), ("-3", "value '-3'"), ("low", "is not a number"), ("inf", "is not a number")],
)  # fmt: skip
def test_a_dose_without_exposure(folder, tmp_path, capsys, value, words):
    """Named by file, line, patient and column; exit code 2, nothing written."""
    copied(folder, tmp_path, FIT)
    at, rows = first_dose(folder), pd.read_csv(folder / "adex.csv", dtype=str)
    rows.loc[at, "AUC"] = value
    rows.to_csv(tmp_path / "adex.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    place = f"adex.csv, line {at + 2}, patient {rows['USUBJID'][at]}, column AUC"
    assert error.count("\n") == 1 and place in error and words in error, error
    assert not (tmp_path / "out").exists()


def test_a_column_of_both_tables(folder, tmp_path, capsys):
    copied(folder, tmp_path, FIT)
    pd.read_csv(folder / "adsl.csv").assign(AUC=40.0).to_csv(tmp_path / "adsl.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "column AUC" in error and "so has adsl" in error and "adex.csv" in error, error


def test_a_core_variable_is_by_patient(folder, tmp_path):
    """Which adex repeats in each record, in another spelling; one record with another value is a mistake as above."""
    sl, ex = pd.read_csv(folder / "adsl.csv"), pd.read_csv(folder / "adex.csv")
    of_patient = pd.Series(np.linspace(30.0, 50.0, len(sl)), sl["USUBJID"])
    fit = FIT.replace("reference = 40.0 }", 'reference = 40.0, dose = "AUCDOSE" }')
    copied(folder, tmp_path, fit)
    settings = ArrestFit.model_validate(tomllib.loads(fit))
    sl.assign(AUC=of_patient.to_numpy(), AUCDOSE=1.0).to_csv(tmp_path / "adsl.csv", index=False)
    repeated = ex.assign(AUC=ex["USUBJID"].map(of_patient).map("{!r}0".format))
    repeated.to_csv(tmp_path / "adex.csv", index=False)
    tables = read_tables(tmp_path, settings)
    assert BY_RECORD not in tables.exposure
    np.testing.assert_array_equal(tables.covariates["AUC"], of_patient)
    repeated.loc[first_dose(folder), "AUC"] = 31.0
    repeated.to_csv(tmp_path / "adex.csv", index=False)
    with pytest.raises(InputError, match="so has adsl, with other values"):
        read_tables(tmp_path, settings)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("reference = 40.0 }", 'reference = 40.0, dose = "BNEUT" }', "dose 'BNEUT' of exposure: column 'AUC' is of adex"),
        ("reference = 40.0 }", "reference = 0.04 }", "times the reference"),
        ('"AUC"', '"EXDOSE"', "column 'EXDOSE' of exposure cannot be used"),
        ("ec50 = {}", "ec50 = {}\nexposure_sd = {}", "has exposure_sd, but exposures are given"),
        ("reference = 40.0 }", "reference = 40.0, covariates = { BNEUT = { power = 1.0, reference = 3.0 } } }", "a column and covariates"),
    ],
    ids=["dose", "unit", "another column of adex", "SD", "covariates"],
)  # fmt: skip
def test_mistakes(folder, tmp_path, capsys, old, new, word):
    """One line that names fit.toml; exit code 2; nothing written."""
    assert old in FIT
    copied(folder, tmp_path, FIT.replace(old, new, 1))
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "fit.toml" in error, error
    assert not (tmp_path / "out").exists()
