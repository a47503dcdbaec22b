"""Counts driven by an exposure that is given row by row, without PK: course by another solver, density, files, mistakes.

And the K-PD way: no concentrations, a volume of 1 and an elimination rate that counts alone tell.
"""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference.commands import run
from mezikd.inference.friberg_prediction import exposure_of_a_unit, predict_friberg
from mezikd.inference.patient_fit import load
from mezikd.inference.patient_regimen import NO_DOSE, Proposal
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_store import load_patient_fit, restored, stored
from mezikd.inference.patient_tables import read_patients
from mezikd.model.dosing_events import Dose, Records
from scipy import stats
from scipy.integrate import solve_ivp
from slopes import check_slope
from test_patient_fit import POWER, SMALL, table

PK = SMALL[SMALL.index("ka = ") : SMALL.index("mtt = ")]
FIT = SMALL.replace(PK, "").replace("compartments = 1", 'exposure = "CAVG"')
EMAX = FIT.replace('"linear"', '"emax"').replace(
    "slope = { centre = 0.3, spread = 0.5 }",
    "emax = { centre = 0.9, spread = 0.0 }\nec50 = { centre = 1.5, spread = 0.5, individual = true }",
)
LEVELS = {1: "1.2", 2: ".", 3: "2"}
"""CAVG at a patient's first dose; of patient 2 the count before it has one."""
FINE = {"first_step_hours": 0.05, "largest_step_hours": 0.25}


def records() -> pd.DataFrame:
    """Return the three patients without concentrations: CAVG at some rows, a gap, a stop at 130 h, doses that are not used."""
    t = table()
    t = t[t["DVID"] != 1].reset_index(drop=True)
    t["CAVG"] = "."
    first = t[t["EVID"] == 1].groupby("ID").head(1)
    t.loc[first.index, "CAVG"] = first["ID"].map(LEVELS)
    t.loc[(t["ID"] == 2) & (t["TIME"] == 24.0), "CAVG"] = "1.7"
    t.loc[(t["ID"] == 3) & (t["TIME"] == 72.0), "CAVG"] = "0.8"
    stops = t[t["TIME"] == 96.0].assign(TIME=130.0, EVID=2, AMT=".", CAVG="0")
    return pd.concat([t, stops]).sort_values(["ID", "TIME"], kind="stable", ignore_index=True)


CHANGES = (
    [(0.0, 1.2), (130.0, 0.0)],
    [(24.0, 1.7), (130.0, 0.0)],
    [(0.0, 2.0), (72.0, 0.8), (130.0, 0.0)],
)
"""What these rows mean: exposure by patient and the time from which it holds."""


def by_scipy(p: dict[str, float], changes: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    """Return ANC at ``times`` by the equations under exposures that hold from their times on, 0 before the first."""
    k = 4.0 / p["mtt"]

    def field(_, y, c):
        prolif, t1, t2, t3, blood = y
        kill = min(1.0, p["slope"] * c) if "slope" in p else p["emax"] * c / (p["ec50"] + c)
        return [
            k * prolif * ((1.0 - kill) * (p["anc0"] / blood) ** p["gamma"] - 1.0),
            k * (prolif - t1), k * (t1 - t2), k * (t2 - t3), k * (t3 - blood),
        ]  # fmt: skip

    y, found, level = np.full(5, p["anc0"]), {}, 0.0
    stops = sorted({0.0, *(t for t, _ in changes), *times})
    for begin, end in zip(stops, [*stops[1:], None], strict=True):
        level = dict(changes).get(begin, level)
        found[begin] = y[4]
        if end is not None:
            y = solve_ivp(field, (begin, end), y, "DOP853", rtol=1e-11, atol=1e-12, args=(level,)).y[:, -1]
    return np.array([found[t] for t in times])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("exposure")
    (place / "fit.toml").write_text(FIT)
    records().to_csv(place / "three.csv", index=False)
    return place


def loaded(folder, place, text: str, **steps):
    """Return (tables, target, data) of the records in ``folder`` under the settings ``text``."""
    (place / "fit.toml").write_text(text)
    (place / "three.csv").write_bytes((folder / "three.csv").read_bytes())
    settings = load_patient_settings(place)
    return load(place, settings.model_copy(update={"model": settings.model.model_copy(update=steps)}))


def parameters(target, data, seed: int):
    x = 0.4 * np.random.default_rng(seed).normal(size=target.dimensions)
    shared = target.shared(jnp.asarray(x))
    return x, target.patients_parameters(shared, target.etas(jnp.asarray(x), shared, data)[0], data)


@pytest.mark.parametrize("text", [FIT, EMAX], ids=["linear", "emax"])
def test_course_by_another_solver(folder, tmp_path, text):
    """Relative 1e-6 with steps of 15 minutes, and an error that falls fourfold when the usual steps are halved."""
    errors = []
    for steps in (FINE, {"first_step_hours": 1.0, "largest_step_hours": 4.0}, {"first_step_hours": 0.5, "largest_step_hours": 2.0}):  # fmt: skip
        tables, target, data = loaded(folder, tmp_path, text, **steps)
        assert target.observables == ("anc",) and not target.infusions
        _, p = parameters(target, data, 3)
        found, o, worst = np.asarray(target.predictions(p, data)["anc"]), tables.observations, 0.0
        for i in range(3):
            times = o.loc[o["patient"] == i, "time"].to_numpy()
            theirs = by_scipy({k: float(v[i]) for k, v in p.items()}, CHANGES[i], times)
            assert theirs.min() < 0.8 * theirs[0]
            worst = max(worst, np.abs(found[i, : len(times)] / theirs - 1.0).max())
        errors.append(worst)
    assert errors[0] < 1e-6 and errors[1] < 1e-3 and 3.0 < errors[1] / errors[2] < 5.0, errors


def test_as_an_infusion_that_keeps_its_concentration(tmp_path):
    """A loading dose into central and an infusion at CL x C give C from the start: the same counts as C as an exposure."""
    level, cl, v1, rows = 1.4, 5.0, 50.0, []
    for t, evid, amt, rate, dv in (
        (0.0, 1, level * v1, ".", "."), (0.0, 1, level * cl * 600.0, level * cl, "."),
        *((t, 0, ".", ".", 3.0) for t in (60.0, 150.0, 300.0, 500.0)),
    ):  # fmt: skip
        rows.append((1, t, evid, 2, amt, rate, dv, 2, level))
    names = ["ID", "TIME", "EVID", "CMT", "AMT", "RATE", "DV", "DVID", "CAVG"]
    every = pd.DataFrame.from_records(rows, columns=names)
    every.drop(columns="CAVG").to_csv(tmp_path / "three.csv", index=False)
    plain = SMALL.replace(f", covariates = {{ WT = {{ {POWER} }} }}", "")
    counts = []
    for text, t in ((plain, every.drop(columns="CAVG")), (FIT, every)):
        t.to_csv(tmp_path / "three.csv", index=False)
        (tmp_path / "fit.toml").write_text(text)
        _, target, data = load(tmp_path, load_patient_settings(tmp_path))
        p = {n: jnp.full(1, v) for n, v in (("mtt", 110.0), ("anc0", 4.0), ("gamma", 0.17), ("slope", 0.25))}
        p |= {} if text == FIT else {n: jnp.full(1, v) for n, v in (("ka", 1.0), ("cl", cl), ("v1", v1))}
        counts.append(np.asarray(target.predictions(p, data)["anc"])[0])
    # Steps are the same: the rows are.
    np.testing.assert_allclose(counts[1], counts[0], rtol=1e-9)
    assert counts[0].min() < 3.0


def test_log_density_by_hand(folder, tmp_path):
    """Priors and effects by scipy, counts from the equations; a gradient equal to differences; many points as one."""
    tables, target, data = loaded(folder, tmp_path, EMAX, **FINE)
    assert [p.name for p in target.declared if not p.fixed] == ["mtt", "anc0", "ec50"]
    at, o, found, expected = target.layout, tables.observations, [], []
    for seed in (5, 6):
        x, p = parameters(target, data, seed)
        x[at.residual] = np.log(0.3)
        share = 1.0 / (1.0 + np.exp(-x[at.sds]))
        total = stats.norm.logpdf(x[at.parameters]).sum() + stats.norm.logpdf(x[at.shared :]).sum()
        total += (stats.halfnorm(scale=0.5).logpdf(3.0 * share) + np.log(share * (1.0 - share))).sum()
        for i in range(3):
            mine = o[o["patient"] == i]
            counts = by_scipy({k: float(v[i]) for k, v in p.items()}, CHANGES[i], mine["time"].to_numpy())
            total += stats.lognorm(0.3, scale=counts).logpdf(mine["value"]).sum()
        expected.append(total)
        found.append(float(target.log_density(jnp.asarray(x), data)))
    assert found[0] - found[1] == pytest.approx(expected[0] - expected[1], abs=1e-4) and abs(found[0] - found[1]) > 0.5
    check_slope(target, x, data)


def test_carried_forward_and_kept(folder):
    """Row by row, also after the tables went through a fit's file; no covariate."""
    tables = read_patients(folder / "three.csv", {2: "anc"}, exposure="CAVG")
    raw = records()
    for i, changes in enumerate(CHANGES):
        time = raw.loc[raw["ID"] == i + 1, "TIME"].to_numpy()
        holds = [([0.0] + [v for at, v in changes if at <= t])[-1] for t in time]
        for t in (tables, restored(stored(tables))):
            np.testing.assert_array_equal(t.records[i].level, holds)
    assert list(tables.covariates) == ["WT"] and tables.doses().tolist() == [5, 5, 5]


def test_from_files_to_results(folder):
    """No PK among the parameters; summary, checks and figures; a prediction whose exposure follows the dose."""
    out = folder / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    rows = pd.read_csv(out / "parameters.csv").set_index("name")
    assert set(rows.index) == {"mtt", "anc0", "gamma", "slope", "sd_anc0", "error_anc"}
    text = (out / "summary.md").read_text()
    assert "linear effect of the exposure in column CAVG" in text and "compartment" not in text
    assert (out / "figures" / "individual_fits_anc.png").is_file() and len(pd.read_csv(out / "vpc.csv")) > 3
    predicted = folder / "predicted"
    options = ["--patient", "3", "--dose", "50", "--months", "1", "--draws", "20", "--out", str(predicted)]
    assert run(["predict", str(out), *options]) == 0
    # 2 at three doses of 100, 0.8 at two.
    assert "in proportion to dose: 0.0152 a unit of AMT" in (predicted / "summary.md").read_text()
    tree, tables = load_patient_fit(out / "posterior.nc")
    proposal = Proposal("3", 50.0, days_on=7, cycle_days=14, rdi=0.5, months=1)
    both = predict_friberg(tree, tables, load_patient_settings(folder), proposal, np.array([7])).forecasts
    d = tree["posterior"].to_dataset().sel(patient="3").isel(chain=0, draw=7)
    own = {n: float(d[n]) for n in ("mtt", "gamma", "slope")} | {"anc0": float(d["patient_anc0"])}
    begin = 360.0
    weeks = [(begin + 168.0 * k, (0.38 if k % 2 == 0 else 0.0)) for k in range(5)]
    for f, more in zip(both, (weeks, []), strict=True):
        theirs = by_scipy(own, [*CHANGES[2], *more], 24.0 * f.days)
        np.testing.assert_allclose(f.anc[0], theirs, rtol=5e-3)
    assert both[0].extrapolated and both[1].scenario == NO_DOSE
    assert np.abs(np.log(both[0].anc[0] / both[1].anc[0])).max() > 0.02


def test_a_units_exposure_is_sum_over_sum():
    """Doses of 100, 50 and 200 with exposures 2, 3 and 0: (2 + 3) / 150, the last tells nothing; at equal times the last row's."""
    time, level = np.array([0.0, 24.0, 24.0, 48.0]), np.array([2.0, 2.0, 3.0, 0.0])
    zero = np.zeros(4)
    r = Records(time, zero, zero, zero, zero, zero, zero, zero, level)
    given = [
        Dose(t, amount, 0.0, 0.0, 0.0, i, 9)
        for i, (t, amount) in enumerate([(0.0, 100.0), (24.0, 50.0), (48.0, 200.0)])
    ]
    assert exposure_of_a_unit(r, given) == pytest.approx(5.0 / 150.0, rel=1e-12)
    assert exposure_of_a_unit(r, given[2:]) == 0.0


def test_patients_without_doses(folder, tmp_path, capsys):
    """Exposures alone are enough to fit; a regimen cannot be turned into exposures."""
    lines = records()
    lines[lines["EVID"] != 1].to_csv(tmp_path / "three.csv", index=False)
    (tmp_path / "fit.toml").write_text(FIT)
    lines = pd.read_csv(tmp_path / "three.csv", dtype=str)
    lines.loc[lines["TIME"] == "0.0", "CAVG"] = "1.5"
    lines.to_csv(tmp_path / "three.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    capsys.readouterr()
    assert run(["predict", str(tmp_path / "out"), "--patient", "2", "--out", str(tmp_path / "predicted")]) == 2
    error = capsys.readouterr().err
    assert "2 has no dose" in error and "CAVG of further ones follows from them" in error, error
    assert error.count("\n") == 1 and not (tmp_path / "predicted").exists()


SETTINGS = {
    "PK": ("mtt =", "cl = { centre = 5.0, spread = 0.3 }\nmtt =", "has cl, but the exposure is given (column CAVG in [model])"),
    "lag": ("mtt =", "lag = { centre = 1.0, spread = 0.3 }\nmtt =", "has lag, but the exposure is given"),
    "compartments": ('"CAVG"', '"CAVG"\ncompartments = 1', "has compartments, but the exposure is given (column CAVG)"),
    "no such column": ('"CAVG"', '"CAV"', "column CAV: no such column of exposures"),
    "a column of records": ('"CAVG"', '"DV"', "column DV: no such column of exposures"),
    "blank": ('"CAVG"', '""', "model.exposure"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SETTINGS))
def test_mistakes(folder, tmp_path, capsys, name):
    """One line; exit code 2; nothing written."""
    old, new, word = SETTINGS[name]
    assert old in FIT
    (tmp_path / "fit.toml").write_text(FIT.replace(old, new, 1))
    (tmp_path / "three.csv").write_bytes((folder / "three.csv").read_bytes())
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and not (tmp_path / "out").exists(), error


@pytest.mark.parametrize(
    ("where", "column", "value", "words"),
    [
        ("ID == 3 and TIME == 72", "CAVG", "-0.8", ("patient 3, column CAVG", "value '-0.8' is not allowed", "0 or more")),
        ("ID == 3 and TIME == 72", "CAVG", "high", ("patient 3, column CAVG", "value 'high' is not a number")),
        ("ID == 2", "CAVG", ".", ("patient 2, column CAVG", "the patient has no exposure", "give 0")),
        ("CAVG == CAVG", "CAVG", "0", ("column CAVG", "no exposure above 0")),
        ("ID == 1 and TIME == 130", "EVID", "3", ("patient 1, column EVID", "a reset")),
        ("ID == 1 and TIME == 120", "DVID", "1", ("holds concentrations", "column CAVG ([model] exposure)", "set MDV to 1")),
    ],
)  # fmt: skip
def test_values_that_cannot_be(folder, tmp_path, capsys, where, column, value, words):
    """Named by file, line, patient and column; exit code 2."""
    (tmp_path / "fit.toml").write_text(FIT)
    lines = records()
    lines = lines.astype({c: str for c in ("EVID", "DVID", "CAVG")})
    lines.loc[lines.query(where).index, column] = value
    lines.to_csv(tmp_path / "three.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "three.csv" in error and all(w in error for w in words), error


def test_tables_alone(folder, capsys):
    """`mezikd tables` reads such a column when it is named, and says what it may be when it is not."""
    assert run(["tables", str(folder / "three.csv"), "--dvid", "2=anc", "--exposure", "CAVG"]) == 0
    assert run(["tables", str(folder / "three.csv"), "--dvid", "2=anc"]) == 2
    assert "did you mean an exposure" in capsys.readouterr().err


KPD = SMALL.replace("cl = { centre = 5.0, spread = 0.3, individual = true, covariates = { WT = { power = 0.75, reference = 70.0 } } }", "cl = { centre = 0.02, spread = 0.5, individual = true }").replace(
    "v1 = { centre = 50.0, spread = 0.3 }", "v1 = { centre = 1.0, spread = 0.0 }").replace("slope = { centre = 0.3", "slope = { centre = 0.003")  # fmt: skip


def test_kpd(folder, tmp_path):
    """Without concentrations, doses into central: the amount falls at rate cl, which the counts tell; by another solver."""
    t = records().drop(columns="CAVG")
    t.assign(CMT=np.where(t["EVID"] == 1, 2, t["CMT"])).to_csv(tmp_path / "three.csv", index=False)
    (tmp_path / "fit.toml").write_text(KPD)
    settings = load_patient_settings(tmp_path)
    fine = settings.model.model_copy(update=FINE)
    tables, target, data = load(tmp_path, settings.model_copy(update={"model": fine}))
    _, p = parameters(target, data, 3)
    own, o = {k: float(v[0]) for k, v in p.items()}, tables.observations
    times = o.loc[o["patient"] == 0, "time"].to_numpy()
    # The amount in steps of 6 minutes at their middle.
    grid = np.arange(0.0, times.max(), 0.1)
    doses = np.array([24.0 * d for d in range(5)])
    amount = (100.0 * np.exp(-own["cl"] * np.maximum(grid + 0.05 - doses[:, None], 0.0)) * (grid >= doses[:, None] - 1e-9)).sum(axis=0)  # fmt: skip
    theirs = euler(own, grid, amount, times)
    np.testing.assert_allclose(np.asarray(target.predictions(p, data)["anc"])[0, : len(times)], theirs, rtol=2e-4)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    rows = pd.read_csv(tmp_path / "out" / "parameters.csv").set_index("name")
    assert {"cl", "sd_cl", "slope", "mtt", "anc0"} <= set(rows.index) and rows.loc["v1", "driven_by"] == "fixed"
    assert "error_concentration" not in rows.index


def euler(p: dict[str, float], grid: np.ndarray, amount: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return ANC at ``times`` by steps of Heun under an amount that is constant in each step of ``grid``, linear kill."""
    k, h, y, course = 4.0 / p["mtt"], grid[1], np.full(5, p["anc0"]), []

    def field(y, kill):
        prolif = k * y[0] * ((1.0 - kill) * (p["anc0"] / y[4]) ** p["gamma"] - 1.0)
        return np.append(prolif, k * (y[:4] - y[1:]))

    for a in amount:
        course.append(y[4])
        kill = min(1.0, p["slope"] * a)
        first = field(y, kill)
        y = y + 0.5 * h * (first + field(y + h * first, kill))
    return np.interp(times, np.append(grid, grid[-1] + h), [*course, y[4]])
