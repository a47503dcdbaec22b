"""Work that is killed goes on to the same result, wherever it was killed: at every change of a file, and by kill -9."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import calibrate
from mezikd.inference.calibration import RANKED, VERSIONS, Fitted, TrialFit
from mezikd.inference.commands import built_in_fit
from mezikd.inference.errors import InputError
from mezikd.inference.files import load_pickle
from mezikd.inference.results_folder import UNFINISHED
from mezikd.inference.sampler import Geometry, Sampler, SamplerSettings
from mezikd.inference.sampling import sample
from rich.console import Console

QUIET = Console(quiet=True)


class Killed(BaseException):
    """In place of kill -9: nothing that the dying process would do afterwards happens."""


@contextmanager
def dies_at(step: int, monkeypatch):
    """Die in the change of a file or folder number ``step``, half way where it has a half way; yield the count of changes."""
    count = SimpleNamespace(steps=0)

    def mortal(do, half=lambda *_: None):
        def call(*args, **kwargs):
            count.steps += 1
            if count.steps < step:
                return do(*args, **kwargs)
            if count.steps == step:
                half(*args)
            raise Killed

        return call

    def half_removed(folder, *_):
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        for path in files[: -(-len(files) // 2)]:
            unlink(path)

    unlink, write_bytes, write_text = Path.unlink, Path.write_bytes, Path.write_text
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", mortal(write_bytes, lambda p, x: write_bytes(p, x[: len(x) // 2])))
        patch.setattr(Path, "write_text", mortal(write_text, lambda p, x, *_: write_text(p, x[: len(x) // 2])))
        for name in ("replace", "unlink", "mkdir"):
            patch.setattr(Path, name, mortal(getattr(Path, name)))
        patch.setattr(shutil, "rmtree", mortal(shutil.rmtree, half_removed))
        yield count


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """folder -> draws of two short chains, which go on once because they mix too slowly; compiled before it is returned."""
    scale = np.array([1.0, 0.5, 2.0])

    def log_density(z, root):
        return -0.5 * jnp.sum((z / scale) ** 2) - 0.0 * jnp.sum(root)

    def gradient(z):
        value, slope = jax.value_and_grad(log_density)(jnp.asarray(z), jnp.eye(2))
        return float(value), np.asarray(slope)

    settings = SamplerSettings(chains=2, warmup=75, draws=25, more_draws=25, seed=3)
    sampler = Sampler(log_density, 3, jnp.eye(2), settings)
    geometry = Geometry(jnp.zeros(3), jnp.diag(jnp.asarray(scale)), jnp.eye(2))

    def run(folder):
        return sample(sampler, geometry, gradient, folder, np.asarray, QUIET).draws

    run(tmp_path_factory.mktemp("compiled"))  # programs that JAX keeps on disk are no changes of files of the run
    return run


def bytes_of(draws) -> list[bytes]:
    return [np.ascontiguousarray(x).tobytes() for x in draws]


def test_chains_killed_at_every_change_of_a_file(short, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    with dies_at(10**9, monkeypatch) as count:
        whole = bytes_of(short(tmp_path / "whole"))
    # Write and name; chains; blocks of pilot, adaptation, draws and more draws.
    assert count.steps == 2 * 2 * (2 + 1 + 2)
    left = set()
    for step in range(1, count.steps + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with dies_at(step, monkeypatch), pytest.raises(Killed):
            short(folder)
        left.add(len(list(folder.glob("*.pickle"))))
        assert bytes_of(short(folder)) == whole, step
    assert {0, 1, 2, 4, 6} <= left


def test_a_damaged_checkpoint_is_made_again(short, tmp_path):
    whole = bytes_of(short(tmp_path))
    for n, path in enumerate(sorted(tmp_path.glob("*.pickle"))):
        data = bytearray(path.read_bytes())
        if n % 2:
            data[len(data) // 2] ^= 4
        else:
            del data[-7:]
        path.write_bytes(data)
        assert load_pickle(path) is None
    assert bytes_of(short(tmp_path)) == whole


class QuickCalibrator:
    """Fits a trial at once, as a pure function of what the calibration gives it."""

    @classmethod
    def build(cls, *_):
        return cls()

    def fit(self, index, truth, evidence, seed):
        def fitted(n):
            rng = np.random.default_rng([seed, index, n])
            return Fitted({"x": evidence + rng.standard_normal(RANKED), "c": rng.standard_normal(RANKED)}, 0.8, 0)

        truths = {"x": float(truth[0]), "c": float(truth[1])}
        return TrialFit(truths, {v: fitted(n) for n, v in enumerate(VERSIONS)})


@pytest.fixture
def quick(monkeypatch):
    """(out, seed, restart) -> calibration of 20 trials whose fits take no time."""
    problem = calibrate.load_problem(built_in_fit())
    problem = SimpleNamespace(free=[SimpleNamespace(name="c")] * 2, settings=problem.settings, texts=problem.texts)
    monkeypatch.setattr(calibrate, "load_problem", lambda *_: problem)
    monkeypatch.setattr(calibrate, "Calibrator", QuickCalibrator)
    monkeypatch.setattr(calibrate, "simulated_evidence", lambda _, truths, seed: list(truths[:, 0] + seed))
    monkeypatch.setattr(calibrate, "with_rank_tests", lambda table, _: table.assign(rank_p=0.5))
    monkeypatch.setattr(calibrate, "coverage_figure", lambda table, path: path.write_text(table.to_csv()))
    monkeypatch.setattr(calibrate, "rank_figure", lambda ranks, path: path.write_text(ranks.to_csv()))
    monkeypatch.setattr(calibrate, "console", QUIET)

    def call(out, seed, restart=False):
        calibrate.run_calibrate(built_in_fit(), None, out, 20, seed, 64, 100, 3.0, restart)
        return read(out)

    return call


def read(out: Path) -> dict[str, bytes]:
    """Return the results in ``out``."""
    files = ("calibration.csv", "ranks.csv", "figures/coverage.png", "figures/ranks.png")
    return {name: (out / name).read_bytes() for name in files if (out / name).exists()}


def test_calibration_killed_at_every_change_of_a_file(quick, tmp_path, monkeypatch):
    """Also one that is to replace a finished one, which stays whole until the new one takes its place."""
    old = quick(tmp_path / "old", 1)
    new = quick(tmp_path / "new", 2)
    assert len(old) == 4 and all(old[name] != new[name] for name in old)
    shutil.copytree(tmp_path / "old", tmp_path / "count")
    with dies_at(10**9, monkeypatch) as count:
        quick(tmp_path / "count", 2, restart=True)
    assert count.steps > 2 * 22
    untouched = 0
    for step in range(1, count.steps + 1):
        out = tmp_path / str(step)
        shutil.copytree(tmp_path / "old", out)
        with dies_at(step, monkeypatch), pytest.raises(Killed):
            quick(out, 2, restart=True)
        untouched += read(out) == old
        try:
            assert quick(out, 2) == new, step
        except InputError as error:
            assert "holds a finished calibration" in str(error)
            if read(out) != new:  # nothing was saved yet
                assert read(out) == old and quick(out, 2, restart=True) == new, step
        assert sorted(p.name for p in out.iterdir() if p.name != UNFINISHED) == sorted(
            ["figures", "calibration.csv", "ranks.csv"]
        )
    assert untouched > 2 * 22


def test_unfinished_work_of_other_inputs_is_not_gone_on_with(quick, tmp_path, monkeypatch):
    with dies_at(30, monkeypatch), pytest.raises(Killed):
        quick(tmp_path, 1)
    with pytest.raises(InputError, match="unfinished calibration of other inputs"):
        quick(tmp_path, 2)
    monkeypatch.setattr(calibrate, "package_versions", lambda: {"jax": "0.0.1"})
    with pytest.raises(InputError, match="or versions"):
        quick(tmp_path, 1)
