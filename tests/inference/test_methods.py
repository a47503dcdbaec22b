"""NUTS and chains side by side give the same posterior, a bent one."""

from dataclasses import dataclass, replace

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from mezikd.inference import methods
from mezikd.inference.commands import BAD_INPUT, run
from mezikd.inference.diagnostics import MAX_DIVERGENT, mixed
from mezikd.inference.methods import compiled_sampler, draws_of
from mezikd.inference.sampler import Geometry, SamplerSettings
from mezikd.model.parameters import DECLARED
from rich.console import Console

TWO = tuple(p for p in DECLARED if p.name in ("hill", "half_life_hours"))
ON = jnp.asarray(1.0)


@dataclass(frozen=True)
class Bent:
    """x ~ N(0, 1), y ~ N(0.3 x^2, 0.7^2); trajectories follow one that is a little wrong."""

    parameters: tuple = TWO
    data: object = 1.0
    single: bool = False
    over: object = None

    def in_single(self):
        return replace(self, single=True)

    def sampled_log_density(self, x, data):
        wrong = 0.05 * jnp.sin(5.0 * x[0]) if self.single else 0.0
        return data * (-0.5 * x[0] ** 2 - 0.5 * ((x[1] - 0.3 * x[0] ** 2) / 0.7) ** 2) + wrong


def z_scores(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the differences of means and mean squares of ``(chain, draw, parameter)`` in their Monte Carlo errors."""

    def told(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.concatenate([z, z**2], axis=-1)
        return x.mean(axis=(0, 1)), az.mcse(xr.Dataset({"x": (("chain", "draw", "i"), x)}))["x"].to_numpy()

    (a, error_a), (b, error_b) = told(one), told(two)
    return (a - b) / np.hypot(error_a, error_b)


def test_both_methods_give_the_same_posterior(tmp_path):
    """Means of y, x and their squares in closed form too: 0.3, 0, 0.7^2 + 3 x 0.3^2, 1."""
    target, quiet, found = Bent(), Console(quiet=True), []
    slope = jax.jit(jax.value_and_grad(target.in_single().sampled_log_density))
    geometry = Geometry(jnp.zeros(2), jnp.diag(jnp.asarray([1.0, 0.7])), ON)

    def gradient(x):
        value, g = slope(x, ON)
        return float(value), np.asarray(g)

    for side_by_side, settings in (
        (False, SamplerSettings(4, 150, 2000, seed=5, target_accept=0.9)),
        (True, SamplerSettings(32, 150, 300, seed=5, target_accept=0.9)),
    ):
        sampler = compiled_sampler(target, settings, side_by_side)  # type: ignore[arg-type]
        (work := tmp_path / str(side_by_side)).mkdir()
        draws = draws_of(sampler, settings, geometry, gradient, work, lambda z: z[..., ::-1], quiet).draws
        passed, diverging = mixed(draws.z), draws.diverging.mean()
        assert passed and diverging <= MAX_DIVERGENT
        found.append(draws.z)
    assert found[0].shape == (4, 2000, 2) and found[1].shape == (32, 300, 2)
    assert (np.abs(z_scores(*found)) < 3.5).all()
    for z in found:
        x = np.concatenate([z, z**2], axis=-1)
        error = az.mcse(xr.Dataset({"x": (("chain", "draw", "i"), x)}))["x"].to_numpy()
        assert (np.abs(x.mean(axis=(0, 1)) - [0.3, 0.0, 0.76, 1.0]) < 4.0 * error).all() and (error < 0.08).all()


def test_each_name_is_its_method(monkeypatch):
    """By gradients NUTS or chains side by side; along an emulator without them."""
    monkeypatch.setattr(methods, "EmulatedSampler", lambda *of: ("emulated", *of))
    monkeypatch.setattr(methods, "ByGradients", lambda *of, side_by_side: ("by gradients", *of, side_by_side))
    found = [methods.method_of("target", "settings", name) for name in ("nuts", "emulated", "side_by_side")]  # type: ignore[arg-type]
    assert found == [
        ("by gradients", "target", "settings", False),
        ("emulated", "target", "settings"),
        ("by gradients", "target", "settings", True),
    ]


def test_unknown_method(tmp_path, capsys):
    assert run(["fit", "--method", "gibbs", "--out", str(tmp_path / "out")]) == BAD_INPUT
    line = capsys.readouterr().err
    assert "--method" in line and '"nuts", "emulated"' in line and line.count("\n") == 1
