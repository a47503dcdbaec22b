"""Refits and scenarios on worker processes: what comes without them, though one is killed; real ones are slow."""

import os
import pickle
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import groups_left_out, predict, prediction, refits, sensitivity_run, tasks
from mezikd.inference.cluster import Remote, cluster_workers
from mezikd.inference.commands import BAD_INPUT, DONE, INTERRUPTED, run
from mezikd.inference.importance import Normal
from mezikd.inference.likelihood import Data, Prior
from mezikd.inference.programs import BATCH
from mezikd.inference.scenario_settings import Prediction
from mezikd.inference.scenarios import NamedScenario
from mezikd.inference.sensitivity import Alternative
from mezikd.inference.structures import LeftOut
from mezikd.inference.tasks import Task, results_of
from mezikd.inference.workers import workers
from mezikd.model.scenario import Scenario
from stand_ins import Asked, compiled_levels, compiled_posteriors, compiled_predictor
from test_groups_left_out import fit_of, made
from test_refits import Toy

assert made  # a fixture


class Hashed(SimpleNamespace):
    """Attributes, hashed by identity as a program is."""

    __hash__ = object.__hash__


@pytest.fixture(scope="module")
def local():
    """Worker processes of this machine."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with cluster_workers("local") as pool:
        yield pool


@contextmanager
def one_killed(records: Path, task: str, results: Path, others: int):
    """Let tasks record who does them; kill the worker that is at ``task`` once ``others`` are saved in ``results``.

    At the end each was done once, but for that one.
    """
    records.mkdir()

    def kill():
        until = time.monotonic() + 240
        while len(list(results.glob("*.pickle"))) < others or not (records / task).exists():
            if time.monotonic() > until:
                return
            time.sleep(0.05)
        os.kill(int((records / task).read_text()), signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    yield
    killer.join()
    runs = {p.name: p.read_text().split() for p in records.iterdir()}
    assert {name: len(r) for name, r in runs.items()} == {name: 1 + (name == task) for name in runs}
    assert len(set(runs[task])) == 2 and str(os.getpid()) not in {pid for r in runs.values() for pid in r}


def arrived(function):
    """Return ``function``, whose results are those that come from a worker."""
    return lambda *arguments: pickle.loads(pickle.dumps(function(*arguments)))


def test_compare_with_a_killed_worker(local, made, tmp_path, monkeypatch):
    """Two fits and groups; each group goes on, alone, to the powers that its own draws ask for."""
    fits = [fit_of("a"), fit_of("b")]
    weighted = {fit.name: {g: LeftOut(0.0, 0.9) for g in ("first", "second")} for fit in fits}
    records, held = tmp_path / "records", "b_with_second_to_the_power_0.000"
    monkeypatch.setattr(groups_left_out, "level_sampler", lambda *_: arrived(compiled_levels(records, held)))
    stand_in = Remote(partial(compiled_levels, records, held), {})
    monkeypatch.setattr(groups_left_out, "Remote", lambda *_: stand_in)

    def found(name: str, pool=None) -> dict:
        (tmp_path / name).mkdir()
        return groups_left_out.without_groups(fits, weighted, ["first", "second"], tmp_path / name, pool)  # type: ignore[arg-type]

    here = found("here")
    kept = {p.name: p.read_bytes() for p in (tmp_path / "here").glob("*.pickle")}
    with one_killed(records, held, tmp_path / "there", sum("b_with_second" not in name for name in kept)):
        there = found("there", local)
    assert {k: (x.elpd, x.error, x.overlap, x.rhat) for k, x in there.items()} == {
        k: (x.elpd, x.error, x.overlap, x.rhat) for k, x in here.items()
    }
    assert kept == {p.name: p.read_bytes() for p in (tmp_path / "there").glob("*.pickle")}
    assert len(kept) == len(list(records.iterdir())) > 4


def test_sensitivity_with_a_killed_worker(local, tmp_path, monkeypatch):
    """Of two programs, each with its own alternatives and what is asked for under them."""
    records, held = tmp_path / "records", "theta_0_99"
    monkeypatch.setattr(sensitivity_run, "sampler_of", partial(compiled_posteriors, records, held))
    programs = [Hashed(target=t, data=Asked(None, None), base={"theta": 0.95}) for t in ("usual", "weekly")]
    asked = []
    for value, program in (("0.90", 0), ("0.99", 0), ("visits", 1)):
        alternative = Alternative("theta", value, {} if program else {"theta": float(value)})
        wanted = Asked(Asked(None, None, value), {"theta": 0.95, **alternative.changes})
        asked.append(sensitivity_run.Wanted(alternative.name, programs[program], wanted, value))  # type: ignore[arg-type]
    problem = SimpleNamespace(settings=SimpleNamespace(sampler=SimpleNamespace(seed=1, max_tree_depth=3)))

    def found(name: str, pool=None) -> dict:
        (tmp_path / name).mkdir()
        return sensitivity_run.SampledPosteriors(problem, tmp_path / name, pool).draws(asked)  # type: ignore[arg-type]

    here = found("here")
    assert here["theta: 0.90"][0] == "usual" and here["theta: visits"][0] == "weekly"
    assert here["theta: 0.99"][2].changes == {"theta": 0.99} and here["theta: 0.99"][2].data.prior == "0.99"
    with one_killed(records, held, tmp_path / "there", 2):
        assert found("there", local) == here


def test_predict_with_a_killed_worker(local, tmp_path, monkeypatch):
    """All batches of both programs, each draw once and in its place."""
    draws = {"tumour_memory": np.arange(40.0)}, {"tumour_memory": 100.0 + np.arange(30.0)}
    monkeypatch.setattr(predict, "programs", lambda _: [(None, theta) for theta in draws])
    scenarios = tuple(NamedScenario(name, Scenario(), (1.0, 0.0, 0.0, 0.0)) for name in ("one", "two"))
    request = SimpleNamespace(scenarios=scenarios, reference="two", prediction=Prediction())
    records, held = tmp_path / "records", "40_10"

    def stand_in(theta, form, scenarios, reference, settings, first, *_):
        values = theta["tumour_memory"]
        return partial(compiled_predictor, records, held, values, BATCH, first)

    monkeypatch.setattr(prediction, "batch_predictor", lambda *of: arrived(stand_in(*of)()))
    monkeypatch.setattr(predict, "Remote", lambda make, _: Remote(stand_in(*make.args), {}))
    here = predict.predict_structures(request, ())  # type: ignore[arg-type]
    expected = [*np.arange(40), *(40100 + np.arange(30))]
    np.testing.assert_array_equal(here.outcomes["two"]["x"].full, expected)  # type: ignore[index]
    with one_killed(records, held, tmp_path, 5):
        there = predict.predict_on_workers(request, (), local, tmp_path)  # type: ignore[arg-type]
    assert there.scenarios == here.scenarios
    for name, x in here.outcomes.items():
        for a, b in zip(x["x"], there.outcomes[name]["x"], strict=True):  # type: ignore[index]
            np.testing.assert_array_equal(a, b)


def test_one_more_result_at_a_time(tmp_path):
    """What a result asks for is done too; a second time nothing is; each result is there as soon as it comes."""
    done, there, come = [], [], []

    def double(x: int) -> int:
        done.append(x)
        return 2 * x

    def task(x: int) -> dict[int, Task]:
        return {x: Task(tmp_path / f"{x}.pickle", double, (x,))}

    def more(x: int, result: int) -> dict[int, Task]:
        there.append(len(list(tmp_path.glob("*.pickle"))))
        return task(result) if result < 20 else {}

    for _ in range(2):
        with workers(2) as pool:
            found = results_of(pool, task(1) | task(3), lambda: come.append(None), more)
        assert found == {1: 2, 2: 4, 4: 8, 8: 16, 16: 32, 3: 6, 6: 12, 12: 24}
    assert len(come) == 16 and sorted(done) == sorted(found) and there[:8] == list(range(1, 9))


def test_workers_of_this_machine_leave_the_gpu_alone(local):
    """Each would claim nearly all of its memory for itself."""
    assert local.submit(os.getenv, "JAX_PLATFORMS").result() == "cpu"


def test_prediction_of_other_draws_or_scenarios_is_another_one(monkeypatch):
    """Its batches are not gone on with."""
    draws = {"tumour_memory": np.arange(40.0)}
    monkeypatch.setattr(predict, "programs", lambda x: [(None, x)])
    request = SimpleNamespace(scenarios=("one",), reference="one", prediction=Prediction())
    same = SimpleNamespace(scenarios=("one",), reference="one", prediction=Prediction(seed=1))
    other = [SimpleNamespace(**vars(request) | more) for more in (
        {"scenarios": ("two",)}, {"reference": "two"}, {"prediction": Prediction(seed=2)}, {"prediction": Prediction(patients=64)},
    )]  # fmt: skip
    prints = [predict._fingerprint(x, draws) for x in (request, same, *other)]  # type: ignore[arg-type]
    prints.append(predict._fingerprint(request, {"tumour_memory": np.arange(1.0, 41.0)}))  # type: ignore[arg-type]
    assert prints[0] == prints[1] and len(set(prints)) == len(prints) - 1


@pytest.mark.parametrize("command", ["compare", "sensitivity"])
def test_nothing_to_spread(command, tmp_path, capsys):
    words = [command, "--cluster", "local", "--out", str(tmp_path / "out")]
    assert run([*words, "a", "b"] if command == "compare" else words) == BAD_INPUT
    line = capsys.readouterr().err
    assert "--cluster: given without --refit" in line and line.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_real_refits_are_the_same(local, tmp_path):
    """The sampler itself on worker processes, of a small density: the same draws to the bit."""
    prior = Prior(jnp.zeros(2), jnp.eye(2))
    data = Data(jnp.ones(2), None, prior)  # type: ignore[arg-type]
    program = Hashed(target=Toy(), data=data, base={"at": 0.0})
    near = Normal(np.zeros(2), np.eye(2))
    asked = [sensitivity_run.Wanted(f"at: {x}", program, refits.Asked(data, {"at": x}), near) for x in (0.0, 0.5, 1.0)]  # type: ignore[arg-type]
    problem = SimpleNamespace(settings=SimpleNamespace(sampler=SimpleNamespace(seed=1, max_tree_depth=4)))
    found = []
    for name, pool in (("here", None), ("there", local)):
        (tmp_path / name).mkdir()
        found.append(sensitivity_run.SampledPosteriors(problem, tmp_path / name, pool).draws(asked))  # type: ignore[arg-type]
    for name, refit in found[0].items():
        np.testing.assert_array_equal(refit.z, found[1][name].z)
    assert not [p for p in (tmp_path / "there").iterdir() if p.is_dir()]


@pytest.mark.slow
def test_real_predictions_are_the_same(tmp_path, monkeypatch, capsys):
    """To the byte, though a process is killed; an interrupted one goes on, but not with other scenarios."""
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("mezikd.inference.mode.CORES", 2)
    words = ["predict", "--scenarios", "doses", "--draws", "64", "--patients", "64", "--months", "6"]

    def files(out: Path) -> dict[str, bytes]:
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    assert run([*words, "--out", str(tmp_path / "here")]) == DONE
    here, save, saved = files(tmp_path / "here"), tasks.save_pickle, []

    def kill_one(path, value):
        save(path, value)
        saved.append(path)
        if len(saved) == 1:
            max(psutil.Process().children(recursive=True), key=lambda p: sum(p.cpu_times()[:2])).kill()

    def interrupt(path, value):
        save(path, value)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    there = [*words, "--cluster", "local", "--out", str(tmp_path / "there")]
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "save_pickle", kill_one)
        assert run(there) == DONE
    assert files(tmp_path / "there") == here and len(saved) == len(set(saved)) > 4
    every, out = len(saved), tmp_path / "stopped"
    saved.clear()
    stopped = [*there[:-1], str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "save_pickle", interrupt)
        assert run(stopped) == INTERRUPTED
    assert "to go on" in capsys.readouterr().err and len(list((out / "unfinished").glob("*.pickle"))) == 2
    assert run([*stopped, "--seed", "2"]) == BAD_INPUT
    assert "holds an unfinished prediction of other inputs" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(tasks, "save_pickle", lambda path, value: (saved.append(path), save(path, value)))
    assert run(stopped) == DONE
    assert files(out) == here and len(saved) == every
