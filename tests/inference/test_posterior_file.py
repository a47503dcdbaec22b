"""A saved fit: read with the settings that it ran with, thinned, refused when it is an older version's."""

import numpy as np
import pytest
import xarray as xr
from mezikd.inference.commands import BAD_INPUT, built_in_fit, run
from mezikd.inference.diagnostics import largest_rhat
from mezikd.inference.errors import InputError
from mezikd.inference.posterior_file import FAILED, caution, joint_of, load, load_draws, save, thin, whole_rhat
from mezikd.inference.problem import load_problem
from mezikd.inference.variants import NO_MEMORY

SHIPPED = built_in_fit() / "posterior.nc"


@pytest.fixture
def tree():
    with xr.open_datatree(SHIPPED, engine="h5netcdf") as opened:
        return opened.load()


def test_options_of_the_command_line_are_kept(tree, tmp_path):
    problem = load_problem(built_in_fit(), {"tumour": "no_memory", "virtual_patients": 64})
    tree.attrs["settings"] = problem.settings.model_dump_json()
    save(tree, tmp_path / "posterior.nc")
    _, again = load(tmp_path / "posterior.nc")
    assert again.settings == problem.settings and again.target.mezikd.size == 64
    assert NO_MEMORY in again.parameters and not again.target.design.tumour_memory
    assert NO_MEMORY.fixed and NO_MEMORY.centre == 0.0


def test_structures_free_what_they_use():
    """Kill has its transit time and feedback instead of the arrest model's four; without its path b_n is 0, fixed."""
    base, kill, apart = (
        {p.name for p in load_problem(built_in_fit(), changes).free}
        for changes in ({}, {"structure": "friberg"}, {"infection": "no_neutrophils"})
    )
    assert base - kill == {"blood_half_life_hours", "reserve_ratio", "saturation", "feedback"}
    assert kill - base == {"mean_transit_hours", "kill_feedback"}
    assert base - apart == {"infection_neutropenia"} and not apart - base


def test_thinned(tree, tmp_path):
    small = thin(tree, 100)
    z = np.asarray(small["unconstrained_posterior"]["z"])
    assert 80 <= z.shape[0] * z.shape[1] <= 200
    save(small, tmp_path / "small.nc")
    read, _ = load(tmp_path / "small.nc")
    assert (tmp_path / "small.nc").stat().st_size < 400_000
    joint, names = joint_of(read), load(SHIPPED)[1].target.score_names
    assert joint.mean.shape == (len(names),) and joint.root.shape == (len(names), len(names))
    assert whole_rhat(read) == whole_rhat(thin(read, 20)) == whole_rhat(tree)  # that of the fit, not of what is left
    assert largest_rhat(np.asarray(thin(read, 20)["unconstrained_posterior"]["z"])) > whole_rhat(tree)


def test_an_older_fit_is_refused(tree, tmp_path, capsys):
    del tree.attrs["joint"]
    save(tree, tmp_path / "posterior.nc")
    assert run(["check", str(tmp_path / "posterior.nc"), "--out", str(tmp_path / "out")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "older version" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("option", ["--structure", "--tumour", "--infection"])
def test_unknown_structure(option, tmp_path, capsys):
    assert run(["fit", option, "nothing", "--out", str(tmp_path / "out")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert option in said and len(said.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_fit_to_patients_is_refused_by_name(tree, tmp_path, capsys):
    tree.attrs["kind"] = "patients"
    save(tree, tmp_path / "posterior.nc")
    assert run(["check", str(tmp_path), "--out", str(tmp_path / "out")]) == BAD_INPUT
    error = capsys.readouterr().err
    assert "patients' own tables" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_draws_alone_are_those_of_the_whole_file():
    (whole, problem), (draws, again) = load(SHIPPED), load_draws(SHIPPED)
    assert list(draws.children) == ["unconstrained_posterior"]
    ours, theirs = draws["unconstrained_posterior"], whole["unconstrained_posterior"]
    np.testing.assert_array_equal(ours["z"], theirs["z"])
    assert ours["z"].dims == theirs["z"].dims and list(ours["parameter"].values) == list(theirs["parameter"].values)
    assert {k: str(v) for k, v in draws.attrs.items()} == {k: str(v) for k, v in whole.attrs.items()}
    assert again.parameters == problem.parameters and again.evidence.sha256 == problem.evidence.sha256


def test_draws_of_a_file_that_is_none(tmp_path):
    (tmp_path / "x.nc").write_bytes(SHIPPED.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read as a fit"):
        load_draws(tmp_path / "x.nc")


def test_a_fit_that_missed_its_gate_says_so_wherever_it_predicts(tree, tmp_path, capsys):
    """Predictions and virtual trials of the shipped fit say nothing of it; those of one that missed the gate do."""
    why = "R-hat of ec50 1.300 above 1.01"
    assert caution(tree) == ""
    tree.attrs[FAILED] = why
    save(tree, tmp_path / "posterior.nc")
    fit = str(tmp_path / "posterior.nc")
    small = ["--dose", "0.6", "--draws", "20", "--patients", "64", "--months", "12"]
    assert run(["predict", fit, *small, "--out", str(tmp_path / "p")]) == 0
    assert why in " ".join(capsys.readouterr().err.split()) and why in (tmp_path / "p" / "summary.md").read_text(
        "utf-8"
    )
    assert run(["simulate", fit, "--patients", "20", "--out", str(tmp_path / "s")]) == 0
    assert why in " ".join(capsys.readouterr().err.split()) and why in (tmp_path / "s" / "define.md").read_text("utf-8")
