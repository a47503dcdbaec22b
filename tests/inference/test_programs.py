"""What is compiled before a fit is read is what its prediction then asks for."""

from types import SimpleNamespace

import numpy as np
import pytest
from mezikd.inference import programs
from mezikd.inference.commands import DONE, run
from mezikd.inference.mixture import Member
from mezikd.inference.places import OTHERS, POSTERIOR, built_in_fit
from mezikd.inference.predict import programs as programs_of
from mezikd.inference.prediction import STRUCTURE, Simulator, batches
from mezikd.inference.programs import BATCH, begin
from mezikd.inference.scenario_files import read_scenarios, single_scenario
from mezikd.inference.scenario_settings import Prediction
from mezikd.model.batch import Form
from mezikd.model.trial_design import Arm, Design


@pytest.fixture
def begun(monkeypatch) -> dict:
    """The programs of this test."""
    found = {}
    monkeypatch.setattr(programs, "_begun", found)
    return found


def test_a_prediction_compiles_nothing_but_what_was_begun(begun, tmp_path, monkeypatch):
    """Of the shipped mixture; the order, the posterior's draws and the seed do not matter."""
    asked = []
    monkeypatch.setattr(programs, "begin", lambda *of: (begin(*of), asked.extend(begun)))
    words = ["predict", "--dose", "0.6", "--draws", "20", "--patients", "64", "--months", "3", "--seed", "5"]
    assert run([*words, "--out", str(tmp_path / "out")]) == DONE
    assert len(asked) == 1 and list(begun) == asked
    (form, *_), = asked  # fmt: skip
    assert form.structures == ("arrest", "friberg") and form.single and not form.gcsf


@pytest.mark.parametrize(("scenarios", "gcsf"), [("gcsf", True), ("rules", False)])
def test_days_with_gcsf_are_compiled_where_a_scenario_has_them(begun, monkeypatch, scenarios, gcsf):
    monkeypatch.setattr(programs, "Program", lambda form, *_: form)
    begin(built_in_fit() / POSTERIOR, read_scenarios(programs_path(scenarios), {}).request)
    assert [form.gcsf for form in begun.values()] == [gcsf]


def programs_path(name: str):
    return built_in_fit().parent / "scenarios" / f"{name}.toml"


def test_a_fit_alone_has_its_own_structure(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "Program", lambda form, *_: form)
    kill = tmp_path / POSTERIOR
    kill.write_bytes((built_in_fit() / OTHERS / "kill.nc").read_bytes())
    begin(kill, single_scenario({}, {}).request)
    assert [form.structures for form in begun.values()] == [("friberg",)]


def test_mistakes_are_left_to_those_who_read_the_files(begun, tmp_path):
    (tmp_path / "damaged.nc").write_bytes((built_in_fit() / POSTERIOR).read_bytes()[:3000])
    for path in (tmp_path / "nowhere.nc", tmp_path / "damaged.nc"):
        begin(path, single_scenario({}, {}).request)
    assert not begun


def test_draws_of_one_structure_follow_each_other():
    """One program for both structures, another one for other steps a day; a batch never mixes structures."""

    def member(name: str, draws: int, value: float, steps: int = 1) -> Member:
        arm = Arm(1, 1, (1, 0, 0, 0))
        problem = SimpleNamespace(design=Design(arm, arm, structure_name=name, steps_per_day=steps), parameters=())
        return Member(name, problem, np.full((draws, 1), value))  # type: ignore[arg-type]

    found = programs_of(
        [member("friberg", 12, 1.0), member("arrest", 23, 2.0), member("arrest", 5, 3.0, 2), member("friberg", 2, 4.0)]
    )
    assert [(form.structures, form.steps) for form, _ in found] == [(("arrest", "friberg"), 1), (("arrest",), 2)]
    theta = found[0][1]
    assert theta[STRUCTURE].tolist() == [0] * 23 + [1] * 14
    assert batches(theta) == [*range(0, 23, BATCH), *range(23, 37, BATCH)]


def test_a_batch_is_filled_up_with_draws_of_its_own_structure():
    theta = {"ec50": np.arange(7.0), STRUCTURE: np.array([0, 0, 0, 1, 1, 1, 1])}
    simulator = Simulator(theta, Form(("arrest", "friberg")), Prediction(patients=64))
    for at, structure, draws in ((0, 0, [0, 1, 2]), (3, 1, [3, 4, 5, 6])):
        batch = simulator.batch(at, first=100)
        assert (int(batch.structure), batch.size) == (structure, len(draws))
        assert batch.theta["ec50"].tolist() == draws + [draws[-1]] * (BATCH - len(draws))
        assert STRUCTURE not in batch.theta
