"""NUTS in whitened coordinates: right moments on a known target, and the same draws when resumed."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.jittered import Jittered
from mezikd.inference.mode import laplace
from mezikd.inference.sampler import BLOCK, Draws, Geometry, Sampler, SamplerSettings, frozen, run_chain
from mezikd.inference.step_size import acceptance, common_step
from mezikd.inference.whitening import refined
from scipy.stats import chi2

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[2.0, 0.9, 0.0], [0.9, 0.5, 0.1], [0.0, 0.1, 0.3]])
PRECISION = np.linalg.inv(COVARIANCE)


def log_density(z, root):
    """A correlated normal; ``root`` is what a log-density is given at run time."""
    r = z - MEAN
    return -0.5 * r @ (PRECISION @ r) - 0.0 * jnp.sum(root)


def gradient(z):
    value, slope = jax.value_and_grad(log_density)(jnp.asarray(z), jnp.eye(2))
    return float(value), np.asarray(slope)


def chain_of(sampler, geometry, chain, resume=None, progress=lambda *_: None, blocks=84):
    """Return ``blocks`` blocks of a chain from a draw of the approximation."""
    start = partial(sampler.start, chain, geometry, None, gradient)
    return run_chain(sampler, geometry, start, blocks, resume, progress)[1]


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    mode = laplace(gradient, np.zeros((2, 3)))
    np.testing.assert_allclose(mode.z, MEAN, atol=1e-3)
    return Geometry(jnp.asarray(mode.z), jnp.asarray(mode.whiten), jnp.eye(2))


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(log_density, 3, jnp.eye(2), SamplerSettings(chains=2, warmup=100, draws=2000, seed=3))


def test_curvature_floor_is_the_prior(geometry):
    """Directions wider than the prior (eigenvalue of the Hessian below 1) are held at its width."""
    values = np.linalg.eigvalsh(np.asarray(geometry.whiten) @ np.asarray(geometry.whiten).T)
    np.testing.assert_allclose(values.max(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.sort(values)[:2], np.sort(np.linalg.eigvalsh(COVARIANCE))[:2], rtol=1e-4)


def test_moments(sampler, geometry):
    blocks = chain_of(sampler, geometry, 0)
    z = np.concatenate([b.z for b in blocks[100 // BLOCK :]])
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=5 * np.sqrt(np.diag(COVARIANCE) / 500).max())
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.35)


def rough(z, root):
    """Another density: shifted by half an SD and wavy."""
    return log_density(z - jnp.asarray([0.7, 0.3, 0.2]), root) + 0.5 * jnp.sin(3.0 * z[0])


@pytest.fixture(scope="module")
def corrected() -> Sampler:
    """Trajectories follow the rough density."""
    return Sampler(log_density, 3, jnp.eye(2), SamplerSettings(chains=2, warmup=100, draws=2000, seed=3), rough)


def rough_gradient(z):
    value, slope = jax.value_and_grad(rough)(jnp.asarray(z), jnp.eye(2))
    return float(value), np.asarray(slope)


def test_draws_are_of_the_density_wanted_along_trajectories_of_another(corrected, geometry):
    start = partial(corrected.start, 0, geometry, None, rough_gradient)
    _, blocks = run_chain(corrected, geometry, start, 120, None, lambda *_: None)
    z, agreed, density = (np.concatenate([getattr(b, k) for b in blocks[4:]]) for k in ("z", "agreed", "log_density"))
    assert 0.3 < agreed.mean() < 0.9
    # About 600 effective draws; the rough density's mean lies half an SD away.
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=5 * np.sqrt(np.diag(COVARIANCE) / 600).max())
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.35)
    np.testing.assert_allclose(density, [log_density(x, jnp.eye(2)) for x in z], rtol=1e-9, atol=1e-9)
    # Also after a transition that was not accepted the slope is that of where the chain stands.
    slope = np.concatenate([b.slope for b in blocks[4:]])[:100]
    expected = [np.asarray(geometry.whiten).T @ rough_gradient(x)[1] for x in z[:100]]
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)
    stayed = ~agreed[1:]
    np.testing.assert_array_equal(z[1:][stayed], z[:-1][stayed])


def narrow(z, root):
    """A density of 0.6 SD: far out, the one that is wanted is far above it."""
    return log_density(z, root) / 0.6**2 + 2.1


def narrow_gradient(z):
    value, slope = jax.value_and_grad(narrow)(jnp.asarray(z), jnp.eye(2))
    return float(value), np.asarray(slope)


def jittered_chain(stuck: float, geometry, blocks: int, apart: bool = False) -> Draws:
    """Return draws along ``narrow`` with steps of 0.1."""
    settings = SamplerSettings(warmup=75, seed=3, jittered=Jittered(0.8, 2.4, 2, stuck))
    sampler = Sampler(jax.jit(log_density), 3, jnp.eye(2), settings, narrow, apart=apart)
    start = frozen(sampler.start(0, geometry, None, narrow_gradient), settings, 0.1)
    _, found = run_chain(sampler, geometry, lambda: start, blocks, None, lambda *_: None)
    return Draws(*(np.concatenate(x) for x in zip(*found, strict=True)))


def longest_stay(draws: Draws) -> int:
    moved = np.flatnonzero(draws.agreed)
    return int(np.diff(moved).max())


def test_short_trajectories_lead_out_of_where_long_ones_are_refused(geometry):
    """Moments stay those of the density wanted, although the choice of trajectories depends on where the chain is."""
    short, long = (jittered_chain(stuck, geometry, 400) for stuck in (1.5, np.inf))
    assert longest_stay(short) < 0.5 * longest_stay(long)
    np.testing.assert_allclose(short.z.mean(axis=0), MEAN, atol=4 * np.sqrt(np.diag(COVARIANCE) / 1500).max())
    np.testing.assert_allclose(np.cov(short.z.T), COVARIANCE, atol=0.25)
    whitened = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (short.z - MEAN).T)
    far = (np.square(whitened).sum(axis=0) > chi2.ppf(0.9, 3)).mean()
    assert 0.07 < far < 0.13


def test_a_density_apart_gives_the_same_draws(geometry):
    together, apart = (jittered_chain(1.5, geometry, 4, apart) for apart in (False, True))
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_resumed_chain_gives_the_same_draws(sampler, geometry, tmp_path):
    saved = {}

    def keep(blocks, state):
        if len(blocks) == 7:
            saved["at 7"] = pickle.dumps((jax.tree.map(np.asarray, state), blocks))

    whole = chain_of(sampler, geometry, 1, progress=keep)
    resumed = chain_of(sampler, geometry, 1, pickle.loads(saved["at 7"]))
    assert len(whole) == len(resumed)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a.z, b.z)


def test_starts_where_it_is_told_with_the_slope_of_the_log_density(sampler, geometry):
    z = np.array([0.3, -1.0, 1.1])
    state = sampler.start(0, geometry, z, gradient).nuts
    value, slope = gradient(z)
    np.testing.assert_allclose(geometry.centre + geometry.whiten @ state.z, z, rtol=1e-12)
    np.testing.assert_allclose(state.potential_energy, -value, rtol=1e-12)
    np.testing.assert_allclose(state.z_grad, -np.asarray(geometry.whiten).T @ slope, rtol=1e-12)


def test_pilot_draws_give_the_covariance_of_a_normal_target(sampler, geometry):
    """Exact but for the shrinkage, and from coordinates that are wrong by a factor of four."""
    wrong = geometry._replace(whiten=geometry.whiten * jnp.asarray([4.0, 1.0, 0.5]))
    pilots = [chain_of(sampler, wrong, c, blocks=20) for c in range(2)]
    better = refined(wrong, pilots)
    whiten = np.asarray(better.whiten)
    np.testing.assert_allclose(whiten @ whiten.T, COVARIANCE, atol=0.05)
    np.testing.assert_allclose(better.centre, MEAN, atol=0.3)


def test_frozen_state_keeps_its_step_and_samples_the_target(sampler, geometry):
    fresh = sampler.start(0, geometry, None, gradient)
    start = partial(frozen, fresh, sampler.settings, 0.7)
    _, blocks = run_chain(sampler, geometry, start, 20, None, lambda *_: None)
    assert {float(x) for b in blocks for x in b.step_size} == {0.7}
    z = np.concatenate([b.z for b in blocks])
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.5)


def test_common_step_meets_the_acceptance_asked_for(sampler, geometry):
    """Found from 25 transitions of four chains, then measured over 500 at that step; nearly normal in 3 dimensions."""
    adapted = [chain_of(sampler, geometry, c, blocks=1) for c in range(4)]
    step = common_step(adapted, 0.85)
    start = partial(frozen, sampler.start(0, geometry, None, gradient), sampler.settings, step)
    _, blocks = run_chain(sampler, geometry, start, 20, None, lambda *_: None)
    assert 0.75 < np.mean([b.accept for b in blocks]) < 0.95


def test_common_step_recovers_a_known_law():
    rng = np.random.default_rng(1)
    step = rng.uniform(0.1, 1.5, 100)
    accept = np.clip(acceptance(step, 1.7) + rng.normal(0.0, 0.1, 100), 0.0, 1.0)
    blank = np.zeros(100)
    blocks = [Draws(blank, blank, blank, accept, blank, blank, step, blank, blank)]
    assert acceptance(common_step([blocks], 0.8), 1.7) == pytest.approx(0.8, abs=0.03)
