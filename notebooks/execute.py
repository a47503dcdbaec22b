"""Run the notebooks from their .py and write the .ipynb beside them: python notebooks/execute.py [name ...]

MEZIKD_QUICK=1 makes them small; --out FOLDER writes elsewhere.
"""

import argparse
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent


def sources(names: list[str]) -> list[Path]:
    """Return the notebooks whose names begin with one of ``names``; without any, all."""
    return [p for p in sorted(HERE.glob("[0-9][0-9]_*.py")) if not names or p.stem.startswith(tuple(names))]


def source_of(path: Path) -> NotebookNode:
    """Return the notebook that a .py in percent format says, without outputs."""
    notebook = jupytext.read(path)
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02d}"  # random ones would change the file at every run
    return notebook


def execute(path: Path) -> NotebookNode:
    """Return the notebook of ``path`` with its outputs.

    Raises
    ------
    nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = source_of(path)
    place = {"metadata": {"path": str(HERE)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", record_timing=False, resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def main() -> None:
    """Run the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 01 [default: all]")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the .ipynb [default: beside the .py]")
    arguments = parser.parse_args()
    for path in sources(arguments.names):
        begin = time.perf_counter()
        notebook = execute(path)
        target = arguments.out / f"{path.stem}.ipynb"
        part = target.with_suffix(".part")
        part.write_text(jupytext.writes(notebook, fmt="ipynb"), "utf-8")
        part.replace(target)
        seconds = time.perf_counter() - begin
        print(f"{target.name}: {seconds:.0f} s, {target.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
