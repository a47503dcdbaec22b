"""One size of the built-in log-density, in a process of its own:
``python gradient_size.py PATIENTS CYCLES float64|float32 [forget] [DEVICES]``.

Writes one line of JSON: least times of value and gradient, compilation, temporary memory of the program, and largest memory of
the process, compilation included where it was not kept from an earlier run. With ``forget`` the C library gives memory back
after each call, as it does untold; with a number of devices, virtual patients are spread over as many of the CPU.
"""

import json
import resource
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.inference.commands import built_in_fit
from mezikd.inference.devices import patients_mesh, use_device
from mezikd.inference.problem import load_problem, with_patients
from mezikd.inference.processor import MANY_CYCLES, compiler_options, keep_memory, keep_programs
from mezikd.model.parameters import REGIONS
from timing import fastest

SECONDS = 4.0
"""Of repeats of value and gradient, about."""


def measure(patients: int, cycles: int, precision: str, keep: bool, devices: int) -> dict:
    """Return what one size takes."""
    mesh = patients_mesh(use_device(f"cpu:{devices}") if devices > 1 else 1, patients // 2 // len(REGIONS))
    if keep:
        keep_memory(shared=cycles >= MANY_CYCLES)
    keep_programs()
    problem = load_problem(built_in_fit())
    weeks = cycles * problem.design.regimen.cycle_days // 7
    target = with_patients(problem, patients, patients // 2, problem.settings.patients.seed)
    target = replace(target, design=replace(target.design, daily_weeks=weeks), single=precision == "float32", over=mesh)
    z, data = jnp.zeros(len(problem.free)), target.data
    begin = time.process_time()
    value, gradient = (
        jax.jit(f, compiler_options=compiler_options()).lower(z, data).compile()
        for f in (target.log_density, jax.value_and_grad(target.log_density))
    )
    compiling = time.process_time() - begin
    found, slope = gradient(z, data)
    assert np.isfinite(found) and np.isfinite(slope).all()
    calls = lambda: value(z, data), lambda: gradient(z, data)
    once = sum(x.wall_ms for x in fastest(*calls, rounds=1))
    times = fastest(*calls, rounds=int(np.clip(1e3 * SECONDS / once, 5, 60)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "value": times[0],
        "gradient": times[1],
        "compile_cpu_s": compiling,
        "temporary_mb": gradient.memory_analysis().temp_size_in_bytes / 2**20,
        "peak_mb": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }


if __name__ == "__main__":
    patients, cycles, precision, *more = sys.argv[1:]
    devices = next((int(x) for x in more if x.isdigit()), 1)
    print(json.dumps(measure(int(patients), int(cycles), precision, "forget" not in more, devices)))
