"""NUTS in whitened coordinates: right moments on a known target, and the same draws when resumed."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.mode import laplace
from mezikd.inference.sampler import BLOCK, Geometry, Sampler, SamplerSettings, run_chain

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[2.0, 0.9, 0.0], [0.9, 0.5, 0.1], [0.0, 0.1, 0.3]])
PRECISION = np.linalg.inv(COVARIANCE)


def log_density(z, root):
    """A correlated normal; ``root`` scales the residual as the survival summaries' precision does."""
    r = z - MEAN
    return -0.5 * r @ (PRECISION @ r) - 0.0 * jnp.sum(root)


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    value = jax.jit(jax.value_and_grad(lambda z: log_density(z, jnp.eye(2))))
    mode = laplace(lambda z: tuple(np.asarray(x) for x in value(z)), np.zeros((2, 3)))
    np.testing.assert_allclose(mode.z, MEAN, atol=1e-3)
    return Geometry(jnp.asarray(mode.z), jnp.asarray(mode.whiten), jnp.eye(2))


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(log_density, 3, 2, SamplerSettings(chains=2, warmup=100, draws=2000, seed=3))


def test_curvature_floor_is_the_prior(geometry):
    """Directions wider than the prior (eigenvalue of the Hessian below 1) are held at its width."""
    values = np.linalg.eigvalsh(np.asarray(geometry.whiten) @ np.asarray(geometry.whiten).T)
    np.testing.assert_allclose(values.max(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.sort(values)[:2], np.sort(np.linalg.eigvalsh(COVARIANCE))[:2], rtol=1e-4)


def test_moments(sampler, geometry):
    blocks = run_chain(sampler, geometry, 0, None, lambda *_: None)
    z = np.concatenate([b.z for b in blocks[100 // BLOCK :]])
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=5 * np.sqrt(np.diag(COVARIANCE) / 500).max())
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.35)


def test_a_resumed_chain_gives_the_same_draws(sampler, geometry, tmp_path):
    saved = {}

    def keep(chain, blocks, state):
        if len(blocks) == 7:
            saved["at 7"] = pickle.dumps((jax.tree.map(np.asarray, state), blocks))

    whole = run_chain(sampler, geometry, 1, None, keep)
    resumed = run_chain(sampler, geometry, 1, pickle.loads(saved["at 7"]), lambda *_: None)
    assert len(whole) == len(resumed)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a.z, b.z)
