"""--device: what is asked for is used, or refused in one line; patients spread over devices change no result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mezikd.inference import commands
from mezikd.inference.commands import BAD_INPUT, run


@pytest.mark.parametrize("name", ["abacus", "", "gpu:", "gpu:0", "gpu:3", "gpu:-1", "auto:2", "cpu:99999", "cpu:٢"])
def test_unknown_device(name, tmp_path, capsys):
    assert commands.run(["fit", "--device", name, "--out", str(tmp_path / "out")]) == commands.BAD_INPUT
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and "--device" in stderr and "auto, cpu, gpu" in stderr
    assert not (tmp_path / "out").exists()


def test_device_is_used_or_refused():
    """In processes of their own: JAX chooses once."""
    code = """
import sys
from mezikd.inference.devices import use_device
from mezikd.inference.errors import InputError
try:
    use_device(sys.argv[1])
except InputError as error:
    print("refused", error)
else:
    import jax
    print(jax.default_backend(), len(jax.devices()))
"""

    def said(name: str) -> str:
        return subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True).stdout

    assert said("cpu") == "cpu 1\n" and said("cpu:2") == "cpu 2\n"
    on_gpu = said("gpu")
    if not on_gpu.startswith("refused"):
        pytest.skip("there is a GPU here")
    assert "JAX finds no GPU" in on_gpu and on_gpu.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such call on this system")
def test_cores_are_those_that_a_batch_system_gives():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from mezikd.inference.mode import CORES; print(CORES)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def spread(what: str) -> dict:
    """Return what spread_over_devices.py finds."""
    script = str(Path(__file__).with_name("spread_over_devices.py"))
    told = subprocess.run([sys.executable, script, what], capture_output=True, text=True, check=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert found["mesh"] == 4 and found["automatic"]  # not by itself on a CPU
    return found


def test_draws_over_devices_are_those_on_one():
    """Of both samplers, whose states come back from all devices."""
    found = spread("draws")
    for method in ("nuts", "side_by_side"):
        one, over = (np.array(found[f"{method} {name}"]) for name in ("one", "spread"))
        assert one.shape == (2, 50, 2) and one.std() > 0.1
        assert found[f"{method} one devices"] == 1 and found[f"{method} spread devices"] == 4
        np.testing.assert_allclose(over[:, :10], one[:, :10], rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_the_log_density_over_devices_is_that_on_one():
    """And its gradient: to 1e-10, also where each device has several chunks; in single precision to its accuracy.

    Each of four devices has less than half of the operations.
    """
    found = spread("fit")
    for name, like, within in (
        ("spread", "one", 1e-10),
        ("chunks", "one", 1e-10),
        ("spread single", "one single", 2e-3),
    ):
        over, one = found[name], found[like]
        assert one["devices"] == 1 and over["devices"] == 4
        assert over["value"] == pytest.approx(one["value"], rel=min(within, 1e-5))
        slope = np.array(one["slope"])
        np.testing.assert_allclose(over["slope"], slope, rtol=within, atol=within * np.abs(slope).max())
    assert found["spread"]["operations"] < 0.5 * found["one"]["operations"]


def test_patients_tables_have_no_virtual_patients(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "use_device", lambda _: 2)
    (tmp_path / "fit.toml").write_text("[tables]\n")
    assert run(["fit", str(tmp_path), "--device", "cpu:2", "--out", str(tmp_path / "out")]) == BAD_INPUT
    line = capsys.readouterr().err
    assert "spreads virtual patients" in line and line.count("\n") == 1 and not (tmp_path / "out").exists()
