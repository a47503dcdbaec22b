"""Two trials that share a parameter up to a deviation of their own.

On the working scale (log or logit) the parameter of trial k is

    theta_k = mu + u_k,   u_k ~ N(0, tau),   mu ~ N(c, s),   tau ~ half-normal

The population mean mu need not be sampled: middle a and difference d of the two are independent given tau,

    a = (theta_1 + theta_2) / 2 ~ N(c, sqrt(s^2 + tau^2 / 2))      d = theta_1 - theta_2 ~ N(0, sqrt(2) tau)

and mu given a is normal. With tau to 0 the trials are pooled; with a large one each is on its own.
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri


def between_sd(z, scale):
    """Return tau at a standard-normal coordinate: half-normal of ``scale`` by its quantiles."""
    return -scale * ndtri(0.5 * ndtr(-z))


def middle_sd(spread, tau):
    """Return the prior SD of the middle a."""
    return jnp.sqrt(spread**2 + 0.5 * tau**2)


def both(middle, difference, tau, spread):
    """Return the deviations of both trials from the prior's centre c, over its ``spread`` s.

    Parameters
    ----------
    middle, difference: standard-normal coordinates of a and d given ``tau``.
    """
    a, half = middle_sd(spread, tau) * middle, tau * difference / np.sqrt(2.0)
    return (a + half) / spread, (a - half) / spread


def mean_of_trials(one, two, tau, spread, z):
    """Return mu in coordinates of its prior, at standard-normal ``z``, given both trials' deviations over ``spread``.

    mu - c given a: normal of mean (a - c) s^2 / (s^2 + tau^2 / 2), variance s^2 (tau^2 / 2) / (s^2 + tau^2 / 2).
    """
    share = spread**2 / (spread**2 + 0.5 * tau**2)
    return share * 0.5 * (one + two) + np.sqrt(1.0 - share) * z
