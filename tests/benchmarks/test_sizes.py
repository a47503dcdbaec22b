"""Time and memory of the gradient of the built-in log-density, by virtual patients, cycles followed day by day, and precision."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from timing import Took, bar, run

pytestmark = pytest.mark.benchmark
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
FEW = (64, 256, 1024, 8192)
LARGEST_MB, REVERSE = 2048.0, 4.0
SCRIPT = str(Path(__file__).with_name("gradient_size.py"))
KINDS = [(6, "float64"), (6, "float32"), (26, "float64"), (26, "float32")]


def measured(table, size: int, cycles: int, precision: str, found: dict) -> float:
    """Add what gradient_size.py found at one size; return the gradient's CPU time, ms."""
    value, gradient = Took(*found["value"]), Took(*found["gradient"])
    reverse = (gradient.cpu_ms - value.cpu_ms) / value.cpu_ms
    table.add(
        f"log-density gradient, {cycles} cycles day by day, {precision}", size, gradient, "its value alone", value,
        ratio=gradient.cpu_ms / value.cpu_ms, peak_mb=found["peak_mb"],
        bar=f"peak MB {bar(found['peak_mb'], at_most=LARGEST_MB)}; reverse over forward pass {bar(reverse, at_most=REVERSE)}",
        note=f"temporary {found['temporary_mb']:.0f} MB; compilation {found['compile_cpu_s']:.0f} s of CPU",
    )  # fmt: skip
    return gradient.cpu_ms


def grown(table, took: dict[int, float], cycles: int, precision: str) -> None:
    """Add how the time of a gradient grows with its size."""
    sizes, ms = np.log(list(took)), np.log(list(took.values()))
    exponent = float(np.polyfit(sizes, ms, 1)[0])
    whole = (ms[-1] - ms[0]) / (sizes[-1] - sizes[0])
    table.add(
        f"growth of the gradient with virtual patients, {cycles} cycles, {precision}", f"{min(took)} to {max(took)}",
        bar=bar(whole, at_most=1.0), note=f"exponent of CPU time {exponent:.2f} (least squares), {whole:.2f} (first to last)",
    )  # fmt: skip


@pytest.mark.parametrize(("cycles", "precision"), KINDS)
def test_gradient_by_size(table, request, tmp_path, cycles, precision):
    """Half as many virtual patients of Kd; each size in a process of its own.

    Memory and compilation are those of a first process, times those of a second one, which finds the program compiled: what
    the compiler leaves behind makes a gradient up to a tenth slower, now more and now less.
    """
    every = request.config.getoption("--long", default=False)
    sizes = SIZES if every else FEW if precision == "float64" else (FEW[1], FEW[-1])
    took = {}
    for size in sizes:
        command = [sys.executable, SCRIPT, str(size), str(cycles), precision]
        first, found = (json.loads(run(command, MEZIKD_CACHE=str(tmp_path)).said) for _ in range(2))
        found |= {x: first[x] for x in ("compile_cpu_s", "peak_mb")}
        took[size] = measured(table, size, cycles, precision, found)
    grown(table, took, cycles, precision)


CORES = 2
"""Devices over which patients are spread."""


@pytest.mark.parametrize("cycles", [6, 26])
def test_spread_over_cores(table, tmp_path, cycles):
    """Half of the patients on each of two devices of the CPU, against one program: time on the wall, the shorter of the two.

    What a fit of one chain takes with ``--device cpu:2``; chains side by side use the cores without.
    """
    shorter = {}
    for size in FEW:
        took = []
        for more in ([str(CORES)], []):
            command = [sys.executable, SCRIPT, str(size), str(cycles), "float64", *more]
            found = [json.loads(run(command, MEZIKD_CACHE=str(tmp_path)).said) for _ in range(2)][1]
            took.append(Took(*found["gradient"]))
        spread, one = took
        table.add(
            f"log-density gradient, {cycles} cycles day by day, float64, spread over {CORES} cores", size, spread,
            "one program", one, ratio=one.wall_ms / spread.wall_ms, note="ratio of times on the wall",
        )  # fmt: skip
        shorter[size] = min(spread.wall_ms, one.wall_ms)
    (least, first), *_, (most, last) = shorter.items()
    whole = float(np.log(last / first) / np.log(most / least))
    table.add(
        f"growth of the gradient with virtual patients, {cycles} cycles, float64, {CORES} cores", f"{least} to {most}",
        bar=bar(whole, at_most=1.0), note=f"exponent of time on the wall {whole:.2f} (first to last), spread where that is sooner",
    )  # fmt: skip


def test_kept_memory(table):
    """The gradient where the C library was told to keep memory between calls, and where it was not (processor.py)."""
    kept, forgotten = (
        Took(*json.loads(run([sys.executable, SCRIPT, "256", "6", "float64", *more]).said)["gradient"])
        for more in ((), ("forget",))
    )
    table.add("log-density gradient, memory kept between calls", 256, kept, "given back", forgotten)
