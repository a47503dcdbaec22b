"""The whole job, small: fit a folder, read what it wrote, check the saved fit, refuse to overwrite it."""

import json
import re
import shutil
from pathlib import Path

import arviz as az
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference import diagnostics, pipeline, posterior_file
from mezikd.inference.check import COLUMNS
from mezikd.inference.commands import BAD_INPUT, DONE, GATE_FAILED, built_in_fit, run
from mezikd.inference.problem import load_problem
from mezikd.inference.sampler import Geometry

SMALL = {
    "mezikd": "32", "kd": "32", "daily_cycles": "3", "covariance_trials": "100",
    "chains": "2", "warmup": "25", "draws": "25", "more_draws": "0", "max_tree_depth": "3",
}  # fmt: skip
GROUPS = {
    "prior", "posterior", "sample_stats", "log_likelihood", "posterior_predictive", "observed_data", "constant_data",
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A fit of the built-in evidence with settings that take seconds; its gate must fail."""
    root = tmp_path_factory.mktemp("small")
    folder = root / "fit"
    folder.mkdir()
    for name in ("fit.toml", "evidence.csv", "priors.csv"):
        shutil.copy(built_in_fit() / name, folder / name)
    text = (folder / "fit.toml").read_text()
    for key, value in SMALL.items():
        text, found = re.subn(rf"(?m)^{key} = [0-9.]+$", f"{key} = {value}", text)
        assert found == 1, key
    (folder / "fit.toml").write_text(text)
    assert run(["fit", str(folder), "--out", str(root / "out")]) == GATE_FAILED
    return root / "out"


def test_files_and_columns(fitted):
    check = pd.read_csv(fitted / "check.csv")
    assert tuple(check.columns) == COLUMNS
    assert set(check["role"]) == {"fit", "check"}
    parameters = pd.read_csv(fitted / "parameters.csv")
    assert {"name", "unit", "contraction", "driven_by", "prior_sure"} <= set(parameters.columns)
    diagnostics = json.loads((fitted / "diagnostics.json").read_text())
    for key in ("max_rhat", "min_ess_bulk", "min_ess_tail", "divergences", "ebfmi_min", "seconds", "gradient_ms"):
        assert np.isfinite(diagnostics[key])
    assert diagnostics["gate"] == "fail" and diagnostics["virtual_patients"] == 32
    assert "not to be used" in posterior_file.caution(posterior_file.opened(fitted / "posterior.nc"))
    summary = (fitted / "summary.md").read_text()
    assert "extrapolated" in summary and "prior-driven" in summary
    outside = check[~check["covered"]]["id"].unique()
    assert all(name in summary for name in outside)
    assert len(list((fitted / "figures").glob("*.png"))) == 6
    assert not (fitted / "unfinished").exists() and not list(fitted.rglob("*.part"))


def test_posterior_file(fitted):
    tree, problem = posterior_file.load(fitted / "posterior.nc")
    assert set(tree.children) >= GROUPS
    assert tree["posterior"].sizes["chain"] == 2 and tree["posterior"].sizes["draw"] == 25
    assert {"versions", "seed", "device", "evidence_sha256", "priors_sha256"} <= set(tree.attrs)
    assert tree.attrs["evidence_sha256"] == problem.evidence.sha256
    assert float(az.ess(tree["posterior"].to_dataset())["ec50"]) > 0.0
    # Every fitted row has a log-likelihood of its own; what their covariance adds is 'joint'.
    fitted_rows = {r.name.replace("/", "__") for r in problem.evidence.fit}
    assert set(tree["log_likelihood"].data_vars) - {"joint"} == fitted_rows


def test_terms_of_the_likelihood_add_up_to_the_log_density(fitted):
    """With the prior, draw by draw: of a fit just made and of the shipped one, of which every fourth draw has its terms."""
    for path in (fitted / "posterior.nc", built_in_fit() / "posterior.nc"):
        tree = posterior_file.opened(path)
        terms = sum(v.to_numpy() for v in tree["log_likelihood"].to_dataset().values())
        z, density = tree["unconstrained_posterior"]["z"].to_numpy(), tree["sample_stats"]["lp"].to_numpy()
        step = max(1, z.shape[1] // 100)
        np.testing.assert_allclose(terms - 0.5 * (z[:, ::step] ** 2).sum(axis=2), density[:, ::step], atol=1e-8)


def test_a_finished_fit_is_not_overwritten(fitted, capsys):
    before = (fitted / "posterior.nc").read_bytes()
    assert run(["fit", "--out", str(fitted)]) == BAD_INPUT
    assert "finished fit" in capsys.readouterr().err
    assert (fitted / "posterior.nc").read_bytes() == before


def test_check_of_the_saved_fit(fitted, tmp_path):
    assert run(["check", str(fitted), "--out", str(tmp_path / "a"), "--trials", "16", "--seed", "4"]) == DONE
    assert run(["check", str(fitted), "--out", str(tmp_path / "b"), "--trials", "16", "--seed", "4"]) == DONE
    first, second = (tmp_path / x / "check.csv" for x in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "reported_against_predicted.png").stat().st_size > 10_000


def test_the_gate_is_that_of_parameters_in_their_units(tmp_path, monkeypatch):
    """Chains go on by the diagnostics that are told, not by those of the sampler's scale."""
    asked = []

    class Stops(Exception):
        pass

    class Stub:
        def geometry(self, _):
            return Geometry(jnp.zeros(57), jnp.eye(57), load_problem(built_in_fit()).target.data), 0

        def wait(self):
            pass

        def draws(self, *given):
            asked.append(given[-1])
            raise Stops

    monkeypatch.setattr(pipeline, "method_of", lambda *_: Stub())
    monkeypatch.setattr(diagnostics, "passes", lambda posterior: asked.append(posterior) or True)
    with pytest.raises(Stops):
        pipeline.run_fit(built_in_fit(), tmp_path / "out", {}, False)
    z = np.random.default_rng(1).standard_normal((2, 5, 57))
    assert asked[0](z)
    free = load_problem(built_in_fit()).free
    for i in (0, 30, 56):
        np.testing.assert_array_equal(asked[1][free[i].name], free[i].from_standard(z[..., i]))
