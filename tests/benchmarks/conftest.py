"""The table of the benchmarks: ``results.csv``, whose rows a run replaces by those that it measured."""

import csv
import math
import os
import platform
from pathlib import Path

import diffrax
import jax
import pytest
from timing import Took, hardware

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = (
    "case", "size", "ours_ms", "ours_cpu_ms", "other", "other_ms", "other_cpu_ms", "ratio", "peak_mb", "bar", "note", "load", "hardware",
    "versions",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the benchmarks that take long (see the README)")


class Table:
    """Rows of the table: one a case, size and comparator."""

    def __init__(self):
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        if RESULTS.exists():
            with RESULTS.open(newline="") as file:
                self.rows = {(r["case"], r["size"], r["other"]): r for r in csv.DictReader(file)}

    def add(
        self,
        case: str,
        size,
        ours: Took | None = None,
        other: str = "",
        others: Took | None = None,
        ratio: float | None = None,
        peak_mb: float | None = None,
        bar: str = "",
        note: str = "",
        also: str = "",
    ) -> None:
        """Add a row to the file; ``ratio`` is that of the CPU times unless given, ``also`` a further version.

        ``load`` is the number of processes that want a core: above the number of cores, times on the wall mean little.
        """

        def digits(x: float | None) -> str:
            return "" if x is None or math.isnan(x) else f"{x:.0f}" if abs(x) >= 1000 else f"{x:.4g}"

        if ratio is None and ours is not None and others is not None:
            ratio = others.cpu_ms / ours.cpu_ms
        a, b = ours or (None, None), others or (None, None)
        versions = f"python {platform.python_version()}, jax {jax.__version__}, diffrax {diffrax.__version__}"
        cells = (
            case, size, *map(digits, a), other, *map(digits, b), digits(ratio), digits(peak_mb), bar, note, f"{os.getloadavg()[0]:.1f}", hardware(),
            ", ".join(x for x in (versions, also) if x),
        )  # fmt: skip
        row = dict(zip(COLUMNS, map(str, cells), strict=True))
        self.rows[case, str(size), other] = row
        print(
            "\n  " + ", ".join(f"{k} {v}" for k, v in row.items() if v and k not in ("hardware", "versions")),
            flush=True,
        )
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())


@pytest.fixture(scope="session")
def table() -> Table:
    """Rows of this run; those of other cases and sizes stay as they were."""
    return Table()
