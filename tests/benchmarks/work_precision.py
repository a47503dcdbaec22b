"""Work against precision of schemes for the neutrophil chain: ``python tests/benchmarks/work_precision.py``.

Errors: |log ANC| against the continuous-time reference at day boundaries, 40 draws at 1.5 times the prior's
spread x 256 patients x 4 cycles of 21/28. Work: the gradient of mean log ANC, 112 days x 256 patients, one
thread, weeks recomputed in the reverse pass as in the package. About two minutes; writes
``work_precision.csv`` beside this file.
"""

import os

# One thread, fixed before JAX starts: timings must not depend on what else the machine does.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import csv
import platform
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

import reference
from schemes import SCHEMES

DRAWS, PATIENTS, CYCLES, SPREAD, SEED = 40, 256, 4, 1.5, 31
RUNS = [  # scheme, steps a day, block handed over as a pair of means
    ("TR-BDF2 (the package's)", 1, True),
    ("TR-BDF2 (the package's)", 1, False),
    ("TR-BDF2 (the package's)", 2, True),
    ("SDIRK2", 1, True),
    ("SDIRK2, matched", 1, True),
    ("SDIRK3 (Alexander)", 1, True),
    ("SDIRK3, matched", 1, True),
    ("SDIRK3, matched", 2, True),
    ("exponential Heun", 1, True),
    ("exponential Heun", 2, True),
    ("explicit Runge-Kutta 4", 1, True),
]


def processor() -> str:
    """Return the processor's name as the system tells it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gradient_ms(runs, case, doses, rounds: int = 40) -> list[float]:
    """Return each run's fastest gradient, ms; each round goes through all, so a busy moment hits all."""
    gradients = [jax.jit(jax.grad(lambda case, run=run: jnp.log(run(case, doses)).mean())) for run in runs]
    fastest = [np.inf] * len(runs)
    for _ in range(rounds):
        for i, gradient in enumerate(gradients):
            start = time.perf_counter()
            jax.block_until_ready(gradient(case))
            fastest[i] = min(fastest[i], 1e3 * (time.perf_counter() - start))
    return fastest


def main() -> None:
    """Run every scheme and write the table."""
    cases = reference.prior_cases(SEED, DRAWS, PATIENTS, SPREAD)
    doses = reference.regimen(CYCLES)
    exact = np.stack([reference.reference_course(reference.take(cases, i), doses) for i in range(DRAWS)])
    about = {
        "hardware": f"{processor()}, 1 thread",
        "versions": f"python {platform.python_version()}, jax {jax.__version__}",
    }
    runs = [
        partial(reference.stepped_course, steps_per_day=steps, chain=SCHEMES[name], paired=paired)
        for name, steps, paired in RUNS
    ]
    took = gradient_ms(runs, reference.take(cases, 0), doses)
    rows = []
    for (name, steps, paired), run, ms in zip(RUNS, runs, took, strict=True):
        course = np.asarray(jax.jit(jax.vmap(lambda case, run=run: run(case, doses)))(cases))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(np.log(course / exact))
        failed = ~np.isfinite(error)
        kept = np.where(failed, np.nan, error)
        row = {
            "scheme": name,
            "step_days": 1.0 / steps,
            "block_means": 2 if paired else 1,
            "median": f"{np.nanmedian(kept):.5f}",
            "percentile_99": f"{np.nanquantile(kept, 0.99):.5f}",
            "worst": f"{np.nanmax(kept):.4f}",
            "worst_of_median_draw": f"{np.median(np.nanmax(kept, axis=(1, 2))):.4f}",
            "nan_share": f"{failed.mean():.6f}",
            "gradient_ms": f"{ms:.2f}",
        }
        rows.append(row | about)
        print(*row.values(), sep="  ", flush=True)
    target = Path(__file__).with_suffix(".csv")
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
