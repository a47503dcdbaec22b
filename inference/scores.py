"""Signed roots of the deviance: what turns an exact likelihood of one number into a coordinate of a joint one.

A score r has -r^2/2 equal to the log-likelihood, up to a constant of the data, and is about standard normal at the truth.
Independent numbers multiply to exp(-|r|^2/2): the exact binomials and multinomials. Numbers that share patients have
correlated scores, and exp(-r' S^-1 r / 2) joins them with their margins kept (joint_covariance.py).
"""

import jax.numpy as jnp
from jax.scipy.special import log_ndtr, xlogy

_EDGE = 1e-12
_NEAR = 1e-3
"""Relative distance between share and probability below which the deviance is a series: its root has no cancellation."""


def safe(p):
    """Return a probability kept off 0 and 1."""
    return jnp.clip(p, _EDGE, 1.0 - _EDGE)


def binomial(count, n, p):
    """Return the score of ``count`` of ``n`` at probability ``p``; positive where more than expected; 0 where n is 0.

    -r^2/2 = count log p + (n - count) log(1 - p), less its largest value.
    """
    p = safe(p)
    x = jnp.clip(count / jnp.maximum(n, _EDGE), 0.0, 1.0)
    d = p - x
    close = jnp.abs(d) < _NEAR * jnp.minimum(x, 1.0 - x)
    # Twice the deviance to fourth order in d, over d^2; x is kept inside (0, 1) where it is not used.
    y = jnp.where(close, x, 0.5)
    v = y * (1.0 - y)
    e = jnp.where(close, d, 0.0)
    series = 1.0 + 2.0 / 3.0 * (2.0 * y - 1.0) / v * e + 0.5 * v * (y**-3 + (1.0 - y) ** -3) * e * e
    near = -e * jnp.sqrt(n / v * series)
    twice = 2.0 * (xlogy(x, x) - xlogy(x, p) + xlogy(1.0 - x, 1.0 - x) - xlogy(1.0 - x, 1.0 - p))
    far = -jnp.sign(d) * jnp.sqrt(jnp.where(close, 1.0, jnp.maximum(twice, _EDGE)) * jnp.maximum(n, _EDGE))
    return jnp.where(n > 0.0, jnp.where(close, near, far), 0.0)


def of_quartiles(n, cumulative):
    """Return ``(counts, sizes, probabilities)`` of three binomials: n/4 patients in each of the four intervals that
    reported quartiles cut.

    ``cumulative`` is the model's distribution function at the quartiles. The multinomial is the product of binomials of
    each interval among those not in an earlier one, so the three are about independent.
    """
    first, second, third = cumulative
    p = (first, (second - first) / safe(1.0 - first), (third - second) / safe(1.0 - second))
    return (0.25 * n,) * 3, tuple(share * n for share in (1.0, 0.75, 0.5)), p


def quartiles(n, cumulative):
    """Return the three scores of reported quartiles (``of_quartiles``)."""
    return binomial(*(jnp.stack(x) for x in of_quartiles(n, cumulative)))


def normal(observed, error, model, reached):
    """Return (observed - model) / error; where not ``reached``, the score of an estimate beyond ``observed``.

    -r^2/2 is then log Phi((model - observed) / error), the log-probability of an estimate that large.
    """
    u = (observed - model) / error
    beyond = jnp.sqrt(-2.0 * jnp.minimum(log_ndtr(jnp.where(reached > 0.5, 0.0, -u)), -_EDGE))
    return jnp.where(reached > 0.5, u, beyond)
