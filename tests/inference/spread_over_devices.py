"""In a process of its own, with four virtual devices: log-densities on one and spread over all. Prints JSON.

`fit`: that of the built-in fit and its gradient. `draws`: those of both samplers, of a small density.
"""

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.inference.commands import built_in_fit
from mezikd.inference.devices import patients_mesh, use_device
from mezikd.inference.methods import compiled_sampler, draws_of
from mezikd.inference.problem import load_problem, with_patients
from mezikd.inference.processor import keep_programs
from mezikd.inference.sampler import Geometry, SamplerSettings
from mezikd.model import expected
from mezikd.model.over_devices import mean_over
from mezikd.model.parameters import DECLARED
from rich.console import Console

DEVICES = use_device("cpu:4")
MESH = patients_mesh(DEVICES, 4)


def fit() -> dict[str, Any]:
    """Return value, slope, operations a device and devices, on one device and spread."""
    one, found = with_patients(load_problem(built_in_fit()), 32, 32, 4), {}
    n = sum(not p.fixed for p in one.parameters)
    z = np.random.default_rng(1).normal(0.0, 0.3, n)
    spread = replace(one, over=patients_mesh(DEVICES, 8))
    targets = {
        "one": one, "spread": spread, "one single": one.in_single(), "spread single": spread.in_single(), "chunks": spread,
    }  # fmt: skip
    for name, target in targets.items():
        expected.AT_ONCE = expected.OF_MORE = 4 if name == "chunks" else 256
        program = jax.jit(jax.value_and_grad(target.sampled_log_density)).lower(z, target.data).compile()
        value, slope = program(z, target.data)
        found[name] = {
            "value": float(value), "slope": np.asarray(slope).tolist(), "operations": program.cost_analysis()["flops"],
            "devices": len(value.devices()),
        }  # fmt: skip
    return found


@dataclass(frozen=True)
class Small:
    """Two parameters, the mean over 64 patients of a course of 20 days."""

    over: Any = None
    parameters: tuple = DECLARED[:0]
    data: Any = 1.0

    def in_single(self):
        return self

    def sampled_log_density(self, x, data):
        def squares(x, points):
            def day(course, _):
                return 0.9 * course + jnp.sin(x[0] * points) + x[1], None

            course, _ = jax.lax.scan(day, 0.0 * points, None, length=20)
            return (course**2).mean()

        points = np.linspace(-1.0, 1.0, 64)
        mean = squares(x, points) if self.over is None else mean_over(self.over, squares, x, points)
        return -0.5 * (x @ x) - 0.5 * data * mean


def draws() -> dict[str, Any]:
    """Return draws by both samplers, on one device and spread."""
    free = tuple(p for p in DECLARED if p.name in ("hill", "half_life_hours"))
    geometry, found = Geometry(jnp.zeros(2), 0.5 * jnp.eye(2), jnp.asarray(1.0)), {}
    for method in ("nuts", "side_by_side"):
        settings = SamplerSettings(chains=2, warmup=25, draws=50, seed=3)
        for name, over in (("one", None), ("spread", MESH)):
            target: Any = Small(over, free)
            slope = jax.jit(jax.value_and_grad(target.sampled_log_density))

            def gradient(x, slope=slope):
                value, g = slope(x, jnp.asarray(1.0))
                return float(value), np.asarray(g)

            sampler = compiled_sampler(target, settings, method == "side_by_side")
            with TemporaryDirectory() as work:
                z = draws_of(
                    sampler, settings, geometry, gradient, Path(work), np.asarray, Console(quiet=True), 1
                ).draws.z
            found[f"{method} {name}"] = z.tolist()
            found[f"{method} {name} devices"] = len(slope(np.zeros(2), 1.0)[0].devices())
    return found


if __name__ == "__main__":
    keep_programs()
    told = {"fit": fit, "draws": draws}[sys.argv[1]]()
    print(json.dumps(told | {"automatic": patients_mesh(None, 64) is None, "mesh": MESH.size if MESH else 1}))
