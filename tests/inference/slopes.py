"""Gradients of log-densities against difference quotients, for tests of several fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def check_slope(target, x: np.ndarray, data) -> None:
    """Assert that the gradient at ``x`` is finite and that of the values, and that many points at once have the same density."""
    both = jax.jit(jax.value_and_grad(target.log_density))
    value, slope = both(jnp.asarray(x), data)
    u = np.random.default_rng(7).normal(size=len(x))
    step = (both(jnp.asarray(x + 1e-5 * u), data)[0] - both(jnp.asarray(x - 1e-5 * u), data)[0]) / 2e-5
    assert np.isfinite(slope).all() and float(step) == pytest.approx(float(slope @ u), rel=1e-5)
    np.testing.assert_allclose(target.log_densities(jnp.asarray(x)[None], data), [value], rtol=1e-12)
