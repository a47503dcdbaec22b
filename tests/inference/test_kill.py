"""Whole fits in processes of their own, killed with -9 at random moments until they are done: the draws are the same.

Writes resume.csv: one line a kill. The compiled programs are kept between the processes and for the next run, so that most of
a process is the fit.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference.commands import GATE_FAILED, INTERRUPTED, built_in_fit
from mezikd.inference.places import POSTERIOR
from mezikd.inference.results_folder import LOCK, NEW, UNFINISHED
from test_patient_fit import SMALL as PATIENTS
from test_patient_fit import table as patient_records
from test_pipeline import SMALL

RESULT = Path(__file__).with_name("resume.csv")
KILLS = {"patients": 20, "reported numbers": 20}
LONGEST = 7200.0
"""Seconds for one process, beside others that take most of the cores; more is a hang."""
CACHE = Path(os.environ["MEZIKD_CACHE"]) / "killed"


def small_fit(kind: str, folder: Path) -> None:
    """Make the folder of a fit of seconds, with several blocks in each phase; its chains go on twice."""
    folder.mkdir()
    if kind == "patients":
        text = PATIENTS.replace("warmup = 25", "warmup = 75\nmore_draws = 75").replace("draws = 25", "draws = 50")
        (folder / "fit.toml").write_text(text)
        patient_records().to_csv(folder / "three.csv", index=False)
        return
    for name in ("fit.toml", "evidence.csv", "priors.csv"):
        shutil.copy(built_in_fit() / name, folder / name)
    text = (folder / "fit.toml").read_text()
    for key, value in (SMALL | {"warmup": "75", "draws": "50", "more_draws": "75"}).items():
        text, found = re.subn(rf"(?m)^{key} = [0-9.]+$", f"{key} = {value}", text)
        assert found == 1, key
    (folder / "fit.toml").write_text(text)


def started(folder: Path, out: Path) -> subprocess.Popen:
    """Return the process of one fit."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(CACHE), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    words = [sys.executable, "-m", "mezikd.inference.commands", "fit", str(folder), "--out", str(out)]
    with (out.parent / "log.txt").open("a") as log:
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log)


def same(one: Path, two: Path) -> bool:
    """Return whether two fits are the same to the byte, but for when and how fast they were made."""
    with (
        xr.open_datatree(one / POSTERIOR, engine="h5netcdf") as a,
        xr.open_datatree(two / POSTERIOR, engine="h5netcdf") as b,
    ):
        arrays = all(
            a[f"{g}/{v}"].to_numpy().tobytes() == b[f"{g}/{v}"].to_numpy().tobytes()
            for g in a.children for v in a[g].data_vars if a[g][v].dtype.kind != "O"
        )  # fmt: skip
        shapes = {g: dict(a[g].sizes) for g in a.children} == {g: dict(b[g].sizes) for g in b.children}
        times = {"created_at", "seconds"}
        attributes = all(str(b.attrs[k]) == str(v) for k, v in a.attrs.items() if k not in times)
    return (
        arrays
        and shapes
        and attributes
        and all((two / p.name).read_bytes() == p.read_bytes() for p in one.glob("*.csv"))
    )


def changes(out: Path) -> int:
    """Return a number that changes whenever a file in the folder is written."""
    files = (f for folder in (out, out / UNFINISHED, out / NEW) if folder.is_dir() for f in os.scandir(folder))
    return hash(tuple(sorted((f.name, f.stat().st_mtime_ns) for f in files if not f.name.endswith(".part"))))


def phase(out: Path) -> str:
    """Return how far a killed fit is."""
    if (out / POSTERIOR).exists():
        return "results in place"
    if (out / NEW).exists():
        return "writing results"
    order = {"chain": "kept draws", "adapt": "step size", "pilot": "pilot draws", "": "mode found"}
    found = (name for stage, name in order.items() if any((out / UNFINISHED).glob(f"{stage}*.pickle")))
    return next(found, "before the mode")


def wait_for(process: subprocess.Popen, out: Path, writes: int) -> None:
    """Return when the process has written ``writes`` times, or has ended."""
    seen, begin = changes(out), time.monotonic()
    while writes and process.poll() is None:
        assert time.monotonic() - begin < LONGEST
        time.sleep(0.01)  # looking more often takes a fifth of the time from the fit
        try:
            now = changes(out)
        except FileNotFoundError:
            continue
        if now != seen:
            seen, writes = now, writes - 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_killed_fits_give_the_same_draws(kind, tmp_path):
    small_fit(kind, tmp_path / "fit")
    assert started(tmp_path / "fit", tmp_path / "whole").wait(LONGEST) == GATE_FAILED
    rng, lines, fits = np.random.default_rng(7), [], 0
    while len(lines) < KILLS[kind]:
        out = tmp_path / f"out{fits}"
        while True:
            begin = time.monotonic()
            process = started(tmp_path / "fit", out)
            if len(lines) < KILLS[kind]:
                wait_for(process, out, int(rng.integers(1, 8)))
                time.sleep(float(rng.exponential(0.02)))
                process.send_signal(signal.SIGKILL)
            code = process.wait(LONGEST)
            if code != -signal.SIGKILL:
                assert code == GATE_FAILED
                break
            lines.append((kind, len(lines) + 1, fits + 1, phase(out), round(time.monotonic() - begin, 1)))
        assert same(tmp_path / "whole", out) and not (out / UNFINISHED).exists() and not (out / LOCK).exists()
        fits += 1
    table = pd.DataFrame(lines, columns=["fit", "kill", "run", "phase", "seconds_alive"]).assign(same_draws=True)
    others = [pd.read_csv(RESULT).query("fit != @kind")] if RESULT.exists() else []
    pd.concat([*others, table]).to_csv(RESULT, index=False)


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_fit_at_once_and_it_goes_on(with_signal, tmp_path):
    small_fit("patients", tmp_path / "fit")
    out = tmp_path / "out"
    process = started(tmp_path / "fit", out)
    while not list((out / UNFINISHED).glob("side_by_side*.pickle")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(with_signal)
    assert process.wait(10) == INTERRUPTED
    said = (tmp_path / "log.txt").read_text()
    assert "give the same command again" in said and "Traceback" not in said
    assert not (out / LOCK).exists() and list((out / UNFINISHED).glob("side_by_side*.pickle"))
    assert started(tmp_path / "fit", out).wait(LONGEST) == GATE_FAILED
    assert "going on with the unfinished fit" in (tmp_path / "log.txt").read_text()
