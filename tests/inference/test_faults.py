"""A full disk, a read-only folder, a damaged file, a second process, an interrupt: one clear line, nothing overwritten."""

import fcntl
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import arviz as az
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mezikd.inference import (
    calibrate,
    pipeline,
    posterior_file,
    predict,
    report,
    sensitivity_run,
    structures_run,
    virtual_tables,
)
from mezikd.inference.commands import BAD_INPUT, DONE, INTERRUPTED, built_in_fit, run
from mezikd.inference.figures_course import save
from mezikd.inference.places import POSTERIOR
from mezikd.inference.results_folder import LOCK, new_results, publish, writing_to
from mezikd.inference.seal import LENGTH
from mezikd.inference.spreadsheet import FORMULA, inert, original

SHIPPED = str(built_in_fit())
WORK = {
    "fit": (pipeline, "run_fit", 1, []),
    "check": (pipeline, "run_check", 1, []),
    "calibrate": (calibrate, "run_calibrate", 2, []),
    "predict": (predict, "run_predict", 2, []),
    "report": (report, "run_report", 1, []),
    "sensitivity": (sensitivity_run, "run_sensitivity", 1, []),
    "compare": (structures_run, "run_structures", 1, [SHIPPED, SHIPPED]),
    "simulate": (virtual_tables, "run_simulate", 1, ["--overwrite"]),
}
"""Module and function that do a command's work, place of its argument ``out``, words that the command needs."""


def said_once(capsys) -> str:
    said = capsys.readouterr().err
    assert said.startswith("mezikd: ") and said.count("\n") == 1 and "Traceback" not in said, said
    return said


@contextmanager
def full_disk(size: int):
    """Let no file grow beyond ``size`` bytes: writing fails as on a full disk, in Python and in C."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=WORK)
def command(request, monkeypatch, tmp_path):
    """(words of a command into a folder with results, that folder); its work writes a small file, then a large one."""
    module, name, place, words = WORK[request.param]
    out = tmp_path / "out"
    out.mkdir()
    (out / "adsl.csv").write_text("old")

    def work(*arguments):
        new = new_results(arguments[place])
        (new / "adsl.csv").write_text("new")
        (new / "define.md").write_text("x" * 10_000)
        publish(arguments[place])
        return True

    monkeypatch.setattr(module, name, work)
    return [request.param, *words, "--out", str(out)], out


def test_every_command_leaves_all_as_it_was_when_the_disk_is_full(command, capsys):
    words, out = command
    with full_disk(5000):
        assert run(words) == BAD_INPUT
    assert "File too large" in said_once(capsys)
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("adsl.csv", "old")]
    assert run(words) == DONE
    assert (
        sorted(p.name for p in out.iterdir()) == ["adsl.csv", "define.md"] and (out / "adsl.csv").read_text() == "new"
    )


def test_every_command_leaves_a_folder_alone_in_which_another_process_writes(command, capsys):
    words, out = command
    holder = "import sys; from pathlib import Path; from mezikd.inference.results_folder import writing_to\n"
    holder += f"with writing_to(Path({str(out)!r})): print('here', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        assert run(words) == BAD_INPUT
        assert "another process is writing there" in said_once(capsys)
        assert (out / "adsl.csv").read_text() == "old"
        process.kill()
    assert (out / LOCK).exists()  # a process that is killed leaves the file, and no lock
    assert run(words) == DONE and not (out / LOCK).exists()


def test_every_command_says_what_an_interrupt_left(command, monkeypatch, capsys):
    words, out = command
    module, name, *_ = WORK[words[0]]

    def work(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, work)
    assert run(words) == INTERRUPTED
    assert f"interrupted; nothing in {out} was changed" in " ".join(said_once(capsys).split())
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("adsl.csv", "old")]


def test_a_lock_whose_file_was_taken_away_is_no_lock(tmp_path):
    """Whoever ends removes the file: another process may then hold a lock on a file without a name."""
    with writing_to(tmp_path / "out"):
        held = os.open(tmp_path / "out" / LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with writing_to(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).exists()
    os.close(held)
    assert not (tmp_path / "out").exists()  # nothing was written


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """The shipped fit with few draws, sealed."""
    tree = posterior_file.opened(built_in_fit() / POSTERIOR)
    path = tmp_path_factory.mktemp("sealed") / POSTERIOR
    posterior_file.save(posterior_file.thin(tree, 20), path)
    return path


def test_a_sealed_file_is_an_ordinary_one(sealed):
    assert az.from_netcdf(sealed)["posterior"].sizes["chain"] == 4
    assert posterior_file.load(sealed)[1].settings.study.name == "SUCCESSOR-2"


@pytest.mark.parametrize("place", [0.001, 0.2, 0.5, 0.8, 0.999])
def test_a_flipped_bit_or_a_cut_is_told(sealed, place, tmp_path, capsys):
    data = bytearray(sealed.read_bytes())
    at = int(place * (len(data) - LENGTH))
    (tmp_path / "cut.nc").write_bytes(data[:at])
    data[at] ^= 1
    (tmp_path / "flipped.nc").write_bytes(data)
    assert run(["check", str(tmp_path / "flipped.nc"), "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert "checksum" in said_once(capsys) or at < 8
    assert run(["check", str(tmp_path / "cut.nc"), "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert "cut.nc" in said_once(capsys) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change", [{"mezikd_format": 2}, {"settings": '{"study": {}, "later": 1}'}, {"file:evidence.csv": "id\n"}]
)
def test_a_file_of_another_version_is_told(sealed, change, tmp_path, capsys):
    tree = posterior_file.opened(sealed)
    tree.attrs.update(change)
    posterior_file.save(tree, tmp_path / POSTERIOR)
    assert run(["check", str(tmp_path), "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert "version" in said_once(capsys) and not (tmp_path / "out").exists()


def test_formulas_are_inert_and_come_back():
    words = [*(f"{c}1" for c in FORMULA), "plain", "a=b", "", "'quoted"]
    table = pd.DataFrame({"text": words, "number": -1.0, "flag": True})
    written = inert(table)
    assert not any(w.startswith(FORMULA) for w in written["text"])
    assert list(map(original, written["text"])) == words
    assert (written["number"] == -1.0).all() and written["flag"].all()


def test_a_dollar_in_a_name_is_no_mathematics(tmp_path):
    figure = Figure()
    figure.subplots().set_title(r"dose $\frac{ and $x$")
    save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_help_is_quick():
    """No command imports the model to say what it is: --help takes a tenth of the second that it may take."""
    code = "import sys; from mezikd.inference.commands import run; code = run(['--help']); "
    code += "heavy = {'jax', 'numpyro', 'pandas', 'xarray', 'matplotlib', 'scipy'} & set(sys.modules); sys.exit(str(heavy) if heavy or code else 0)"
    begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "calibrate" in process.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin < 1.0
