"""A logarithm for the inner loop: XLA's own in double precision is a scalar call on a CPU, four times slower.

Measured beside jnp.log by tests/benchmarks/test_limit.py; same value to one unit in the last place (tests/model/test_elementary.py).
"""

import jax
import jax.numpy as jnp

_SERIES = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip
"""Minimax coefficients of (log((1+s)/(1-s)) - 2s)/s^3 in s^2 for |s| < 0.1716 (fdlibm, e_log.c)."""
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROOT_HALF = 0x3FE6A09E667F3BCD
_EXPONENT = -(1 << 52)
_MAGIC = 0x4330000000000000
"""Bits of 2^52: or'ed with a small integer they are that integer plus 2^52, without a conversion instruction."""


def once(x):
    """Return ``x``, computed once: without this XLA computes it again in every loop that reads it, and so its gradient."""
    return jax.lax.optimization_barrier(x)


def _series(z):
    r = jnp.full_like(z, _SERIES[-1])
    for c in _SERIES[-2::-1]:
        r = c + z * r
    return r


@jax.custom_jvp
def log(x):
    """Return log x for positive, normal ``x``; NaN and infinity give NaN. Other dtypes than float64: ``jnp.log``."""
    x = jnp.asarray(x)
    if x.dtype != jnp.float64:
        return jnp.log(x)
    bits = jax.lax.bitcast_convert_type(x, jnp.int64)
    t = bits - jnp.int64(_ROOT_HALF)
    mantissa = jax.lax.bitcast_convert_type(bits - (t & jnp.int64(_EXPONENT)), jnp.float64)  # in [sqrt 1/2, sqrt 2)
    shifted = jax.lax.shift_right_logical(t + jnp.int64(1 << 62), jnp.int64(52))
    exponent = jax.lax.bitcast_convert_type(shifted | jnp.int64(_MAGIC), jnp.float64) - (2.0**52 + 1024.0)
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = _series(z)
    half = 0.5 * f * f
    return once(exponent * _LN2_HIGH - ((half - (s * (half + z * r) + exponent * _LN2_LOW)) - f) + 0.0 * x)


@log.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return log(x), dx / x


@jax.custom_jvp
def log_ratio(a, b):
    """Return log(a / b) for positive, normal ``a`` and ``b`` with one division, to 1e-14; as ``log`` in all else."""
    a, b = jnp.broadcast_arrays(jnp.asarray(a), jnp.asarray(b))
    if a.dtype != jnp.float64 or b.dtype != jnp.float64:
        return jnp.log(a / b)
    bits_a, bits_b = (jax.lax.bitcast_convert_type(x, jnp.int64) for x in (a, b))
    # The power of two that brings b within a factor of 1.5 of a: |s| < 0.2, a little beyond the series' own range.
    power = (bits_a - bits_b + jnp.int64(1 << 51)) & jnp.int64(_EXPONENT)
    near = jax.lax.bitcast_convert_type(bits_b + power, jnp.float64)
    shifted = jax.lax.shift_right_logical(power + jnp.int64(1 << 62), jnp.int64(52))
    exponent = jax.lax.bitcast_convert_type(shifted | jnp.int64(_MAGIC), jnp.float64) - (2.0**52 + 1024.0)
    s = (a - near) / (a + near)
    z = s * s
    return once(exponent * _LN2_HIGH + (s * (2.0 + z * _series(z)) + exponent * _LN2_LOW) + 0.0 * (a + b))


@log_ratio.defjvp
def _(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return log_ratio(a, b), da / a - db / b
