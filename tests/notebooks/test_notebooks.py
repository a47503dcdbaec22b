"""The notebooks run from their .py, and the committed .ipynb are what the .py says, with outputs."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
ALL = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
LARGEST = 700_000
"""Bytes of a committed notebook."""


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_committed_outputs_belong_to_the_source(path):
    """Same cells as the .py, run in order, without an error, small, and without a path of the machine that ran them."""
    committed, source = jupytext.read(path.with_suffix(".ipynb")), jupytext.read(path)
    assert [(c.cell_type, c.source) for c in committed.cells] == [(c.cell_type, c.source) for c in source.cells]
    code = [c for c in committed.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert all(o.output_type != "error" for c in code for o in c.outputs)
    pictures = [o for c in code for o in c.outputs if "image/png" in o.get("data", {})]
    assert pictures and all(o.metadata["image/png"]["alt"] for o in pictures)
    text = path.with_suffix(".ipynb").read_text("utf-8")
    assert len(text.encode()) < LARGEST
    here = (FOLDER.parent, Path(tempfile.gettempdir()))
    assert not [place for place in here if f"{place}{os.sep}" in text]
    assert not re.search(r"[\s\"'](/(tmp|home|root|Users|mnt|opt)/\w|[A-Z]:\\\\)", text)


def run_quick(name: str, out: Path) -> None:
    command = [sys.executable, str(FOLDER / "execute.py"), name, "--out", str(out)]
    done = subprocess.run(command, env=os.environ | {"MEZIKD_QUICK": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(out.glob(f"{name}*.ipynb"))) == 1


@pytest.mark.parametrize("name", [path.stem[:2] for path in ALL])
def test_runs(name, tmp_path):
    run_quick(name, tmp_path)
