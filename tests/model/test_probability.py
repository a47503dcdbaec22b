"""Normal probabilities of the inner loop against scipy."""

import jax.numpy as jnp
import numpy as np
from mezikd.model.probability import normal_cdf, quick_normal_cdf
from scipy.stats import norm

X = np.linspace(-30.0, 30.0, 12_001)


def test_normal_cdf_in_both_tails():
    np.testing.assert_allclose(normal_cdf(jnp.asarray(X)), norm.cdf(X), rtol=1e-12)


def test_the_quick_one_to_its_stated_error():
    """1.2e-7 of the smaller tail, which is what a simulated chance can notice."""
    quick = np.asarray(quick_normal_cdf(jnp.asarray(X)))
    smaller = norm.cdf(-np.abs(X))
    assert np.abs(np.where(X < 0, quick, 1.0 - quick) / smaller - 1.0)[np.abs(X) < 5.0].max() < 1.3e-7
    assert (np.abs(quick - norm.cdf(X)) <= 1.3e-7 * smaller + 2e-16).all()
    assert (np.diff(quick) >= 0.0).all() and quick.min() > 0.0 and quick.max() <= 1.0
