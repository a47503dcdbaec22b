"""--device: what is asked for is used, or refused in one line."""

import subprocess
import sys

import pytest
from mezikd.inference import commands


def test_unknown_device(tmp_path, capsys):
    assert commands.run(["fit", "--device", "abacus", "--out", str(tmp_path / "out")]) == commands.BAD_INPUT
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
    print(jax.default_backend())
"""

    def said(name: str) -> str:
        return subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True).stdout

    assert said("cpu") == "cpu\n"
    on_gpu = said("gpu")
    if not on_gpu.startswith("refused"):
        pytest.skip("there is a GPU here")
    assert "JAX finds no GPU" in on_gpu and on_gpu.count("\n") == 1
