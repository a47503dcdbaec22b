"""The arrest model fitted to single patients: simulated tables in, the simulator's own course back, and the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference import posterior_file
from mezikd.inference.arrest_problem import build, going_on, read_tables
from mezikd.inference.arrest_settings import EFFECTS, SDS, ArrestFit, Prior
from mezikd.inference.arrest_start import find_arrest_start
from mezikd.inference.arrest_target import ArrestTarget, Lanes
from mezikd.inference.commands import built_in_fit, run
from mezikd.inference.coordinates import straightened
from mezikd.inference.event_check import COMPETING, EVENT, observed
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_start import Gradient, columns, scale_of
from mezikd.inference.patients_left_out import integrated
from mezikd.inference.recorded_events import BEYOND, SAME
from mezikd.model.parameters import DECLARED, free
from mezikd.model.population import Information
from scipy.special import logsumexp
from scipy.stats import norm
from simulated_tables import NAMES, simulated_trial, write_tables

SMALL = """
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
anc0 = { centre = 3.0, spread = 0.3 }
sigma_anc = {}
infection_rate = {}
progression_rate = {}
hill = { centre = 2.0, spread = 0.0 }

[sampler]
chains = 2
warmup = 25
draws = 25
seed = 3
max_tree_depth = 3
"""


@pytest.fixture(scope="module")
def trial():
    return simulated_trial(16)


@pytest.fixture(scope="module")
def folder(trial, tmp_path_factory):
    place = tmp_path_factory.mktemp("trial")
    write_tables(place, trial)
    (place / "fit.toml").write_text(SMALL)
    return place


@pytest.fixture(scope="module")
def problem(folder):
    settings = load_patient_settings(folder, ArrestFit)
    tables = read_tables(folder, settings)
    return settings, tables, *build(folder, settings, tables)


def test_the_simulators_own_course(trial, problem):
    """From its tables, its parameters and its patients' effects: ANC of every treated day, to the digits that tables keep."""
    _, _, target, data = problem
    theta = {p.name: jnp.asarray(p.centre) for p in DECLARED} | {k: jnp.asarray(v) for k, v in trial.theta.items()}
    theta |= {k: jnp.asarray(0.0) for k in theta if "_region_" in k}
    arm = trial.arms[0]
    n = arm.size
    maturation, frailty = np.log(arm.maturation), np.log(np.asarray(arm.person.progression_frailty))
    # The effect of the region is part of the patient's own: exposure over EC50 and baseline.
    potency = (
        np.asarray(arm.person.log_exposure) - np.asarray(arm.person.block.log_ec50) + float(jnp.log(theta["ec50"]))
    )
    baseline = np.asarray(arm.person.log_anc0) - float(jnp.log(theta["anc0"]))
    eta = np.zeros((target.patients, 4))
    eta[:n] = np.stack([potency, baseline, maturation, frailty], axis=1)
    eta[n:, 1] = np.asarray(trial.arms[1].person.log_anc0) - float(jnp.log(theta["anc0"]))
    lanes = Lanes(target.individuals(theta, jnp.asarray(eta), data), target.rates(theta, data))
    course = jax.jit(lambda lanes: target.followed(lanes, data.ledger))(lanes)
    log_anc = np.asarray(lanes.individuals.log_anc0 + course.log_blood)
    checked = 0
    for i in np.flatnonzero(arm.treated):
        days = int(min(arm.drug_end[i], len(log_anc)))
        ours, theirs = log_anc[:days, i], np.log(arm.record.anc.reshape(-1, n)[:days, i])
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        checked += days
    assert checked > 1000 and log_anc.min() < 0.0
    # Counts are of these days, cut to 0.001, with error sigma.
    there = np.asarray(data.counts.there) > 0
    x = np.asarray(data.counts.log_value) - log_anc[np.asarray(data.counts.day), np.arange(target.patients)[:, None]]
    x = x[there] / trial.theta["sigma_anc"]
    assert abs(x.mean()) < 4.0 / np.sqrt(x.size) and abs(x.std() - 1.0) < 4.0 / np.sqrt(2 * x.size)


def test_events_are_those_of_the_histories(trial, problem):
    _, tables, _, data = problem
    at = 0
    deaths, fatal = 0, 0
    checked = observed(data, tables, True)
    for arm in trial.arms:
        h, n = arm.history, arm.size
        mine = slice(at, at + n)
        seen = (h.severe <= np.minimum(h.cutoff, np.minimum(h.death, h.stop + 28.0))) & arm.treated
        np.testing.assert_array_equal(data.ledger.infected[mine] > 0, seen)
        np.testing.assert_allclose(data.ledger.infection[mine][seen], h.severe[seen], atol=1e-3)
        progressed = h.progression <= np.minimum(np.minimum(h.cutoff, h.lost), h.death)
        np.testing.assert_array_equal(data.ledger.progressed[mine] > 0, progressed)
        np.testing.assert_allclose(data.ledger.progression[mine][progressed], h.progression[progressed], atol=1e-3)
        ended = (h.stop <= h.cutoff) & arm.treated
        np.testing.assert_allclose(data.ledger.stop[mine][ended], h.stop[ended], atol=1e-3)
        assert (data.ledger.stop[mine][~ended] == BEYOND).all()
        known = np.minimum(h.cutoff, h.lost)
        failed = progressed | ((h.death <= known) & (h.death < h.progression))
        np.testing.assert_array_equal(checked.failed[mine], failed)
        end = np.minimum(np.minimum(h.progression, h.death), known)
        np.testing.assert_allclose(checked.free[mine], end, atol=1e-3)
        over = (h.death <= h.cutoff) | (
            h.stop + 28.0 <= h.cutoff + SAME
        )  # infections count for so long after treatment
        np.testing.assert_array_equal(checked.cause[mine], np.where(seen, EVENT, np.where(over, COMPETING, 0)))
        deaths += ((h.death <= known) & (h.death < h.progression)).sum() + ((h.death <= h.cutoff) & progressed).sum()
        fatal += (h.fatal * ((h.death <= known) & (h.death < h.progression))).sum()
        at += n
    found = data.deaths
    assert (found.before + found.fatal + found.after).sum() == deaths > 0
    assert found.fatal.sum() == fatal


def test_effects_integrated_out_are_those_drawn_from_the_population(problem):
    """Points about what each patient's data say, against a plain mean over 6,000 patients from the population; deaths too."""
    _, _, target, data = problem
    few = np.asarray(data.counts.there) * (np.arange(data.counts.there.shape[1]) < 3)
    data = data._replace(counts=data.counts._replace(there=few))
    start = find_arrest_start(target, data, Gradient(target, data))
    rng, shared, n, k = np.random.default_rng(5), target.shared_size, target.patients, len(EFFECTS)
    z = np.tile(start.x, (2, 100, 1))
    z[..., shared:] = rng.standard_normal(z[..., shared:].shape)
    found = integrated(target, jax.tree.map(jnp.asarray, start.data), z, 1)
    assert (found.log == found.log[0, 0]).all()  # one theta
    flat = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
    at = np.tile(start.x, (100, 1))
    of, log = jax.jit(target.by_patient), []
    for _ in range(60):
        at[:, shared:] = rng.standard_normal((100, n * k))
        prior = norm.logpdf(at[:, shared:].reshape(100, n, k)).sum(axis=-1)
        log.append(np.asarray(of(jnp.asarray(at), flat)) - prior)
    log = np.concatenate(log)
    mean = logsumexp(log, axis=0) - np.log(len(log))
    error = np.exp(log - mean).std(axis=0) / np.sqrt(len(log))
    known = error < 0.15
    assert known.sum() > 0.6 * n
    off = (found.log[0, 0] - mean) / np.hypot(error, found.error[0, 0])
    assert np.abs(off[known]).max() < 4.0 and np.abs((found.log[0, 0] - mean)[known]).mean() < 0.06
    died = np.asarray(data.deaths.before + data.deaths.after)
    with_deaths = of(jnp.asarray(at), flat)
    alive = of(jnp.asarray(at), flat._replace(deaths=jax.tree.map(jnp.zeros_like, data.deaths)))
    assert (np.asarray(with_deaths - alive)[:, died > 0] < -1.0).all() and died.any()


def test_doses_as_if_they_had_gone_on():
    """To the end of the week of the end: the day before it is repeated, whatever it was; other weeks stay."""
    dose = np.zeros((21, 6))
    dose[:14] = 1.0
    dose[9:, 1], dose[10:, 2], dose[9:, 3], dose[8:, 4] = 0.0, 0.0, 0.0, 0.6
    end = np.array([9.4, 8.7, 10.0, 10.2, 9.5, 16.5])
    dose[10:14, 0] = 0.0
    found = going_on(dose, end)
    expected = dose.copy()
    expected[9:14, 0] = expected[9:14, 1] = expected[10:14, 2] = 1.0  # ends in a dose's day, and at the end of one
    expected[10:14, 4] = 0.6
    np.testing.assert_array_equal(found, expected)  # held on the day before, and in a week without doses: nothing
    np.testing.assert_array_equal(going_on(dose, np.full(6, BEYOND)), dose)


def test_which_coordinates_are_of_the_spread():
    """SDs and correlations of effects; not their parameters, not the effects."""
    settings = load_patient_settings(built_in_fit().parent / "patients", ArrestFit)
    names = [p.name for p in free(settings.declared)]
    of_spread = ArrestTarget(settings, 3).of_spread
    assert {n for n, mine in zip(names, of_spread, strict=False) if mine} == {
        "exposure_sd", "anc0_sd", "maturation_sd", "progression_frailty_sd",
    } and of_spread.sum() == 4  # fmt: skip
    correlated = settings.model_copy(update={"effects": settings.effects.model_copy(update={"correlation": "lkj"})})
    target = ArrestTarget(correlated, 3)
    assert target.of_spread[target.shared_size - 6 : target.shared_size].all() and target.of_spread.sum() == 10


def test_log_density_has_a_gradient_and_the_same_value_in_many_points(problem):
    _, _, target, data = problem
    rng = np.random.default_rng(2)
    xs = jnp.asarray(0.3 * rng.normal(size=(3, target.dimensions)))

    @jax.jit
    def both(xs):
        return target.log_densities(xs, data), jax.vmap(jax.value_and_grad(lambda x: target.log_density(x, data)))(xs)

    together, (alone, slope) = both(xs)
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert np.isfinite(slope).all()
    u = rng.normal(size=target.dimensions)
    step = (both(xs + 1e-5 * u)[0] - both(xs - 1e-5 * u)[0]) / 2e-5
    np.testing.assert_allclose(step, slope @ u, rtol=1e-4)


def test_the_start_whitens_patients_and_what_they_share(problem):
    """In the sampler's coordinates the curvature at the start is near 1, shared and own coordinates apart from one another."""
    _, _, target, data = problem
    gradient = Gradient(target, data)
    start = find_arrest_start(target, data, gradient)
    scale, shared = scale_of(start, target.shared_size), target.shared_size
    assert gradient(start.x)[0] > gradient(np.zeros(target.dimensions))[0] + 5.0
    to_z = np.asarray(scale.to_z(jnp.eye(target.dimensions))) - scale.centre  # row: z of a unit step in a coordinate u
    h = to_z @ columns(gradient, start.x, to_z[:shared]).T
    np.testing.assert_allclose(h[:shared], np.eye(shared), atol=0.05)
    alone = scale._replace(follow=np.zeros_like(scale.follow))
    to_z = np.asarray(alone.to_z(jnp.eye(target.dimensions))) - scale.centre
    apart = np.abs((to_z @ columns(gradient, start.x, to_z[:shared]).T)[shared:]).max()
    assert np.abs(h[shared:]).max() < 0.1 * apart, (np.abs(h[shared:]).max(), apart)


def test_single_precision_is_near(problem):
    """Trajectories follow float32: the log-density to 1e-3, the gradient to 1e-3 of its length, at draws of the prior."""
    _, _, target, data = problem
    xs = jnp.asarray(np.random.default_rng(7).normal(size=(8, target.dimensions)))
    found = []
    for t in (target, target.in_single()):
        values, slope = jax.jit(jax.value_and_grad(lambda xs, t=t: t.log_densities(xs, data).sum()))(xs)
        found.append((float(values), np.asarray(slope)))
    (exact, slope), (near, rough) = found
    assert rough.dtype == np.float64 and 0.0 < abs(near - exact) < 1e-5 * abs(exact) + 1e-2
    error = np.linalg.norm(rough - slope, axis=1) / np.linalg.norm(slope, axis=1)
    assert error.max() < 1e-3


def test_patients_without_a_dose_need_no_following(problem):
    """The whole course of everybody gives the same log-densities, at draws of the prior."""
    _, _, target, data = problem
    assert len(target.untreated) == 11 and data.ledger.infected[list(target.untreated)].sum() > 0
    everybody = replace(target, untreated=())
    xs = jnp.asarray(np.random.default_rng(8).normal(size=(3, target.dimensions)))
    found = [np.asarray(jax.jit(lambda xs, t=t: t.log_densities(xs, data))(xs)) for t in (target, everybody)]
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_without_data_the_density_is_the_prior(problem):
    """Standard normal in prior-scaled coordinates, whatever the sampler's own are; these bend with half-life and EC50."""
    settings, _, target, data = problem
    data = data._replace(counts=data.counts._replace(there=np.zeros_like(data.counts.there)))
    model = settings.model.model_copy(update={"infection": False, "progression": False, "death": False})
    free_too = settings.parameters | {"half_life_hours": Prior(), "hill": Prior()}
    target = replace(target, settings=settings.model_copy(update={"parameters": free_too, "model": model}))
    rng = np.random.default_rng(9)
    z, u = rng.normal(size=(2, target.shared_size)), rng.normal(size=(2, target.patients * 4))
    x = np.asarray(straightened(z, target.declared))
    assert np.abs(x - z).max() > 0.1
    found = target.log_densities(jnp.asarray(np.concatenate([x, u], axis=1)), data)
    expected = norm.logpdf(u).sum(axis=1) - 0.5 * (z * z).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    theta = target.population(jnp.asarray(np.concatenate([x, u], axis=1)[0]))
    half_life = next(p for p in target.declared if p.name == "half_life_hours")
    names = [p.name for p in free(target.declared)]
    assert float(theta["half_life_hours"]) == pytest.approx(
        half_life.from_standard(z[0, names.index("half_life_hours")])
    )


BENT = ("half_life_hours", "hill", "ec50", "exposure_sd")
"""Parameters along whose ridge patients' exposures move."""


def test_the_density_of_the_samplers_coordinates(problem):
    """Whatever is known of patients: the prior's density of what coordinates stand for times the determinant of the map."""
    settings, _, target, data = problem
    parameters = settings.parameters | {n: Prior() for n in BENT}
    model = settings.model.model_copy(update={"infection": False, "progression": False, "death": False})
    target = replace(target, settings=settings.model_copy(update={"parameters": parameters, "model": model}))
    rng = np.random.default_rng(14)
    n, k = target.patients, len(EFFECTS)
    root = rng.normal(size=(n, k, k))
    known = Information(3.0 * root @ np.swapaxes(root, 1, 2), rng.normal(size=(n, k)))
    data = data._replace(
        counts=data.counts._replace(there=np.zeros_like(data.counts.there)),
        information=jax.tree.map(jnp.asarray, known),
    )

    def standard(x):
        """Return shared parameters and effects as standard normal coordinates of the prior."""
        theta = target.population(x)
        eta = target.etas(x, theta, data)[0] / jnp.stack([theta[name] for name in SDS])
        return jnp.concatenate([target.prior_scaled(x), eta.ravel()])

    for x in rng.normal(size=(3, target.dimensions)):
        expected = norm.logpdf(standard(jnp.asarray(x))[target.shared_size :]).sum()
        expected -= 0.5 * float((standard(jnp.asarray(x))[: target.shared_size] ** 2).sum())
        expected += np.linalg.slogdet(jax.jacobian(standard)(jnp.asarray(x)))[1]
        assert float(target.log_density(jnp.asarray(x), data)) == pytest.approx(expected, rel=1e-9)


def test_patients_stay_where_they_are_along_the_ridge(problem):
    """Half-life changed, coordinates of EC50 and of patients as they were: the amount over EC50, 0.65 of a day after a dose at
    steady state (summed over past doses), stays for a patient of whom much is known, without change of its effect."""
    settings, _, target, data = problem
    parameters = settings.parameters | {n: Prior() for n in BENT}
    target = replace(target, settings=settings.model_copy(update={"parameters": parameters}))
    n, k = target.patients, len(EFFECTS)
    known = Information(np.broadcast_to(1e6 * np.eye(k), (n, k, k)), np.full((n, k), 1e6 * 0.3))
    data = data._replace(information=jax.tree.map(jnp.asarray, known))
    names = [p.name for p in free(target.declared)]
    xs = np.zeros((2, target.dimensions))
    xs[:, names.index("half_life_hours")] = -1.0, 1.0
    effects, over = [], []
    for x in jnp.asarray(xs):
        theta = target.population(x)
        effects.append(np.asarray(target.etas(x, theta, data)[0]))
        rate = np.log(2.0) * 24.0 / float(theta["half_life_hours"])
        over.append(np.exp(-rate * (0.65 + np.arange(200))).sum() / float(theta["ec50"]))
    assert over[1] == pytest.approx(over[0], rel=1e-9)
    np.testing.assert_allclose(effects[1], effects[0], atol=1e-4)


def test_from_files_to_results(folder):
    """Files and columns; parameters left out are fixed; too few draws fail the gate with its own exit code."""
    out = folder.parent / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == {
        "posterior.nc", "diagnostics.json", "parameters.csv", "patients.csv", "loo.csv", "summary.md", "figures/vpc.png",
        "figures/pit.png", "vpc.csv", "pit.csv", "events.csv", "figures/events.png",
        "figures/individual_fits_anc.png",
    }  # fmt: skip
    with xr.open_datatree(out / "posterior.nc") as tree:
        assert tree["posterior"]["patient_anc0"].dims == ("chain", "draw", "patient")
        assert np.isfinite(tree["log_likelihood"]["patients"]).all()
    table = pd.read_csv(out / "parameters.csv").set_index("name")
    assert list(table.index) == ["ec50", "anc0", "sigma_anc", "infection_rate", "progression_rate"]
    assert table.loc["anc0", "prior_q95"] == pytest.approx(3.0 * np.exp(1.6449 * 0.3), rel=1e-3)
    assert json.loads((out / "diagnostics.json").read_text())["gate"] == "fail"
    assert "not to be used" in posterior_file.caution(posterior_file.opened(out / "posterior.nc"))
    summary = (out / "summary.md").read_text()
    assert "Doses are taken as delivered" in summary
    assert "## How the tables were read" in summary and "- adtte: a month is 30.4375 days" in summary
    # Its file alone is enough to predict a patient.
    alive = pd.read_csv(folder / "adtte.csv").query("PARAMCD == 'OS' and CNSR > 0")["USUBJID"].iloc[0]
    predicted = folder.parent / "predicted"
    options = ["--patient", str(alive), "--dose", "0.6", "--months", "1", "--out", str(predicted)]
    assert run(["predict", str(out), *options]) == 0
    assert (predicted / "figures" / "patient.png").exists()


MISTAKES = {
    "unknown parameter": ("hill =", "hil =", "hil"),
    "one of dose rules": ("hill =", "hold_grade3 =", "hold_grade3"),
    "negative spread": ("spread = 0.3", "spread = -0.3", "spread"),
    "other sampler": ("[sampler]", '[sampler]\nmethod = "nuts"', "side_by_side"),
    "no folder": ('file = "."', 'file = "adsl.csv"', "is no folder"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes_in_settings(folder, tmp_path, capsys, name):
    """One line that names file and key; exit code 2; nothing written."""
    old, new, word = MISTAKES[name]
    for table in NAMES:
        (tmp_path / f"{table}.csv").write_bytes((folder / f"{table}.csv").read_bytes())
    (tmp_path / "fit.toml").write_text(SMALL.replace(old, new, 1))
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()


def test_tables_without_times_to_infection(folder, tmp_path, capsys):
    """Refused with the remedy: a key of fit.toml."""
    for table in ("adsl", "adex", "adlb"):
        (tmp_path / f"{table}.csv").write_bytes((folder / f"{table}.csv").read_bytes())
    (tmp_path / "fit.toml").write_text(SMALL)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "infection = false" in capsys.readouterr().err
