"""Clocks of the benchmarks: time on the wall and of all cores, the least of several rounds, since others may use the cores."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

MAIN = Path(__file__).parents[2]


class Took(NamedTuple):
    """Time of one call."""

    wall_ms: float
    cpu_ms: float
    """Of all threads of the process."""


def fastest(*calls: Callable[[], object], rounds: int = 11) -> list[Took]:
    """Return each call's least times, the calls taking turns so that a busy moment hits all; the first round is the warm-up."""
    took = []
    for _ in range(rounds + 1):
        for call in calls:
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            took.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    return [Took(*map(float, x)) for x in np.reshape(took, (rounds + 1, -1, 2))[1:].min(axis=0)]


class Ran(NamedTuple):
    """A command in a process of its own."""

    wall_ms: float
    cpu_ms: float
    peak_mb: float
    """Largest memory of the process."""
    said: str


def run(words: Sequence[str], **environment: str) -> Ran:
    """Return what a command took and wrote; RuntimeError where it failed."""
    begin = time.perf_counter()
    with subprocess.Popen(
        words, env=os.environ | environment, cwd=MAIN, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(words)}")
    wall = 1e3 * (time.perf_counter() - begin)
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return Ran(wall, 1e3 * (used.ru_utime + used.ru_stime), used.ru_maxrss / scale, said)


def bar(value: float, at_most: float | None = None, at_least: float | None = None) -> str:
    """Return the bar that was set, and by how much it is missed."""
    said, limit = (f"at most {at_most:g}", at_most) if at_least is None else (f"at least {at_least:g}", at_least)
    assert limit is not None
    met = value <= limit if at_least is None else value >= limit
    return f"{said}: {'met' if met else f'missed by {100 * abs(value / limit - 1.0):.0f} %'} ({value:.3g})"


def hardware() -> str:
    """Return the processor's name and number of cores, and what JAX computes on."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(names) or 1} cores, {jax.default_backend()}"
