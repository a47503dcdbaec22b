"""Chains go on until they mix, with the same draws however often they were interrupted."""

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from mezikd.inference.diagnostics import MAX_RHAT, mixed, passes
from mezikd.inference.sampler import BLOCK, Geometry, Sampler, SamplerSettings
from mezikd.inference.sampling import MORE_BLOCKS, sample
from rich.console import Console

SCALE = np.array([1.0, 0.5, 2.0])
QUIET = Console(quiet=True)


def log_density(z, root):
    return -0.5 * jnp.sum((z / SCALE) ** 2) - 0.0 * jnp.sum(root)


def gradient(z):
    value, slope = jax.value_and_grad(log_density)(jnp.asarray(z), jnp.eye(2))
    return float(value), np.asarray(slope)


@pytest.fixture(scope="module")
def run():
    """(folder, draws, further draws, gate) -> what sampling gives; compiled once."""
    geometry = Geometry(jnp.zeros(3), jnp.diag(jnp.asarray(SCALE)), jnp.eye(2))
    sampler = Sampler(log_density, 3, jnp.eye(2), SamplerSettings(chains=2, warmup=75, draws=100, seed=3))

    def call(folder, draws: int, more: int, enough=None):
        sampler.settings = SamplerSettings(chains=2, warmup=75, draws=draws, more_draws=more, seed=3)
        return sample(sampler, geometry, gradient, folder, np.asarray, QUIET, enough=enough)

    return call


def test_chains_go_on_until_they_mix(run, tmp_path):
    z = run(tmp_path, 50, 2000).draws.z
    draws = z.shape[1]
    assert mixed(z) and 50 < draws < 2050 and (draws - 50) % (MORE_BLOCKS * BLOCK) == 0
    assert not mixed(z[:, : draws - MORE_BLOCKS * BLOCK])
    np.testing.assert_allclose(z.std(axis=(0, 1)), SCALE, rtol=0.2)


def test_no_further_than_allowed(run, tmp_path):
    found = run(tmp_path, 50, 60)
    assert found.draws.z.shape == (2, 125, 3) and not mixed(found.draws.z)
    assert found.gradients > 2 * 125


def test_only_as_many_as_asked_for(run, tmp_path):
    assert run(tmp_path, 40, 0).draws.z.shape == (2, 40, 3)


def test_an_interrupted_run_goes_on_with_the_same_draws(run, tmp_path):
    whole = run(tmp_path, 50, 100).draws
    for path in tmp_path.glob("chain1.pickle"):
        path.unlink()
    again = run(tmp_path, 50, 100).draws
    np.testing.assert_array_equal(whole.z, again.z)


def test_the_gate_is_that_of_the_scale_that_is_told(run, tmp_path):
    """Folded at their median, draws of exp(10 z) rank as z does not; the caller says on which scale the gate is."""
    seen = []

    def enough(z):
        seen.append(z.shape[1])
        return z.shape[1] >= 150

    assert run(tmp_path, 50, 2000, enough).draws.z.shape[1] == 150 and seen == [50, 100, 150]
    z = np.random.default_rng(2).standard_normal((4, 400, 1))
    z[0] = np.where(z[0] < 0.0, 1.3 * z[0], z[0])
    told = [az.rhat(xr.Dataset({"z": (("chain", "draw", "i"), f(z))}))["z"].item() for f in (np.array, np.exp)]
    assert abs(told[0] - told[1]) > 1e-3
    assert passes(xr.Dataset({"z": (("chain", "draw"), z[:, :, 0])})) == (told[0] <= MAX_RHAT)
