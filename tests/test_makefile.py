"""What the targets of the Makefile run, and with which options."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAIN = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize(
    ("target", "options", "command"),
    [
        ("fit", [], "mezikd fit --out runs/successor2 --method emulated"),
        ("fit", ["ARGS=", "OUT=runs/second"], "mezikd fit --out runs/second"),
        ("fit", ["ARGS=--chains 2"], "mezikd fit --out runs/successor2 --chains 2"),
        ("bench", [], "python -m pytest tests/benchmarks -m benchmark -s"),
        ("bench", ["ARGS=--long"], "python -m pytest tests/benchmarks -m benchmark -s --long"),
    ],
)
def test_options_of_a_target(target, options, command):
    # Not as part of the make that runs the tests.
    own = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "OUT")
    }
    command_line = ["make", "-n", target, *options]
    said = subprocess.run(command_line, cwd=MAIN, env=own, capture_output=True, text=True, check=True).stdout
    last = said.rstrip().splitlines()[-1]
    assert last.strip().removeprefix(".venv/bin/") == command
