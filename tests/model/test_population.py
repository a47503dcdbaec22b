"""Individual effects and residual errors: densities against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model.population import (
    Information,
    Spread,
    coordinates_of,
    correlation_law,
    correlation_root,
    correlations,
    effects_of,
    root_to_coordinates,
)
from mezikd.model.residual import log_likelihood
from numpyro.distributions import LKJCholesky
from scipy import stats

SD = np.array([0.2, 0.5, 0.9])
R = np.array([[1.0, 0.4, -0.2], [0.4, 1.0, 0.1], [-0.2, 0.1, 1.0]])
SPREAD = Spread(jnp.asarray(SD), jnp.asarray(np.linalg.cholesky(R)))
TYPICAL = np.array([1.0, -2.0, 0.3])


def information(strength: float) -> Information:
    """Return what the data of seven patients say of three effects, about; the third is not informed by the first patient."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(7, 3, 3)) * strength
    root[0, 2] = 0.0
    return Information(root @ np.swapaxes(root, 1, 2), strength * rng.normal(size=(7, 3)))


@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
def test_density_of_coordinates_is_that_of_the_effects(strength):
    """Multivariate normal of the effects times the Jacobian of the coordinates, however much the data say."""
    known = information(strength)
    u = np.random.default_rng(1).normal(size=(7, 3))
    eta, density = effects_of(u, TYPICAL, SPREAD, known)
    eta = np.asarray(eta)
    np.testing.assert_allclose(coordinates_of(eta, TYPICAL, SPREAD, known), u, rtol=1e-7, atol=1e-9)
    normal = stats.multivariate_normal(cov=np.diag(SD) @ R @ np.diag(SD)).logpdf(eta)
    for i in range(7):
        own = Information(known.matrix[i : i + 1], known.vector[i : i + 1])
        jacobian = np.linalg.det(jax.jacobian(lambda x, own=own: effects_of(x[None], TYPICAL, SPREAD, own)[0][0])(u[i]))
        np.testing.assert_allclose(density[i], normal[i] + np.log(jacobian), rtol=1e-9)


def test_coordinates_are_standard_normal_where_the_likelihood_is_the_approximation():
    """Effects times their approximate likelihood: a standard normal of the coordinates, up to a constant."""
    known = information(3.0)
    u = np.random.default_rng(2).normal(size=(5, 7, 3))

    def posterior(u):
        eta, density = effects_of(u, TYPICAL, SPREAD, known)
        a = TYPICAL + eta
        return density + (a * known.vector).sum(axis=1) - 0.5 * jnp.einsum("pi,pij,pj->p", a, known.matrix, a)

    left = np.stack([posterior(x) for x in u]) + 0.5 * (u * u).sum(axis=2)
    np.testing.assert_allclose(left, left[:1].repeat(5, axis=0), rtol=1e-9)


def test_correlation_prior():
    """LKJ(1) is flat over correlations of two effects: the density of r is 1/2; coordinates go back and forth."""
    x = jnp.linspace(-2.0, 2.0, 9)[:, None]

    def of(x):
        root, prior = correlation_root(x, 2, 1.0)
        return (root @ root.T)[0, 1], prior

    r, prior = jax.vmap(of)(x)
    slope = jax.vmap(jax.jacobian(lambda x: of(x)[0]))(x)[:, 0]
    np.testing.assert_allclose(np.exp(prior) / np.abs(slope), 0.5, rtol=1e-6)
    assert np.all(np.diff(np.asarray(r)) > 0.0)
    y = root_to_coordinates(jnp.asarray(np.linalg.cholesky(R)))
    assert y.shape == (correlations(3),)
    np.testing.assert_allclose(correlation_root(y, 3, 1.0)[0], np.linalg.cholesky(R), atol=1e-8)


def test_residual_errors_against_scipy():
    y, f, sd = np.array([0.4, 2.0, 7.0]), np.array([0.5, 1.5, 7.5]), 0.3
    seen, below = np.zeros(3), np.ones(3)
    log_normal = stats.lognorm(sd, scale=f)
    np.testing.assert_allclose(log_likelihood(y, f, sd, "lognormal", seen), log_normal.logpdf(y), rtol=1e-12)
    np.testing.assert_allclose(log_likelihood(y, f, sd, "lognormal", below), log_normal.logcdf(y), rtol=1e-10)
    for error, scale in (("proportional", sd * f), ("additive", sd)):
        normal = stats.norm(f, scale)
        np.testing.assert_allclose(log_likelihood(y, f, sd, error, seen), normal.logpdf(y), rtol=1e-12)
        np.testing.assert_allclose(log_likelihood(y, f, sd, error, below), normal.logcdf(y), rtol=1e-10)


@pytest.mark.parametrize(("effects", "shape"), [(2, 1.0), (3, 2.0), (4, 0.7)])
def test_law_of_one_correlation(effects, shape):
    """Quantiles of a correlation of matrices drawn from LKJ."""
    root = LKJCholesky(effects, shape).sample(jax.random.PRNGKey(3), (40_000,))
    x = np.asarray((root @ jnp.swapaxes(root, 1, 2))[:, 0, 1])
    at = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(correlation_law(effects, shape).cdf(np.quantile(x, at)), at, atol=0.012)
