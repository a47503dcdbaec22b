"""Draws of fits to patients in natural units, and that chains go on until these pass the gate."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import arrest_fit, patient_calibration, patient_fit
from mezikd.inference.arrest_problem import build, read_tables
from mezikd.inference.arrest_results import reader
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.patient_calibration import PatientCalibrator, TrialPlan, problem_of, simulated
from mezikd.inference.patient_posterior import Reader
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.patient_start import Start
from mezikd.inference.places import built_in_fit
from mezikd.inference.problem import design_of
from mezikd.inference.sampler import BLOCK, SamplerSettings
from mezikd.inference.settings import load_settings
from mezikd.model.population import Information
from simulated_tables import simulated_trial, write_tables
from test_arrest_fit import SMALL
from test_patient_fit import SMALL as FRIBERG
from test_patient_fit import table


class Asked(Exception):
    """Raised in place of sampling, with what is asked of the draws."""

    def __init__(self, enough):
        self.enough = enough


@pytest.fixture(scope="module")
def arrest(tmp_path_factory):
    """Return settings, tables, log-density and data of a small trial."""
    place = tmp_path_factory.mktemp("trial")
    write_tables(place, simulated_trial(6))
    (place / "fit.toml").write_text(SMALL)
    settings = load_patient_settings(place, ArrestFit)
    tables = read_tables(place, settings)
    return settings, tables, *build(place, settings, tables)


def begun(target, data, shared: int) -> Start:
    """Return a start at the prior's centre."""
    n, k = target.patients, len(target.effects)
    own = target.dimensions - shared
    data = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
    return Start(np.zeros(target.dimensions), np.eye(shared), data, np.ones(k), 0, np.zeros((own, shared)))


def instead_of_sampling(monkeypatch, module) -> list:
    """Let ``module`` raise Asked in place of sampling and the gate pass; return the list of what the gate is shown."""
    shown = []

    def sample(*_, enough=None, **__):
        raise Asked(enough)

    monkeypatch.setattr(module, "sample_side_by_side", sample)
    monkeypatch.setattr(module, "SideBySide", lambda *_: None)
    monkeypatch.setattr(module, "passes", lambda posterior: bool(shown.append(posterior)) or True)
    return shown


def natural(target, data, z, ids):
    """Return what a draw says, by the log-density's own functions, name by name."""
    x = jnp.asarray(z)
    theta = target.population(x)
    own = target.own(theta, target.etas(x, theta, data)[0], data)
    return {"ec50": theta["ec50"], "sigma_anc": theta["sigma_anc"]} | {f"patient_{e}": v for e, v in own.items()}


@pytest.mark.parametrize("draws", [1, BLOCK, BLOCK + 3, 2 * BLOCK + 1])
def test_every_draw_is_read(draws):
    """Whatever their number: values of a draw are those of its own coordinates."""
    z = np.random.default_rng(draws).normal(size=(3, draws, 4))
    made = Reader.of(lambda x, data: {"a": x[0] * data["k"], "b": x[1:] + data["k"]}, {"a": "mg", "b": "1"})
    found = made.posterior(z, {"k": jnp.asarray(2.0)}, ["p", "q", "r"])
    np.testing.assert_allclose(found["a"], 2.0 * z[..., 0], rtol=1e-14)
    np.testing.assert_allclose(found["b"], z[..., 1:] + 2.0, rtol=1e-14)
    assert found["b"].dims == ("chain", "draw", "patient") and found["a"].attrs["unit"] == "mg"
    assert list(found["patient"].to_numpy()) == ["p", "q", "r"]


def test_chains_of_an_arrest_fit_go_on_until_natural_values_pass(arrest, monkeypatch, tmp_path):
    settings, tables, target, data = arrest
    shown = instead_of_sampling(monkeypatch, arrest_fit)
    start = begun(target, data, target.shared_size)
    with pytest.raises(Asked) as asked:
        arrest_fit.start_and_sample(target, data, settings, tmp_path, 0.0, lambda *_: start, reader(target), tables.ids)
    z = 0.3 * np.random.default_rng(1).normal(size=(2, 5, target.dimensions))
    assert asked.value.enough(z) and len(shown) == 1
    expected = natural(target, jax.tree.map(jnp.asarray, start.data), z[1, 4], tables.ids)
    for name, value in expected.items():
        np.testing.assert_allclose(shown[0][name].isel(chain=1, draw=4), value, rtol=1e-10)


def test_chains_of_a_friberg_fit_go_on_until_natural_values_pass(monkeypatch, tmp_path):
    (tmp_path / "fit.toml").write_text(FRIBERG)
    table().to_csv(tmp_path / "three.csv", index=False)
    shown = instead_of_sampling(monkeypatch, patient_fit)
    monkeypatch.setattr(patient_fit, "SideBySide", SimpleNamespace)
    monkeypatch.setattr(patient_fit, "in_background", lambda *_: SimpleNamespace(result=SimpleNamespace))
    monkeypatch.setattr(patient_fit, "find_start", lambda t, d, *_: begun(t, d, t.layout.shared))
    settings = load_patient_settings(tmp_path)
    with pytest.raises(Asked) as asked:
        patient_fit.run_patient_fit(tmp_path, tmp_path / "out", settings, False)
    _, target, _ = patient_fit.load(tmp_path, settings)
    z = 0.3 * np.random.default_rng(2).normal(size=(2, 5, target.dimensions))
    assert asked.value.enough(z) and len(shown) == 1
    shared = target.shared(jnp.asarray(z[1, 4]))
    for name, log in shared.log_typical.items():
        if name in shown[0]:
            assert float(shown[0][name][1, 4]) == pytest.approx(float(jnp.exp(log)), rel=1e-10)
    assert {"mtt", "error_anc", "patient_anc0"} <= set(shown[0])
    assert all(float(v.std()) > 0.0 for v in shown[0].values())


def test_chains_of_a_calibration_go_on_until_natural_values_pass(tmp_path, monkeypatch):
    (tmp_path / "fit.toml").write_text(SMALL)
    settings = load_patient_settings(tmp_path, ArrestFit)
    plan = TrialPlan(settings, design_of(load_settings(built_in_fit())), 20, 2, 1)
    truth = np.zeros(5)
    target, data = problem_of(plan, simulated(plan, truth, 0))
    shown = instead_of_sampling(monkeypatch, patient_calibration)
    start = begun(target, data, target.shared_size)
    monkeypatch.setattr(patient_calibration, "find_arrest_start", lambda *_: start)
    gradient = SimpleNamespace(of=lambda _: None)
    sampling = SamplerSettings(**settings.sampler.model_dump(exclude={"method"}))
    made = PatientCalibrator(plan, target, gradient, None, sampling, reader(target))  # type: ignore[arg-type]
    with pytest.raises(Asked) as asked:
        made.fit(0, truth)
    z = 0.3 * np.random.default_rng(3).normal(size=(2, 5, target.dimensions))
    assert asked.value.enough(z)
    expected = natural(target, jax.tree.map(jnp.asarray, start.data), z[0, 2], None)
    for name, value in expected.items():
        np.testing.assert_allclose(shown[0][name].isel(chain=0, draw=2), value, rtol=1e-10)
