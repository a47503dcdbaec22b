"""Lanes chunk by chunk: the same values and the same gradient as all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import lane_chunks
from mezikd.inference.arrest_problem import build, read_tables
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.lane_chunks import by_chunks
from mezikd.inference.patient_settings import load_patient_settings
from simulated_tables import simulated_trial, write_tables
from test_arrest_fit import SMALL


def of_lanes(lanes, fixed):
    """Return a value a lane of a tree of arrays."""
    return jnp.sin(lanes["a"] * fixed["c"]) + (lanes["b"] ** 2 * fixed["d"]).sum(axis=0)


@pytest.mark.parametrize("lanes", [1, 5, 16, 17])
def test_a_function_of_lanes(monkeypatch, lanes):
    rng = np.random.default_rng(lanes)
    free = {"a": jnp.asarray(rng.normal(size=lanes)), "b": jnp.asarray(rng.normal(size=(3, lanes)))}
    fixed = {"c": jnp.asarray(rng.normal(size=lanes)), "d": jnp.asarray(rng.normal(size=(3, lanes)))}
    weight = jnp.asarray(rng.normal(size=lanes))
    monkeypatch.setattr(lane_chunks, "AT_ONCE", 5)

    def total(of, free):
        return (weight * of(free)).sum()

    whole, chunked = (
        jax.jit(jax.value_and_grad(lambda x, of=of: total(of, x)))(free)
        for of in (lambda x: of_lanes(x, fixed), lambda x: by_chunks(of_lanes, x, fixed))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-13), whole, chunked)


@pytest.mark.parametrize("single", [False, True])
def test_the_log_density_of_a_fit(monkeypatch, tmp_path, single):
    """24 patients of both arms, at two points: density and gradient, in double and single precision."""
    write_tables(tmp_path, simulated_trial(16))
    (tmp_path / "fit.toml").write_text(SMALL)
    settings = load_patient_settings(tmp_path, ArrestFit)
    target, data = build(tmp_path, settings, read_tables(tmp_path, settings))
    assert target.untreated and target.patients > 20
    data = jax.tree.map(jnp.asarray, data)
    xs = 0.3 * np.random.default_rng(2).normal(size=(2, target.dimensions))
    found = []
    for at_once in (256, 7):
        monkeypatch.setattr(lane_chunks, "AT_ONCE", at_once)
        of = target.in_single() if single else target

        def both(x, of=of):
            value, back = jax.vjp(lambda x: of.log_densities(x, data), x)
            return value, back(jnp.array([1.0, 0.5]))[0]

        found.append(jax.jit(both)(xs))
    rtol, atol = (1e-4, 1e-3) if single else (1e-9, 1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=rtol, atol=atol), *found)
