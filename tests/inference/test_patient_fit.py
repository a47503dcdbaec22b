"""A fit to patients' own tables: the log-density, the command from files to results, and another tool's posterior."""

import json
import os
from itertools import product
from pathlib import Path

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference import posterior_file, side_by_side_run
from mezikd.inference.commands import run
from mezikd.inference.patient_fit import load
from mezikd.inference.patient_problem import build
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_start import Gradient, hessian
from mezikd.inference.patient_tables import read_patients
from mezikd.inference.patient_target import PatientTarget
from mezikd.model.disposition import rates
from mezikd.model.dosing_events import amounts, schedule
from scipy import stats
from scipy.integrate import solve_ivp

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"
SHARED = ROOT.parent / "shared" / "data"
SMALL = """
[study]
name = "Three patients"
title = "A made-up study"
citation = "none"

[tables]
file = "three.csv"

[model]
compartments = 1
effect = "linear"
first_step_hours = 4.0
largest_step_hours = 12.0

[parameters]
ka = { centre = 1.0, spread = 0.0 }
cl = { centre = 5.0, spread = 0.3, individual = true, covariates = { WT = { power = 0.75, reference = 70.0 } } }
v1 = { centre = 50.0, spread = 0.3 }
mtt = { centre = 120.0, spread = 0.2 }
anc0 = { centre = 4.0, spread = 0.3, individual = true }
gamma = { centre = 0.17, spread = 0.0 }
slope = { centre = 0.3, spread = 0.5 }

[sampler]
chains = 2
warmup = 25
draws = 25
seed = 3
max_tree_depth = 3
"""

POWER = "power = 0.75, reference = 70.0"


def table() -> pd.DataFrame:
    """Return records of three patients: a dose a day for five days, concentrations and counts, one below the limit."""
    rng = np.random.default_rng(2)
    lines = []
    for i in range(3):
        weight = (60.0, 70.0, 90.0)[i]
        rows = [(24.0 * d, 1, 1, 100.0, ".", 0, 0, ".") for d in range(5)]
        rows += [(t, 0, 2, ".", round(float(1.5 * rng.lognormal(0, 0.2)), 3), 1, 0, ".") for t in (2.0, 23.5, 98.0)]
        rows += [(t, 0, 2, ".", 0.05, 1, 1, 0.05) for t in (300.0,)]
        rows += [
            (t, 0, 3, ".", round(float(3.0 * rng.lognormal(0, 0.2)), 2), 2, 0, ".") for t in (0.0, 120.0, 240.0, 360.0)
        ]
        rows.sort(key=lambda r: r[0])
        lines += [(i + 1, *r, weight) for r in rows]
    names = ["ID", "TIME", "EVID", "CMT", "AMT", "DV", "DVID", "CENS", "LLOQ", "WT"]
    return pd.DataFrame.from_records(lines, columns=names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("patients")
    (place / "fit.toml").write_text(SMALL)
    table().to_csv(place / "three.csv", index=False)
    return place


@pytest.fixture(scope="module")
def problem(folder):
    settings = load_patient_settings(folder)
    tables = read_patients(folder / "three.csv", {1: "concentration", 2: "anc"})
    return settings, tables, *build(settings, tables)


def test_log_density_by_hand(problem):
    """Priors, effects and observations summed with scipy from the model's own predictions."""
    settings, tables, target, data = problem
    assert isinstance(target, PatientTarget)
    x = 0.3 * np.random.default_rng(5).normal(size=target.dimensions)
    x[target.layout.residual] = np.log([0.2, 0.3])
    shared = target.shared(jnp.asarray(x))
    eta, density = target.etas(jnp.asarray(x), shared, data)
    eta = np.asarray(eta)
    p = target.patients_parameters(shared, eta, data)
    np.testing.assert_allclose(
        p["cl"],
        np.exp(shared.log_typical["cl"]) * (np.array([60, 70, 90]) / 70.0) ** 0.75 * np.exp(eta[:, 0]),
        rtol=1e-10,
    )
    found = target.predictions(p, data)
    total = 0.0
    for name, sd in (("concentration", 0.2), ("anc", 0.3)):
        o = tables.observations[tables.observations["observable"] == name]
        for i, mine in o.groupby("patient"):
            prediction = np.asarray(found[name])[i, : len(mine)]
            law = stats.lognorm(sd, scale=prediction)
            each = np.where(mine["censored"], law.logcdf(mine["value"]), law.logpdf(mine["value"]))
            total += each.sum()
    sd = np.asarray(shared.spread.sd)
    # Not centred: the coordinates are eta / sd.
    assert float(density.sum()) == pytest.approx((stats.norm(0, sd).logpdf(eta) + np.log(sd)).sum(), rel=1e-9)
    total += float(density.sum())
    assert float(target.log_density(jnp.asarray(x), data)) == pytest.approx(float(shared.log_prior) + total, rel=1e-9)
    assert settings.effects.correlation == "none"


def test_priors_of_what_patients_share(problem):
    """Log prior in the coordinates: normal population, half-normal SDs up to a bound and of residuals, each with Jacobian."""
    settings, _, target, _ = problem
    at, e = target.layout, settings.effects

    def ours(x):
        return float(target.shared(jnp.asarray(x)).log_prior)

    def by_hand(x):
        share = 1.0 / (1.0 + np.exp(-x[at.sds]))
        sds = stats.halfnorm(scale=e.sd_scale).logpdf(e.sd_upper * share) + np.log(share * (1.0 - share))
        errors = stats.halfnorm(scale=0.5).logpdf(np.exp(x[at.residual])) + x[at.residual]
        return stats.norm.logpdf(x[at.parameters]).sum() + sds.sum() + errors.sum()

    one, two = (s * np.random.default_rng(8).normal(size=target.dimensions) for s in (0.2, 0.9))
    assert ours(one) - ours(two) == pytest.approx(by_hand(one) - by_hand(two), rel=1e-10)


def by_scipy(p: dict[str, float], doses: list[float], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return concentration and ANC of one patient at ``times`` from the equations, one compartment, linear kill."""
    k = 4.0 / p["mtt"]

    def field(_, y):
        depot, central, prolif, t1, t2, t3, c = y
        kill = min(1.0, p["slope"] * central / p["v1"])
        return [
            -p["ka"] * depot, p["ka"] * depot - p["cl"] / p["v1"] * central,
            k * prolif * ((1.0 - kill) * (p["anc0"] / c) ** p["gamma"] - 1.0),
            k * (prolif - t1), k * (t1 - t2), k * (t2 - t3), k * (t3 - c),
        ]  # fmt: skip

    y, found, stops = np.array([0.0, 0.0, *[p["anc0"]] * 5]), {}, sorted({*doses, *times})
    for begin, end in zip(stops, [*stops[1:], None], strict=True):
        y[0] += 100.0 * (begin in doses)
        found[begin] = y[1] / p["v1"], y[6]
        if end is not None:
            y = solve_ivp(field, (begin, end), y, rtol=1e-9, atol=1e-9, max_step=2.0).y[:, -1]
    return tuple(np.array([found[t][i] for t in times]) for i in (0, 1))  # type: ignore[return-value]


def test_predictions_from_the_equations(problem):
    """Parameters with their units, covariates and effects give the course that the equations say, by another solver."""
    _, tables, target, data = problem
    x = 0.3 * np.random.default_rng(5).normal(size=target.dimensions)
    shared = target.shared(jnp.asarray(x))
    p = target.patients_parameters(shared, target.etas(jnp.asarray(x), shared, data)[0], data)
    found = target.predictions(p, data)
    for i in range(3):
        own = {k: float(v[i]) for k, v in p.items()}
        for name, which in (("concentration", 0), ("anc", 1)):
            o = tables.observations
            times = o.loc[(o["observable"] == name) & (o["patient"] == i), "time"].to_numpy()
            theirs = by_scipy(own, [24.0 * d for d in range(5)], times)[which]
            # At the largest step of 12 h, and steps of 4 h after a dose.
            np.testing.assert_allclose(np.asarray(found[name])[i, : len(times)], theirs, rtol=5e-3, err_msg=name)


def test_blocks_of_the_hessian(problem):
    """Patients' blocks, taken together, are those of the whole Hessian, which has nothing between patients."""
    _, _, target, data = problem
    gradient = Gradient(target, data)
    x = 0.1 * np.random.default_rng(6).normal(size=target.dimensions)
    x[target.layout.residual] = np.log(0.3)
    ours = hessian(gradient, x, target)
    whole = np.stack([(gradient(x - 1e-4 * e)[1] - gradient(x + 1e-4 * e)[1]) / 2e-4 for e in np.eye(len(x))])
    np.testing.assert_allclose(ours, whole, atol=1e-4 * np.abs(whole).max())
    value, slope = gradient(x)
    u = np.random.default_rng(7).normal(size=len(x))
    step = (gradient(x + 1e-5 * u)[0] - gradient(x - 1e-5 * u)[0]) / 2e-5
    assert np.isfinite(value) and step == pytest.approx(float(slope @ u), rel=1e-4)


def test_from_files_to_results(folder, capsys):
    """Files, groups and columns; a second run is refused; too few draws fail the gate with its own exit code."""
    out = folder / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == {
        "posterior.nc", "diagnostics.json", "parameters.csv", "patients.csv", "loo.csv", "summary.md", "figures/vpc.png",
        "figures/pit.png", "vpc.csv", "pit.csv",
        "figures/individual_fits_anc.png", "figures/individual_fits_concentration.png",
    }  # fmt: skip
    with xr.open_datatree(out / "posterior.nc") as tree:
        assert tree["posterior"]["patient_cl"].shape == (2, 25, 3)
        assert tree["posterior"]["patient_cl"].attrs["unit"] == "L/h"
        x = tree["posterior_predictive"]["anc"]
        assert x.shape[1:] == (3, 4) and np.isfinite(x).all()
    table = pd.read_csv(out / "parameters.csv").set_index("name")
    assert table.loc["ka", "driven_by"] == "fixed" and table.loc["cl", "unit"] == "L/h"
    assert 0.0 <= table.loc["sd_cl", "shrinkage"] <= 1.0
    assert table.loc["cl", "prior_q95"] == pytest.approx(5.0 * np.exp(1.6449 * 0.3), rel=1e-3)
    assert json.loads((out / "diagnostics.json").read_text())["gate"] == "fail"
    assert "not to be used" in posterior_file.caution(posterior_file.opened(out / "posterior.nc"))
    predicted = folder / "predicted"
    assert run(["predict", str(out), "--patient", "2", "--months", "1", "--out", str(predicted)]) == 0
    assert (predicted / "predictions.csv").exists()
    capsys.readouterr()
    assert run(["fit", str(folder), "--out", str(out)]) == 2
    assert "holds a finished fit" in capsys.readouterr().err


def test_lag_steady_state_and_category(tmp_path):
    """From fit.toml and table to predictions: superposed lagging doses at each patient's own clearance."""
    category = 'category = { reference = "M", levels = ["F", "not known"], spread = 0.4 }'
    text = SMALL.replace("{ WT = { " + POWER, "{ SEX = { " + category).replace(
        "v1 = {", "lag = { centre = 1.5, spread = 0.3, individual = true }\nv1 = {"
    )
    (tmp_path / "fit.toml").write_text(text.replace("[model]", "[model]\nsteady_state_days = 5.0"))
    lines = table().assign(SEX=lambda t: t["ID"].map({1: "F", 2: "M", 3: "not known"}), SS=0, II=0.0, ADDL=0)
    first = (lines["ID"] == 3) & (lines["EVID"] == 1)
    lines = lines[~first | (lines["TIME"] == 0.0)]
    lines.loc[first & (lines["TIME"] == 0.0), ["SS", "II", "ADDL"]] = [1, 24.0, 4]
    lines.to_csv(tmp_path / "three.csv", index=False)
    settings = load_patient_settings(tmp_path)
    tables, target, data = load(tmp_path, settings)
    assert list(target.coefficients) == ["cl SEX F", "cl SEX not known"]
    assert target.effects == ("cl", "anc0", "lag")
    x = 0.5 * np.random.default_rng(5).normal(size=target.dimensions)
    shared = target.shared(jnp.asarray(x))
    eta, _ = target.etas(jnp.asarray(x), shared, data)
    p = {n: np.asarray(v) for n, v in target.patients_parameters(shared, eta, data).items()}
    effect = 0.4 * x[target.layout.powers]
    own = float(shared.log_typical["cl"]) + np.array([effect[0], 0.0, effect[1]]) + np.asarray(eta)[:, 0]
    np.testing.assert_allclose(np.log(p["cl"]), own, rtol=1e-12)
    found = jax.jit(target.predictions)({n: jnp.asarray(v) for n, v in p.items()}, data)
    wide = {n: jnp.asarray(v)[:, None, None] for n, v in p.items()}
    at = schedule(tables.records)
    superposed = amounts(at, rates(wide["ka"], wide["cl"], wide["v1"]), wide["lag"]).central / wide["v1"][..., 0]
    for i, mine in tables.observations.groupby("patient"):
        here = np.flatnonzero(mine["observable"] == "concentration")
        theirs = np.asarray(superposed)[i, here]
        np.testing.assert_allclose(np.asarray(found["concentration"])[i, : len(here)], theirs, rtol=1e-7, atol=1e-12)
    assert np.asarray(found["anc"])[2, 0] < 0.99 * p["anc0"][2] and np.asarray(found["anc"])[0, 0] == p["anc0"][0]


def combined(
    place: Path,
    compartments=1,
    effect="linear",
    lag=False,
    infusion=False,
    correlation="none",
    errors=("lognormal", "lognormal"),
):
    """Return (settings, target, data) of a fit of that combination of structures to the three patients."""
    more = "lag = { centre = 1.5, spread = 0.3, individual = true }\n" if lag else ""
    more += "q = { centre = 3.0, spread = 0.3 }\nv2 = { centre = 40.0, spread = 0.3 }\n" if compartments == 2 else ""
    if effect == "emax":
        more += "emax = { centre = 0.7, spread = 0.3 }\nec50 = { centre = 1.0, spread = 0.5, individual = true }\n"
    text = SMALL.replace("compartments = 1", f"compartments = {compartments}").replace(
        'effect = "linear"', f'effect = "{effect}"'
    )
    text = text.replace(
        "slope = { centre = 0.3, spread = 0.5 }\n",
        "" if effect == "emax" else "slope = { centre = 0.3, spread = 0.5 }\n",
    )
    sections = f'[effects]\ncorrelation = "{correlation}"\n'
    sections += "".join(
        f'[residual.{o}]\nerror = "{e}"\n' for o, e in zip(("concentration", "anc"), errors, strict=True)
    )
    (place / "fit.toml").write_text(
        text.replace("v1 = {", more + "v1 = {").replace("[sampler]", sections + "[sampler]")
    )
    lines = table()
    if infusion:
        dose = lines["EVID"] == 1
        lines = lines.assign(CMT=lines["CMT"].where(~dose, 2), RATE=np.where(dose, 50.0, 0.0))
    lines.to_csv(place / "three.csv", index=False)
    settings = load_patient_settings(place)
    return settings, *load(place, settings)[1:]


def test_every_combination_of_structures_is_accepted(tmp_path):
    """Compartments, effect, lag or infusion, correlation, residual errors: read, built, each with its own coordinates."""
    errors = (("lognormal", "additive"), ("proportional", "lognormal"), ("additive", "proportional"))
    routes = ({}, {"lag": True}, {"infusion": True})
    for c, effect, route, lkj, e in product((1, 2), ("linear", "emax"), routes, ("none", "lkj"), errors):
        settings, target, data = combined(tmp_path, c, effect, **route, correlation=lkj, errors=e)
        emax, lag = effect == "emax", "lag" in route
        effects = 2 + emax + lag
        shared = 4 + 2 * (c == 2) + 1 + emax + lag + effects + (effects * (effects - 1) // 2) * (lkj == "lkj") + 2
        assert target.shared_size == shared and target.dimensions == shared + 3 * effects
        assert target.infusions == ("infusion" in route) and set(data.observed) == {"concentration", "anc"}
        assert (settings.residual.concentration.error, settings.residual.anc.error) == e


def test_gradient_of_the_richest_combination(tmp_path):
    """Two compartments, Emax, lag, correlation, other residual errors: against differences."""
    _, target, data = combined(tmp_path, 2, "emax", lag=True, correlation="lkj", errors=("proportional", "additive"))
    rng = np.random.default_rng(7)
    x, u = 0.2 * rng.normal(size=target.dimensions), rng.normal(size=target.dimensions)
    both = jax.jit(jax.value_and_grad(target.log_density))
    value, slope = both(jnp.asarray(x), data)
    assert (
        np.isfinite(value) and np.isfinite(slope).all() and (np.abs(slope[: target.layout.parameters.stop]) > 0.0).all()
    )
    step = 1e-5
    differences = (both(jnp.asarray(x + step * u), data)[0] - both(jnp.asarray(x - step * u), data)[0]) / (2.0 * step)
    assert float(differences) == pytest.approx(float(slope @ u), rel=1e-4)


def test_a_lag_of_doses_into_central_is_refused(folder, tmp_path, capsys):
    (tmp_path / "fit.toml").write_text(SMALL.replace("v1 = {", "lag = { centre = 1.5, spread = 0.3 }\nv1 = {"))
    table().assign(CMT=lambda t: t["CMT"].where(t["EVID"] == 0, 2)).to_csv(tmp_path / "three.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "a lag together with doses into central" in error


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_draws(folder, tmp_path, monkeypatch):
    """Interrupted among the blocks, begun again by the same command: the parameters of an uninterrupted run, byte for byte."""
    assert run(["fit", str(folder), "--out", str(tmp_path / "whole")]) == 3
    save, calls = side_by_side_run.save_pickle, 0

    def save_and_die(path, value):
        nonlocal calls
        save(path, value)
        calls += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side_run, "save_pickle", save_and_die)
    assert run(["fit", str(folder), "--out", str(tmp_path / "killed")]) == 130
    assert calls == 1 and not (tmp_path / "killed" / "posterior.nc").exists()
    monkeypatch.setattr(side_by_side_run, "save_pickle", save)
    assert run(["fit", str(folder), "--out", str(tmp_path / "killed")]) == 3
    one, two = ((tmp_path / name / "parameters.csv").read_bytes() for name in ("whole", "killed"))
    assert one == two


MISTAKES = {
    "no such file": ('file = "three.csv"', 'file = "four.csv"', "four.csv"),
    "unknown parameter": ("gamma = {", "gama = {", "gama"),
    "missing parameter": ("slope = { centre = 0.3, spread = 0.5 }", "", "lacks slope"),
    "negative centre": ("centre = 4.0", "centre = -4.0", "centre"),
    "unknown effect": ('effect = "linear"', 'effect = "sigmoid"', "effect"),
    "three compartments": ("compartments = 1", "compartments = 3", "compartments"),
    "covariate not there": ("{ WT = {", "{ HT = {", "covariate 'HT'"),
    "reference 0": ("reference = 70.0", "reference = 0.0", "reference"),
    "unknown key": ("[sampler]", "[sampler]\nchain = 4", "chain"),
    "joint without the arrest model": ("[sampler]", '[joint]\nevidence = "built-in"\n\n[sampler]', "unknown key `joint`"),
    "level not declared": (POWER, 'category = { reference = "60", levels = ["70"] }', "patient 3 has '90'"),
    "level of nobody": (POWER, 'category = { reference = "60", levels = ["70", "80", "90"] }', "no patient has level '80'"),
    "reference among the levels": (POWER, 'category = { reference = "60", levels = ["60", "70"] }', "names 60 twice"),
    "power and category": (POWER, POWER + ', category = { reference = "60", levels = ["70"] }', "or category alone"),
    "category not there": ("{ WT = { " + POWER, '{ SEX = { category = { reference = "M", levels = ["F"] }', "covariate 'SEX'"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes_in_settings(folder, tmp_path, capsys, name):
    """One line that names file and key; exit code 2; nothing written."""
    old, new, word = MISTAKES[name]
    assert old in SMALL
    (tmp_path / "fit.toml").write_text(SMALL.replace(old, new))
    (tmp_path / "three.csv").write_bytes((folder / "three.csv").read_bytes())
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()


def test_options_of_the_other_fit_are_refused(folder, tmp_path, capsys):
    assert run(["fit", str(folder), "--virtual-patients", "64", "--out", str(tmp_path / "out")]) == 2
    assert "--virtual-patients" in capsys.readouterr().err


NAMES = {
    "CLHat": "cl", "QHat": "q", "V1Hat": "v1", "V2Hat": "v2", "kaHat": "ka", "mttHat": "mtt", "circ0Hat": "anc0",
    "alphaHat": "slope", "gamma": "gamma", "omega.1": "sd_cl", "omega.2": "sd_q", "omega.3": "sd_v1", "omega.4": "sd_v2",
    "omega.5": "sd_ka", "omega.6": "sd_mtt", "omega.7": "sd_anc0", "omega.8": "sd_slope", "sigma": "error_concentration",
    "sigmaNeut": "error_anc",
}  # fmt: skip
"""Parameters of the reference posterior and ours."""
REFERENCE_ESS = 276.0
"""Least bulk ESS of the reference (provenance beside the data)."""


def compared(posterior: Path) -> pd.DataFrame:
    """Return the reference's and our means and SDs of every shared parameter."""
    reference = json.loads((SHARED / "torsten_neutropenia5_reference_posterior.json").read_text())["parameters"]
    with xr.open_datatree(posterior) as tree:
        draws = tree["posterior"].to_dataset()[list(NAMES.values())].load()
    mcse = az.mcse(draws)
    lines = [
        (ours, reference[theirs]["mean"], reference[theirs]["sd"], float(draws[ours].mean()), float(draws[ours].std()), float(mcse[ours]))
        for theirs, ours in NAMES.items()
    ]  # fmt: skip
    return pd.DataFrame.from_records(
        lines, columns=["parameter", "reference_mean", "reference_sd", "mean", "sd", "mcse"]
    )


def agrees(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return which means lie within 0.25 reference SD plus two Monte Carlo errors of both, and which SDs within 20 %."""
    error = 2.0 * np.hypot(table["mcse"], table["reference_sd"] / np.sqrt(REFERENCE_ESS))
    mean = (table["mean"] - table["reference_mean"]).abs() <= 0.25 * table["reference_sd"] + error
    return mean, (table["sd"] / table["reference_sd"] - 1.0).abs() <= 0.20


def test_committed_comparison_with_stan():
    """Every population mean within 0.25 SD, every SD within 20 % (``agrees``), of Stan's posterior for the same data.

    The table is of the first 125 draws of each of 16 chains of the fit below (516 effective draws of the worst parameter).
    """
    table = pd.read_csv(REFERENCE / "torsten_neutropenia5.csv")
    assert list(table["parameter"]) == list(NAMES.values())
    mean, sd = agrees(table)
    assert mean.all() and sd.all(), table[~(mean & sd)]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the data of another project lie outside the repository")
def test_against_stan(tmp_path):
    """The same five patients and priors as Torsten's example; MEZIKD_WRITE=1 writes the committed table anew."""
    (tmp_path / "fit.toml").write_bytes((REFERENCE / "torsten_neutropenia5.toml").read_bytes())
    name = "torsten_neutropenia5.csv"
    (tmp_path / name).write_bytes((SHARED / name).read_bytes())
    run(["fit", str(tmp_path), "--out", str(tmp_path / "out")])
    table = compared(tmp_path / "out" / "posterior.nc")
    if os.environ.get("MEZIKD_WRITE"):
        table.to_csv(REFERENCE / name, index=False, float_format="%.5g")
    mean, sd = agrees(table)
    assert mean.all() and sd.all(), table[~(mean & sd)]
