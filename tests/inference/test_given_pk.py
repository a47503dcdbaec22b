"""Counts driven by individual PK parameters of an earlier analysis (columns of the table): density by hand, files, mistakes."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference.commands import run
from mezikd.inference.friberg_prediction import predict_friberg
from mezikd.inference.patient_fit import load
from mezikd.inference.patient_regimen import Proposal
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_store import load_patient_fit
from scipy import stats
from slopes import check_slope
from test_patient_fit import SMALL, by_scipy, table

KA, CL, V1 = (0.8, 1.3, 1.0), (4.0, 6.0, 9.0), (40.0, 55.0, 70.0)
GIVEN = (
    SMALL.replace("ka = { centre = 1.0, spread = 0.0 }", 'ka = { column = "KAI" }')
    .replace("cl = { centre = 5.0, spread = 0.3, individual = true, covariates = { WT = { power = 0.75, reference = 70.0 } } }", 'cl = { column = "CLI" }')
    .replace("v1 = { centre = 50.0, spread = 0.3 }", 'v1 = { column = "VI" }')
    .replace("slope = { centre = 0.3, spread = 0.5 }", "slope = { centre = 0.3, spread = 0.5, individual = true, covariates = { WT = { power = 0.0, reference = 70.0, spread = 0.5 } } }")
    .replace("[sampler]", '[effects]\ncorrelation = "lkj"\n\n[sampler]')
)  # fmt: skip


def records(concentrations: bool = False) -> pd.DataFrame:
    """Return the three patients with their PK parameters as columns, and without their concentrations."""
    every = table()
    mine = every.assign(
        **{c: every["ID"].map(dict(enumerate(v, 1))) for c, v in (("KAI", KA), ("CLI", CL), ("VI", V1))}
    )
    return mine if concentrations else mine[mine["DVID"] != 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("given")
    (place / "fit.toml").write_text(GIVEN)
    records().to_csv(place / "three.csv", index=False)
    return place


def test_log_density_by_hand(folder):
    """Counts of each patient from the equations at its own columns, by another solver; priors and effects by scipy."""
    settings = load_patient_settings(folder)
    fine = settings.model.model_copy(update={"first_step_hours": 0.5, "largest_step_hours": 3.0})
    tables, target, data = load(folder, settings.model_copy(update={"model": fine}))
    assert [p.name for p in target.declared if not p.fixed] == ["mtt", "anc0", "slope"]
    assert target.effects == ("anc0", "slope") and target.observables == ("anc",) and list(data.observed) == ["anc"]
    at, o, found, expected = target.layout, tables.observations, [], []
    for seed in (5, 6):
        x = 0.4 * np.random.default_rng(seed).normal(size=target.dimensions)
        x[at.residual] = np.log(0.3)
        mtt, anc0, slope = np.array([120.0, 4.0, 0.3]) * np.exp(np.array([0.2, 0.3, 0.5]) * x[at.parameters])
        power = 0.5 * x[at.powers][0]
        share = 1.0 / (1.0 + np.exp(-x[at.sds]))
        sd, r = 3.0 * share, np.tanh(x[at.correlation][0])
        root = np.array([[1.0, 0.0], [r, np.sqrt(1.0 - r * r)]])
        eta = x[at.shared :].reshape(3, 2) @ root.T * sd
        # Of two effects LKJ(1) is uniform: the Jacobian of tanh is left.
        total = stats.norm.logpdf(x[at.parameters]).sum() + stats.norm.logpdf(x[at.powers]).sum() + np.log(1.0 - r * r)
        total += (stats.halfnorm(scale=0.5).logpdf(sd) + np.log(share * (1.0 - share))).sum() + stats.norm.logpdf(
            x[at.shared :]
        ).sum()
        for i in range(3):
            own = {
                "ka": KA[i], "cl": CL[i], "v1": V1[i], "mtt": mtt, "anc0": anc0 * np.exp(eta[i, 0]), "gamma": 0.17,
                "slope": slope * ((60.0, 70.0, 90.0)[i] / 70.0) ** power * np.exp(eta[i, 1]),
            }  # fmt: skip
            mine = o[o["patient"] == i]
            _, counts = by_scipy(own, [24.0 * d for d in range(5)], mine["time"].to_numpy())
            total += stats.lognorm(0.3, scale=counts).logpdf(mine["value"]).sum()
        expected.append(total)
        found.append(float(target.log_density(jnp.asarray(x), data)))
    assert found[0] - found[1] == pytest.approx(expected[0] - expected[1], abs=0.01) and abs(found[0] - found[1]) > 0.5
    check_slope(target, x, data)


def test_from_files_to_results(folder):
    """What is given is no parameter of the fit; coefficient and correlation have their priors; a patient predicted with its own."""
    out = folder / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    rows = pd.read_csv(out / "parameters.csv").set_index("name")
    assert set(rows.index) == {
        "mtt", "anc0", "gamma", "slope", "power_slope_WT", "sd_anc0", "sd_slope", "correlation_anc0_slope", "error_anc",
    }  # fmt: skip
    assert rows.loc["power_slope_WT", "prior_q95"] == pytest.approx(1.6449 * 0.5, rel=1e-3)
    assert rows.loc["correlation_anc0_slope", "prior_q95"] == pytest.approx(0.9, rel=1e-3)
    assert rows.loc[["power_slope_WT", "correlation_anc0_slope"], "contraction"].notna().all()
    assert (
        "Not estimated, every patient's own value is in a column: ka (KAI), cl (CLI), v1 (VI)."
        in (out / "summary.md").read_text()
    )
    assert set(pd.read_csv(out / "patients.csv")["parameter"]) == {"anc0", "slope"}
    predicted = folder / "predicted"
    assert run(["predict", str(out), "--patient", "2", "--months", "1", "--draws", "20", "--out", str(predicted)]) == 0
    assert "fixed, or given by a column: ka, cl, v1, gamma" in (predicted / "summary.md").read_text()
    tree, tables = load_patient_fit(out / "posterior.nc")
    without = predict_friberg(
        tree, tables, load_patient_settings(folder), Proposal("2", 100.0, months=1), np.array([7])
    ).forecasts[1]
    d = tree["posterior"].to_dataset().sel(patient="2").isel(chain=0, draw=7)
    own = {"ka": KA[1], "cl": CL[1], "v1": V1[1], "gamma": 0.17, "mtt": float(d["mtt"])}
    own |= {n: float(d[f"patient_{n}"]) for n in ("anc0", "slope")}
    _, theirs = by_scipy(own, [24.0 * d for d in range(5)], 24.0 * without.days)
    np.testing.assert_allclose(without.anc[0], theirs, rtol=0.01)


MISTAKES = {
    "column and centre": (
        'cl = { column = "CLI" }',
        'cl = { column = "CLI", centre = 5.0, spread = 0.3 }',
        "column stands alone",
    ),
    "column and effects": (
        'cl = { column = "CLI" }',
        'cl = { column = "CLI", individual = true }',
        "column stands alone",
    ),
    "neither": ('cl = { column = "CLI" }', "cl = { centre = 5.0 }", "needs centre and spread, or column alone"),
    "no such column": ('"CLI"', '"CL"', "column 'CL' of cl cannot be used"),
    "zeros": ('"CLI"', '"CENS"', "column 'CENS' of cl cannot be used"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes(folder, tmp_path, capsys, name):
    """One line that names file and parameter; exit code 2; nothing written."""
    old, new, word = MISTAKES[name]
    assert old in GIVEN
    (tmp_path / "fit.toml").write_text(GIVEN.replace(old, new))
    (tmp_path / "three.csv").write_bytes((folder / "three.csv").read_bytes())
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "fit.toml" in error and "cl" in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "words"), [(".", "without gaps"), ("-4", "without gaps"), ("5", "one value a patient")]
)
def test_values_that_cannot_be(folder, tmp_path, capsys, value, words):
    """A gap, a clearance below 0, one that changes within a patient (an occasion)."""
    (tmp_path / "fit.toml").write_text(GIVEN)
    lines = records().astype({"CLI": object})
    lines.loc[(lines["ID"] == 3) & ((lines["TIME"] > 100.0) | (value != "5")), "CLI"] = value
    lines.to_csv(tmp_path / "three.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and "CLI" in error, error


def test_concentrations_with_all_pk_given(folder, tmp_path, capsys):
    """Refused; with one PK parameter to estimate, the concentrations say something and are read."""
    records(concentrations=True).to_csv(tmp_path / "three.csv", index=False)
    (tmp_path / "fit.toml").write_text(GIVEN)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "ka, cl, v1 are all given or fixed" in error and "three.csv" in error
    (tmp_path / "fit.toml").write_text(GIVEN.replace('ka = { column = "KAI" }', "ka = { centre = 1.0, spread = 0.3 }"))
    _, target, data = load(tmp_path, load_patient_settings(tmp_path))
    assert target.observables == ("concentration", "anc") and set(data.observed) == {"concentration", "anc"}
