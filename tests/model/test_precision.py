"""The density of trajectories: float32 inside, close to float64, and finite wherever it matters."""

import jax.numpy as jnp
import numpy as np
from mezikd.model.precision import by_dtype, cast, in_single


def test_casts_floats_only_and_gives_float64_back():
    seen = {}

    def f(x, i):
        seen["dtypes"] = x.dtype, i.dtype, jnp.ones(2).dtype
        return x * 2.0, i

    x, i = in_single(f, np.array([1.0, 2.0]), np.array([3]))
    assert seen["dtypes"][0] == seen["dtypes"][2] == jnp.float32
    assert x.dtype == jnp.float64 and jnp.issubdtype(i.dtype, jnp.integer)
    np.testing.assert_array_equal(x, [2.0, 4.0])


def test_constants_follow_the_type():
    assert by_dtype(jnp.ones(1), 1e-100, 1e-30) == 1e-100
    assert by_dtype(cast(np.ones(1), jnp.float32), 1e-100, 1e-30) == 1e-30
