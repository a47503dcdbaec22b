"""Infection: the frailty integral, the early excess and the neutropenia term, against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import infection
from scipy.integrate import quad
from scipy.stats import gamma


@pytest.mark.parametrize("variance", [0.05, 0.49, 1.0, 2.5])
@pytest.mark.parametrize("cumulative", [0.0, 0.01, 0.5, 6.0])
def test_no_event_integrates_the_frailty(variance, cumulative):
    """exp(-f H) averaged over a gamma frailty f of mean 1, over its quantiles."""
    frailty = gamma(1.0 / variance, scale=variance)
    average = quad(lambda u: np.exp(-frailty.ppf(u) * cumulative), 0.0, 1.0, epsabs=1e-11, limit=400)[0]
    np.testing.assert_allclose(infection.no_event(cumulative, variance), average, rtol=1e-6)
    assert frailty.mean() == pytest.approx(1.0) and frailty.var() == pytest.approx(variance)


def test_no_event_without_frailty_is_exponential():
    np.testing.assert_allclose(infection.no_event(0.7, 1e-7), np.exp(-0.7), rtol=1e-6)


@pytest.mark.parametrize(("early", "days"), [(2.0, 60.0), (8.0, 4.0), (0.1, 900.0)])
def test_early_factor_is_the_weekly_mean(early, days):
    theta = {"infection_early_kd": jnp.asarray(early), "infection_early_days": jnp.asarray(days)}
    means = [
        quad(lambda t: 1.0 + early * np.exp(-t / days), 7.0 * w, 7.0 * w + 7.0, epsrel=1e-12)[0] / 7.0
        for w in range(20)
    ]
    np.testing.assert_allclose(infection.early_factor(theta, "kd", 20), means, rtol=1e-10)


def test_below_one_far_from_one():
    """0 well above 1.0, the log distance well below, and the softplus of width SOFTNESS between."""
    np.testing.assert_allclose(infection.below_one(np.log(50.0)), 0.0, atol=1e-6)
    np.testing.assert_allclose(infection.below_one(np.log(0.02)), np.log(50.0), atol=1e-6)
    s = infection.SOFTNESS
    x = np.linspace(-1.0, 1.0, 21)
    np.testing.assert_allclose(infection.below_one(x), s * np.log(1.0 + np.exp(-x / s)), rtol=1e-12)
    assert float(infection.below_one(1e4)) == 0.0 and float(infection.below_one(-1e4)) == 1e4
    slopes = jax.vmap(jax.grad(infection.below_one))(jnp.asarray([-1e4, -1.0, 0.5, 1e4]))
    assert np.isfinite(slopes).all() and (slopes <= 0.0).all() and (slopes >= -1.0).all()


def test_weekly_intensity_by_hand():
    """Sums over days of exp(b_m A + b_n D), and the share that falls on counts below 1.0."""
    theta = {"infection_drug": jnp.asarray(0.4), "infection_neutropenia": jnp.asarray(0.7)}
    rng = np.random.default_rng(3)
    log_anc, arrest, p = rng.normal(size=(7, 2, 3)), rng.random((7, 2, 3)), rng.random((7, 2, 3))
    out = infection.intensity(jnp.asarray(log_anc), jnp.asarray(arrest), jnp.asarray(p), theta)
    d = infection.SOFTNESS * np.log1p(np.exp(-log_anc / infection.SOFTNESS))
    ratio = np.exp(0.4 * arrest + 0.7 * d)
    np.testing.assert_allclose(out.total, ratio.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(out.concurrent, (ratio * p).sum(axis=0), rtol=1e-12)
    quiet = infection.intensity(jnp.full((7, 1), 50.0), 0.0, 0.0, theta)
    np.testing.assert_allclose(quiet.total, 7.0, rtol=1e-12)
