"""The logarithm of the inner loop against numpy's: value, slope, what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mezikd.model import elementary


@settings(deadline=None)
@given(st.floats(min_value=1e-300, max_value=1e300))
def test_log_is_that_of_numpy(x):
    np.testing.assert_allclose(elementary.log(jnp.asarray(x)), np.log(x), rtol=4e-16, atol=1e-16)


def test_log_near_one_and_over_all_magnitudes():
    """Relative error of two units in the last place, also where the logarithm itself is tiny."""
    x = np.concatenate([1.0 + np.linspace(-0.5, 1.0, 20_001), np.exp(np.linspace(-690.0, 690.0, 20_001))])
    np.testing.assert_allclose(jax.jit(elementary.log)(jnp.asarray(x)), np.log(x), rtol=4.5e-16)


def test_slope_is_one_over_x():
    x = jnp.asarray([1e-200, 0.3, 1.0, 7.0, 1e200])
    np.testing.assert_allclose(jax.vmap(jax.grad(elementary.log))(x), 1.0 / x, rtol=1e-15)


def test_what_is_not_finite_stays_so():
    assert np.isnan(elementary.log(jnp.asarray([jnp.nan, jnp.inf]))).all()


def test_single_precision():
    x = jnp.asarray([0.1, 1.0, 50.0], jnp.float32)
    assert elementary.log(x).dtype == jnp.float32
    np.testing.assert_allclose(elementary.log(x), np.log(np.asarray(x)), rtol=1e-6)


def test_log_ratio_over_all_magnitudes():
    """Relative error of 1e-14, also where the ratio is next to one."""
    rng = np.random.default_rng(2)
    b = np.exp(rng.uniform(-300.0, 300.0, 40_000))
    ratio = np.concatenate([np.exp(rng.uniform(-50.0, 50.0, 20_000)), 1.0 + rng.uniform(-0.6, 1.0, 20_000)])
    a = b * ratio
    found = jax.jit(elementary.log_ratio)(jnp.asarray(a), jnp.asarray(b))
    exact = np.log(a.astype(np.longdouble) / b).astype(float)
    np.testing.assert_allclose(found, exact, rtol=1.5e-14)


def test_slopes_and_limits_of_log_ratio():
    assert np.allclose(jax.grad(elementary.log_ratio, (0, 1))(3.0, 0.5), (1.0 / 3.0, -2.0), rtol=1e-15)
    assert elementary.log_ratio(jnp.asarray(0.7), jnp.asarray(0.7)) == 0.0
    assert np.isnan(elementary.log_ratio(jnp.asarray([jnp.nan, jnp.inf, 1.0]), jnp.asarray([1.0, 1.0, jnp.inf]))).all()
    np.testing.assert_allclose(elementary.log_ratio(jnp.float32(3.0), jnp.float32(0.5)), np.log(6.0), rtol=1e-6)
