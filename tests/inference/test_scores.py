"""Scores against scipy's likelihoods; smooth and finite wherever the prior reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import scores
from scipy.stats import binom, multinomial, norm


@pytest.mark.parametrize(("count", "n"), [(0, 27), (50, 109), (88, 88), (72.0, 288.0)])
def test_binomial(count, n):
    """-r^2/2 is the binomial log-likelihood up to the constant; r has the sign of observed less expected."""
    p = np.concatenate([np.linspace(0.02, 0.98, 49), [count / n + d for d in (-1e-3, -1e-5, 0.0, 1e-9, 1e-4)]])
    p = p[(p > 0.0) & (p < 1.0)]
    r = np.asarray(scores.binomial(count, n, jnp.asarray(p)))
    theirs = binom.logpmf(count, n, p) - binom.logpmf(count, n, count / n)
    np.testing.assert_allclose(-0.5 * r**2, theirs, rtol=1e-7, atol=1e-11)
    away = np.abs(p - count / n) > 1e-8
    assert (np.sign(r[away]) == np.sign(count / n - p[away])).all()


def test_binomial_slope_is_smooth_where_the_deviance_vanishes():
    """dr/dp = -n (x - p) / (p (1 - p) r) on both sides of the switch to the series, and its limit between."""
    slope = jax.vmap(jax.grad(lambda p: scores.binomial(50.0, 109.0, p)))
    x = 50.0 / 109.0
    p = x + np.array([-2e-3, -4.6e-4, -4.5e-4, -1e-7, 0.0, 1e-7, 4.5e-4, 4.6e-4, 2e-3])
    found = np.asarray(slope(jnp.asarray(p)))
    step = 1e-5
    difference = [
        float(scores.binomial(50.0, 109.0, a + step) - scores.binomial(50.0, 109.0, a - step)) / (2 * step) for a in p
    ]
    np.testing.assert_allclose(found, difference, rtol=1e-5)
    np.testing.assert_allclose(found[4], -np.sqrt(109.0 / (x * (1.0 - x))), rtol=1e-9)


@pytest.mark.parametrize("p", [-0.1, 0.0, 1e-14, 0.3, 1.0, 1.1])
@pytest.mark.parametrize(("count", "n"), [(0.0, 0.0), (0.0, 27.0), (27.0, 27.0), (5.0, 27.0)])
def test_binomial_is_finite(count, n, p):
    value, slope = jax.value_and_grad(lambda p: scores.binomial(count, n, p))(p)
    assert np.isfinite(value) and np.isfinite(slope)
    assert n > 0.0 or (value == 0.0 and slope == 0.0)


def test_quartiles():
    """The squares of the three add up to a multinomial with n/4 patients in each interval; 0 at the quartiles."""
    rng = np.random.default_rng(1)
    n = 288
    np.testing.assert_allclose(scores.quartiles(n, jnp.asarray([0.25, 0.5, 0.75])), 0.0, atol=1e-12)
    for cumulative in np.sort(rng.random((20, 3)), axis=1):
        p = np.diff(np.concatenate([[0.0], cumulative, [1.0]]))
        theirs = multinomial.logpmf(4 * [n // 4], n, p) - multinomial.logpmf(4 * [n // 4], n, np.full(4, 0.25))
        r = scores.quartiles(n, jnp.asarray(cumulative))
        np.testing.assert_allclose(-0.5 * float((r**2).sum()), theirs, rtol=1e-8)
    assert np.isfinite(scores.quartiles(n, jnp.asarray([0.5, 0.5, 1.0]))).all()


def test_quartile_scores_are_independent():
    """Quartiles of simulated samples give three scores that are about standard normal and uncorrelated."""
    rng = np.random.default_rng(2)
    q = np.quantile(rng.exponential(size=(4000, 200)), [0.25, 0.5, 0.75], axis=1).T
    r = np.asarray(jax.vmap(lambda f: scores.quartiles(200.0, f))(jnp.asarray(-np.expm1(-q))))
    np.testing.assert_allclose(np.cov(r.T), np.eye(3), atol=0.07)
    np.testing.assert_allclose(r.mean(axis=0), 0.0, atol=0.13)


def test_normal():
    model = jnp.asarray([2.0, 2.5, 3.5])
    reached = scores.normal(2.8, 0.2, model, 1.0)
    np.testing.assert_allclose(-0.5 * reached**2, norm.logpdf(2.8, model, 0.2) - norm.logpdf(2.8, 2.8, 0.2), rtol=1e-12)
    beyond = scores.normal(2.8, 0.2, model, 0.0)
    np.testing.assert_allclose(-0.5 * beyond**2, norm.logsf(2.8, model, 0.2), rtol=1e-8)
    assert np.isfinite(jax.grad(lambda m: scores.normal(2.8, 0.2, m, 0.0))(50.0))
