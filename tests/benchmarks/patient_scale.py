"""Time and memory of a gradient of the arrest model for single patients, by number of patients.

``python tests/benchmarks/patient_scale.py`` writes ``patient_scale.csv`` beside this file. Each patient has 12 cycles of 21/28
days, 30 counts, times to infection and progression; one chain; CPU seconds, so that other work on the machine counts less.
Each size runs in a process of its own, whose largest memory is that of the compiler and the gradient together.
"""

import csv
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

RESULTS = Path(__file__).with_name("patient_scale.csv")
COLUMNS = (
    "patients",
    "coordinates",
    "gradient_cpu_ms",
    "gradient_wall_ms",
    "temporary_mb",
    "process_mb",
    "compile_cpu_s",
    "hardware",
)
SIZES = (50, 200, 1000, 5000)
WEEKS, COUNTS, ROUNDS = 48, 30, 7


def measure(patients: int) -> list:
    """Return the line of one size."""
    from mezikd.inference.arrest_settings import EFFECTS, SDS, ArrestFit
    from mezikd.inference.arrest_target import ArrestInputs, ArrestTarget
    from mezikd.inference.processor import compiler_options, keep_memory
    from mezikd.inference.recorded_events import BEYOND
    from mezikd.model.delivered import Counts, Deaths, Ledger
    from mezikd.model.population import Information

    keep_memory()
    rng, k = np.random.default_rng(1), len(EFFECTS)
    names = (
        "ec50",
        "anc0",
        "sigma_anc",
        "hill",
        "infection_rate",
        "progression_rate",
        "tumour_effect",
        "death_rate",
        *SDS,
    )
    settings = ArrestFit.model_validate(
        {
            "study": {"name": "scale", "title": "scale", "citation": "none"}, "model": {"structure": "arrest"},
            "parameters": {n: {} for n in names},
        }
    )  # fmt: skip
    on = (np.arange(7 * WEEKS) % 28 < 21).reshape(WEEKS, 7, 1)
    end, none = np.full(patients, 7.0 * WEEKS - 1.0), np.zeros(patients)
    dose = on * rng.choice([0.6, 1.0], patients)
    ledger = Ledger(
        dose,
        np.full(patients, BEYOND),
        end * rng.random(patients),
        none + 1.0,
        end,
        none,
        dose,
    )
    shape = patients, COUNTS
    counts = Counts(rng.integers(0, 7 * WEEKS, shape), rng.normal(0.8, 0.5, shape), np.zeros(shape), np.ones(shape))
    data = ArrestInputs(
        ledger, counts, np.zeros(patients, int), none + 1.0, Deaths(*np.ones(6)),
        Information(np.tile(10.0 * np.eye(k), (patients, 1, 1)), np.zeros((patients, k))), {},
    )  # fmt: skip
    target = ArrestTarget(settings, patients)
    data = jax.tree.map(jnp.asarray, data)
    x = jnp.asarray(0.1 * rng.normal(size=target.dimensions))
    begin = time.process_time()
    compiled = (
        jax.jit(jax.value_and_grad(target.log_density), compiler_options=compiler_options()).lower(x, data).compile()
    )
    compiling = time.process_time() - begin
    value, slope = compiled(x, data)
    assert np.isfinite(value) and np.isfinite(slope).all()
    cpu, wall = [], []
    for _ in range(ROUNDS):
        a, b = time.process_time(), time.perf_counter()
        jax.block_until_ready(compiled(x, data))
        cpu.append(time.process_time() - a)
        wall.append(time.perf_counter() - b)
    temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    times = (f"{1e3 * float(np.median(t)):.1f}" for t in (cpu, wall))
    hardware = f"{platform.machine()}, {jax.default_backend()}"
    return [patients, target.dimensions, *times, f"{temporary:.0f}", f"{most:.0f}", f"{compiling:.0f}", hardware]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        csv.writer(sys.stdout, lineterminator="\n").writerow(measure(int(sys.argv[1])))
    else:
        lines = [subprocess.check_output([sys.executable, __file__, str(n)], text=True) for n in SIZES]
        RESULTS.write_text(",".join(COLUMNS) + "\n" + "".join(lines), "utf-8")
        print(RESULTS.read_text("utf-8"))
