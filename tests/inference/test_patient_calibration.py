"""Calibration of fits to single patients: what is simulated is what was asked for, and the command counts, resumes, refuses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference import patient_calibrate
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.arrest_start import find_arrest_start
from mezikd.inference.calibration import RANKED, Fitted, drawn_truths
from mezikd.inference.commands import built_in_fit, run
from mezikd.inference.coordinates import straightened
from mezikd.inference.patient_calibration import (
    VERSION,
    PatientCalibrator,
    PatientTrial,
    TrialPlan,
    evenly,
    of_size,
    problem_of,
    simulated,
)
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_start import Gradient
from mezikd.inference.problem import design_of
from mezikd.inference.sampler import Draws
from mezikd.inference.settings import load_settings
from mezikd.model.parameters import DECLARED, free
from mezikd.model.population import Information

TOML = """
[study]
name = "Simulated patients"
title = "Trials of known parameters"
citation = "none"

[tables]

[model]
structure = "arrest"

[parameters]
ec50 = {}
anc0 = { centre = 3.0, spread = 0.1 }
infection_rate = { centre = 0.2, spread = 0.1 }
progression_rate = { centre = 0.3, spread = 0.1 }

[sampler]
chains = 2
warmup = 25
draws = 25
seed = 3
max_tree_depth = 3
"""
CYCLES, PATIENTS = 2, 20
TRUTH = np.array([0.5, -1.0, 0.3, 2.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("settings")
    (place / "fit.toml").write_text(TOML)
    return place


@pytest.fixture(scope="module")
def plan(folder) -> TrialPlan:
    design = design_of(load_settings(built_in_fit()))
    return TrialPlan(load_patient_settings(folder, ArrestFit), design, PATIENTS, CYCLES, 1)


@pytest.fixture(scope="module")
def trial(plan):
    return simulated(plan, TRUTH, 0)


def test_the_trial_that_was_asked_for(plan, trial):
    """Sizes, cutoff, the truth at its coordinates, everything else at the declared centre; other patients in another trial."""
    assert [arm.size for arm in trial.arms] == [12, 8]
    for arm in trial.arms:
        np.testing.assert_allclose(arm.history.cutoff, 28.0 * CYCLES, rtol=1e-6)
    centres = {p.name: p.centre for p in DECLARED}
    ec50 = next(p for p in DECLARED if p.name == "ec50")
    assert trial.theta["ec50"] == pytest.approx(ec50.centre * np.exp(0.5 * ec50.spread))
    assert trial.theta["anc0"] == pytest.approx(3.0 * np.exp(-0.1))
    assert trial.theta["hill"] == centres["hill"] and trial.theta["hold_grade3"] == centres["hold_grade3"]
    again, other = simulated(plan, TRUTH, 0), simulated(plan, TRUTH, 1)
    np.testing.assert_array_equal(again.arms[0].record.count, trial.arms[0].record.count)
    assert not np.array_equal(other.arms[0].person.log_anc0, trial.arms[0].person.log_anc0)


def test_its_tables_are_what_the_fit_reads(plan, trial):
    """Padded to the plan's size, all counts and events there, and the log-likelihood the same whatever the padding."""
    target, data = problem_of(plan, trial)
    assert target.patients == PATIENTS and data.ledger.dose.shape == (4 * CYCLES + 1, 7, PATIENTS)
    seen = sum(int(np.isfinite(a.record.count[1:, a.treated]).sum() + a.treated.sum()) for a in trial.arms)
    assert int(data.counts.there.sum()) == seen > 100
    progressed = sum(
        int((a.history.progression <= np.minimum(a.history.cutoff, a.history.lost)).sum()) for a in trial.arms
    )
    assert data.ledger.progressed.sum() == progressed > 3 and data.ledger.infected.sum() > 3
    lanes, *_ = target.lanes(jnp.zeros((1, target.dimensions)), data)
    value = jax.jit(target.of_patients)
    expected = value(lanes, data.ledger, data.counts)
    larger = of_size(data, 4 * CYCLES + 3)
    base = lanes.rates.baseline
    lanes = lanes._replace(rates=lanes.rates._replace(baseline=jnp.concatenate([base, base[-2:]])))
    np.testing.assert_allclose(value(lanes, larger.ledger, larger.counts), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="room for 3"):
        of_size(data, 3)


def test_ranked_draws_come_from_all_chains():
    z = np.arange(2 * 30, dtype=float).reshape(2, 30, 1)
    found = evenly(Draws(z, *[None] * 8), 7)[:, 0]  # type: ignore[arg-type]
    assert found[0] == 0 and found[-1] == 59 and np.ptp(np.diff(found)) <= 1


class Quick:
    """Fits at once: for most trials draws of the truth's own law, so ranks are uniform; 'off' is never held."""

    @classmethod
    def build(cls, plan):
        found = cls()
        found.plan = plan
        return found

    def fit(self, index, truth):
        rng = np.random.default_rng([self.plan.seed, index])
        draws = {"good": rng.standard_normal(RANKED), "off": truth[0] + 1.0 + rng.random(RANKED)}
        told = {"counts": 9, "gate": "pass" if index else "fail", "failed": "", "gradients": 7}
        return PatientTrial({"good": float(truth[0]), "off": float(truth[0])}, {VERSION: Fitted(draws, 0.8, 0)}, told)


@pytest.fixture
def quick(monkeypatch, folder):
    """(out, *options) -> exit code of `mezikd calibrate` with fits that take no time."""
    monkeypatch.setattr(patient_calibrate, "PatientCalibrator", Quick)
    for name in ("coverage_figure", "rank_figure"):
        monkeypatch.setattr(patient_calibrate, name, lambda table, path, kind: path.write_text(table.to_csv()))
    return lambda out, *options: run(["calibrate", str(folder), "--trials", "20", "--out", str(out), *options])


def test_coverage_is_counted(quick, tmp_path, capsys):
    """A parameter that is never held is outside its bands, says the exit code; one that is right is inside."""
    out = tmp_path / "out"
    assert quick(out) == 3
    table = pd.read_csv(out / "calibration.csv").set_index(["quantity", "level"])
    assert (
        (table["trials"] == 20).all() and (table["version"] == VERSION).all() and (table["kind"] == "parameter").all()
    )
    assert (table.loc["off", "covered"] == 0).all() and not table.loc["off", "inside"].any()
    assert table.loc["good", "inside"].all() and (table.loc["good", "rank_p"] > 0.01).all()
    assert len(pd.read_csv(out / "ranks.csv")) == 40
    told = pd.read_csv(out / "trials.csv")
    assert list(told["trial"]) == list(range(20)) and (told["gate"] == "pass").sum() == 19
    said = capsys.readouterr().err
    assert "gate passed in 19 of 20" in said and "2 of 4 coverages inside" in said
    assert quick(out) == 2 and "finished calibration" in capsys.readouterr().err


def test_an_interrupted_calibration_goes_on(quick, tmp_path, monkeypatch):
    """The trials that are saved are not fitted again, and the results are those of an uninterrupted run."""
    quick(tmp_path / "whole")
    fit, fitted = Quick.fit, []

    def until(last):
        def one(self, index, truth):
            if len(fitted) == last:
                raise KeyboardInterrupt
            fitted.append(index)
            return fit(self, index, truth)

        return one

    monkeypatch.setattr(Quick, "fit", until(8))
    assert quick(tmp_path / "cut") == 130
    monkeypatch.setattr(Quick, "fit", until(10**9))
    assert quick(tmp_path / "cut") == 3
    assert sorted(set(fitted)) == list(range(20)) and len(fitted) < 28
    for name in ("calibration.csv", "ranks.csv", "trials.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--around", "prior"], "--around"), (["--virtual-patients", "64"], "--virtual-patients"), (["--patients", "5"], "--patients"),
        (["--cycles", "100"], "--cycles"),
    ],
)  # fmt: skip
def test_options_of_the_other_calibration_are_refused(quick, tmp_path, capsys, options, word):
    assert quick(tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and not (tmp_path / "out").exists()


def test_options_of_this_calibration_are_refused_by_the_other(tmp_path, capsys):
    assert run(["calibrate", "--patients", "40", "--out", str(tmp_path / "out")]) == 2
    assert "--patients" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_is_fitted(plan):
    """From truth to ranked draws, twice the same."""
    calibrator = PatientCalibrator.build(plan)
    first, second = (calibrator.fit(3, TRUTH) for _ in range(2))
    assert first.truth["anc0"] == pytest.approx(3.0 * np.exp(-0.1))
    for name, draws in first.fits[VERSION].draws.items():
        assert draws.shape == (RANKED,) and np.std(draws) > 0.0
        np.testing.assert_array_equal(draws, second.fits[VERSION].draws[name])
    _, data = problem_of(plan, simulated(plan, TRUTH, 3))
    assert first.told["gate"] == "fail" and first.told["counts"] == data.counts.there.sum() > 50


@pytest.mark.slow
def test_a_start_where_nearly_all_have_progressed():
    """172 of 200 patients: the joint mode of frailties and their SD lies at an SD of 29, and no chain left it."""
    settings = load_patient_settings(built_in_fit().parent / "patients", ArrestFit)
    plan = TrialPlan(settings, design_of(load_settings(built_in_fit())), 200, 12, 1)
    names = [p.name for p in free(settings.declared)]
    target, data = problem_of(plan, simulated(plan, drawn_truths(None, len(names), 20, 1)[14], 14))
    assert int(data.ledger.progressed.sum()) == 172
    start = find_arrest_start(target, data, Gradient(target, data))
    found = dict(zip(names, np.asarray(target.prior_scaled(start.x)), strict=True))
    assert abs(found["progression_frailty_sd"]) < 3.0 and abs(found["progression_shape"]) < 3.0


@pytest.mark.slow
def test_scores_at_the_truth_are_zero_on_average():
    """40 trials of 200 patients: slopes of the likelihood at the parameters and effects that they were simulated with.

    With doses that end with progression counted in the tumour effect of that week, that of tumour_effect was 5 standard errors off.
    """
    settings = load_patient_settings(built_in_fit().parent / "patients", ArrestFit)
    plan = TrialPlan(settings, design_of(load_settings(built_in_fit())), 200, 12, 7)
    parameters, gradient, scores = free(settings.declared), None, []
    for i, z in enumerate(drawn_truths(None, len(parameters), 40, 7)):
        trial = simulated(plan, z, i)
        target, data = problem_of(plan, trial)
        n, k = target.patients, len(target.effects)
        data = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
        gradient = (gradient or Gradient(target, data)).of(data)
        x = [np.asarray(straightened(jnp.asarray(z), settings.declared))]
        for arm in trial.arms:
            who, theta = arm.person, {name: float(v) for name, v in trial.theta.items()}
            potency = np.asarray(who.log_exposure - who.block.log_ec50) + np.log(theta["ec50"])
            baseline = np.asarray(who.log_anc0) - np.log(theta["anc0"])
            logs = potency, baseline, np.log(arm.maturation), np.log(np.asarray(who.progression_frailty))
            sds = [theta[name] for name in settings.sds]
            x.append(
                np.stack([np.broadcast_to(v, arm.size) / sd for v, sd in zip(logs, sds, strict=True)], axis=1).ravel()
            )
        slope = gradient(np.concatenate(x))[1][: len(z)]
        moved = np.asarray(jax.jacobian(lambda z: straightened(z, settings.declared))(jnp.asarray(z)))
        scores.append(moved.T @ slope + z)  # without the slope of the prior
    mean, error = np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1) / np.sqrt(len(scores))
    assert (np.abs(mean / error) < 3.5).all(), dict(zip([p.name for p in parameters], mean / error, strict=True))
