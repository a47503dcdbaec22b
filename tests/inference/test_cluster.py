"""Trials on worker processes: the same results as with threads, whoever dies; one line where there are no workers."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import as_completed
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from mezikd.inference import calibrate, tasks
from mezikd.inference.cluster import GO_ON, Remote, cluster_workers
from mezikd.inference.commands import BAD_INPUT, built_in_fit, run
from mezikd.inference.errors import InputError
from mezikd.inference.results_folder import UNFINISHED
from stand_ins import HELD, compiled_fit, deadly, failing, made
from test_resume import quick, read

assert quick  # a fixture
VERSIONS = {"numpy": metadata.version("numpy")}


@pytest.fixture(scope="module")
def local():
    """Worker processes of this machine."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with cluster_workers("local") as pool:
        yield pool


def killed_when_there(record: Path, submit):
    """Return ``submit`` that, after the last of 20 trials, kills the process that works on a trial, after others are done."""

    def call(fit, index, *arguments):
        found = submit(fit, index, *arguments)
        if index == 19:
            until = time.monotonic() + 120
            while len(list(record.parent.iterdir())) < 20 and time.monotonic() < until:
                time.sleep(0.05)
            os.kill(int(record.read_text()), signal.SIGKILL)
        return found

    return call


def calibrated(out: Path, pool=None) -> dict[str, bytes]:
    """Return the results of 20 stand-in trials, by threads where there is no ``pool``."""
    calibrate.run_calibrate(built_in_fit(), None, out, 20, 1, 64, 100, 3.0, False, pool)
    return read(out)


@pytest.fixture
def records(quick, tmp_path, monkeypatch):
    """The folder where the stand-in trials of ``calibrated`` write who did them, once it is made."""
    monkeypatch.setattr(calibrate, "_compiled_fit", partial(compiled_fit, tmp_path / "records"))
    return tmp_path / "records"


def with_a_kill(pool, out: Path, records: Path, monkeypatch) -> dict[str, bytes]:
    """Return the results of a calibration, of which one worker was killed; check how often each trial was run."""
    records.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(pool, "submit", killed_when_there(records / str(HELD), pool.submit))
        found = calibrated(out, pool)
    runs = {int(p.name): p.read_text().split() for p in records.iterdir()}
    assert {i: len(r) for i, r in runs.items()} == {i: 1 + (i == HELD) for i in range(20)}
    assert len(set(runs[HELD])) == 2
    return found


def test_a_killed_worker_costs_only_its_task(local, records, tmp_path, monkeypatch):
    threads = calibrated(tmp_path / "threads")
    assert len(threads) == 4
    assert with_a_kill(local, tmp_path / "processes", records, monkeypatch) == threads


def test_a_scheduler_and_workers_of_their_own(records, tmp_path, monkeypatch):
    """As on a cluster: started from the command line, reached by its file, which is not there yet; then the scheduler goes."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    threads = calibrated(tmp_path / "threads")
    file = str(tmp_path / "scheduler.json")
    places = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path, "env": places}
    dask, shared = [sys.executable, "-m", "dask"], ["--scheduler-file", file, "--no-dashboard"]
    started = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *shared], **quiet)]
    try:
        words = ["worker", *shared, "--nthreads", "1", "--no-nanny", "--death-timeout", "60"]
        started += [subprocess.Popen([*dask, *words], **quiet) for _ in range(2)]
        with pytest.raises(InputError, match=r"scheduler at .* was lost.*go on"), cluster_workers(file) as pool:
            assert with_a_kill(pool, tmp_path / "processes", records, monkeypatch) == threads
            waiting = pool.submit(time.sleep, 600)
            started[0].kill()
            waiting.result()
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_stopped_on_a_cluster_goes_on(local, records, tmp_path, monkeypatch):
    """Results are saved as they come; threads go on with what worker processes have begun."""
    whole = calibrated(tmp_path / "whole")
    out, save = tmp_path / "stopped", tasks.save_pickle

    def stop(path, value):
        save(path, value)
        if len(list(path.parent.glob("0*.pickle"))) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tasks, "save_pickle", stop)
        calibrated(out, local)
    assert len(list((out / UNFINISHED).glob("0*.pickle"))) == 5
    assert calibrated(out) == whole


def test_a_task_that_fails_is_tried_again(local, tmp_path):
    assert local.submit(Remote(partial(failing, tmp_path / "twice", 2), VERSIONS), "done").result() == "done"
    with pytest.raises(OSError, match="no room"):
        local.submit(Remote(partial(failing, tmp_path / "always", 99), VERSIONS), "done").result()
    assert len((tmp_path / "always").read_text().split()) == 3


def test_made_once_a_process(local, tmp_path):
    function = Remote(partial(made, tmp_path / "made"), VERSIONS)
    found = [local.submit(function, i) for i in range(12)]
    assert sorted(f.result() for f in as_completed(found)) == sorted(map(str, range(12)))
    processes = (tmp_path / "made").read_text().split()
    assert len(processes) == len(set(processes)) and str(os.getpid()) not in processes


def test_a_worker_of_another_version_is_refused(local, tmp_path):
    function = Remote(partial(made, tmp_path / "made"), VERSIONS | {"dask": "0.1"})
    with pytest.raises(InputError, match=rf"other versions \(dask {metadata.version('dask')} there, 0.1 here\)"):
        local.submit(function, 1).result()
    assert not (tmp_path / "made").exists()


def test_a_task_that_ends_every_worker():
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with pytest.raises(InputError, match=f"every worker .* died.*{GO_ON}"), cluster_workers("local") as pool:
        pool.submit(deadly).result()


def test_a_worker_that_is_started_anew_at_the_end_hides_nothing(monkeypatch):
    """Closing fails then, and its error took the place of the one that is told."""
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    close = distributed.LocalCluster.close

    def failing(cluster, *args, **kwargs):
        close(cluster, *args, **kwargs)
        raise AssertionError("can only join a started process")

    monkeypatch.setattr(distributed.LocalCluster, "close", failing)
    with pytest.raises(InputError, match="every worker"), cluster_workers("local") as pool:
        pool.submit(deadly).result()


@pytest.fixture
def deaf():
    """The address of something that listens and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield f"tcp://127.0.0.1:{s.getsockname()[1]}"


def refused(capsys, out: Path, where: str) -> str:
    """Return the one line of a calibration that cannot begin."""
    assert run(["calibrate", "--cluster", where, "--out", str(out)]) == BAD_INPUT
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1 and not out.exists()
    return line


@pytest.mark.parametrize(
    "where", ["locale", "", "host", "host:8786", "tcp://a b:1", "tcp://h", "ucx://h:1", "tcp://h:x"]
)
def test_no_address(where, tmp_path, capsys):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    assert "allowed: local, the address" in refused(capsys, tmp_path / "out", where)


def test_nobody_answers(deaf, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("mezikd.inference.cluster.SECONDS", 1)
    for where in (deaf, "tcp://127.0.0.1:1", "tcp://127.0.0.1:99999", "tcp://..:1"):
        assert f"no Dask scheduler answers at {where}" in refused(capsys, tmp_path / "out", where)


def test_no_scheduler_file(tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("mezikd.inference.cluster.START", 0.1)
    for text in (None, "", "[]", "{}", "null"):
        if text is not None:
            (tmp_path / "file.json").write_text(text)
        assert "has written its address there" in refused(capsys, tmp_path / "out", str(tmp_path / "file.json"))


def test_no_worker_comes(tmp_path, capsys, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("mezikd.inference.cluster.START", 0.5)
    with distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0") as scheduler:
        assert "no worker has come to tcp://" in refused(capsys, tmp_path / "out", scheduler.scheduler_address)


SLURM = re.compile(r"(?m)^    #!/bin/bash\n(?:    .*\n)+")
"""The script in README.md."""
SRUN = """#!/bin/bash
# In place of SLURM's: as many processes as --ntasks says; a line of their number in srun.txt.
tasks=1
while [[ $1 == --* ]]; do [[ $1 == --ntasks=* ]] && tasks=${1#--ntasks=}; shift; done
echo "$tasks $1 $2" >> srun.txt
for ((i = 1; i < tasks; i++)); do "$@" & done
"$@"
wait
"""
MEZIKD = """#!{python}
import os, sys
from mezikd.inference.cluster import cluster_workers
with cluster_workers(sys.argv[sys.argv.index("--cluster") + 1]) as pool:
    found = [pool.submit(os.getenv, "SLURM_JOB_ID") for _ in range(20)]
    print(len(found), {{f.result() for f in found}}, flush=True)
"""


def test_the_script_for_slurm(tmp_path):
    """As README.md has it, in a job of four tasks: as many processes, and the command finds workers without waiting."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    found = SLURM.search((Path(__file__).parents[2] / "README.md").read_text("utf-8"))
    assert found is not None and "sleep" not in found[0]
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("mezikd", MEZIKD.format(python=sys.executable))):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{tmp_path}/bin:{Path(sys.executable).parent}:$PATH"')
    job = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4"}
    with subprocess.Popen(
        ["bash", "-c", textwrap.dedent(found[0])], cwd=tmp_path, env=os.environ | job, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    ) as script:  # fmt: skip
        try:
            assert script.stdout is not None and script.stdout.readline() == b"20 {'77'}\n"
        finally:
            os.killpg(script.pid, signal.SIGKILL)  # as SLURM does when the script ends
    steps = sorted(line.split() for line in (tmp_path / "srun.txt").read_text().splitlines())
    assert [(n, command) for n, _, command in steps] == [("1", "scheduler"), ("1", "calibrate"), ("2", "worker")]


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'mezikd[cluster]'" in refused(capsys, tmp_path / "out", "local")


@pytest.mark.slow
def test_calibration_on_two_processes_is_that_of_threads(tmp_path, monkeypatch):
    """Four real trials, small: to the byte, and one of the processes is killed while it fits."""
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("mezikd.inference.mode.CORES", 2)
    small = (built_in_fit(), built_in_fit() / "posterior.nc")
    calibrate.run_calibrate(*small, tmp_path / "threads", 4, 1, 64, 100, 3.0, False)
    with cluster_workers("local") as pool:
        submit, processes = pool.submit, []

        def watched(*arguments):
            processes.append(psutil.Process().children(recursive=True))
            return submit(*arguments)

        monkeypatch.setattr(pool, "submit", watched)
        monkeypatch.setattr(tasks, "save_pickle", killing(tasks.save_pickle, processes))
        calibrate.run_calibrate(*small, tmp_path / "processes", 4, 1, 64, 100, 3.0, False, pool)
    assert read(tmp_path / "processes") == read(tmp_path / "threads")


def killing(save, processes):
    """Return ``save`` that, with the first result, kills the worker process that has worked most."""

    def call(path, value):
        save(path, value)
        if path.name[0] == "0" and len(list(path.parent.glob("0*.pickle"))) == 1:
            max(processes[0], key=lambda p: sum(p.cpu_times()[:2])).kill()

    return call
