"""Two trials that share a parameter up to a deviation of their own.

On the working scale (log or logit) the parameter of trial k is

    theta_k = mu + u_k,   u_k ~ N(0, tau),   mu ~ N(c, s),   tau ~ half-normal

The population mean mu need not be sampled. The first trial's value, and the second's given it, are normal given tau,

    theta_1 ~ N(c, sqrt(s^2 + tau^2))      theta_2 | theta_1 ~ N(c + rho (theta_1 - c), tau sqrt(1 + rho))
    rho = s^2 / (s^2 + tau^2)

and mu given both is normal. With tau to 0 the trials are pooled; with a large one each is on its own. The first should be the
trial that says more: then what it holds fast does not hang on tau, which is hardly known. (Middle and difference of both,
coordinates that treat them alike, made a funnel where one trial says little.)
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri


def between_sd(z, scale):
    """Return tau at a standard-normal coordinate: half-normal of ``scale`` by its quantiles."""
    return -scale * ndtri(0.5 * ndtr(-z))


class Given(NamedTuple):
    """The laws of both trials given tau, on the working scale."""

    sd: Any
    """Prior SD of theta_1."""
    rho: Any
    other_sd: Any
    """SD of theta_2 given theta_1."""


def given(tau, spread) -> Given:
    """Return the laws of both trials given ``tau``; prior SD of mu ``spread``."""
    total = spread**2 + tau**2
    rho = spread**2 / total
    return Given(jnp.sqrt(total), rho, tau * jnp.sqrt(1.0 + rho))


def both(first, second, tau, spread):
    """Return the deviations of both trials from the prior's centre c, over its ``spread`` s.

    Parameters
    ----------
    first, second: standard-normal coordinates of theta_1, and of theta_2 given it.
    """
    law = given(tau, spread)
    one = law.sd * first
    return one / spread, (law.rho * one + law.other_sd * second) / spread


def mean_of_trials(one, two, tau, spread, z):
    """Return mu in coordinates of its prior, at standard-normal ``z``, given both trials' deviations over ``spread``.

    mu - c given a: normal of mean (a - c) s^2 / (s^2 + tau^2 / 2), variance s^2 (tau^2 / 2) / (s^2 + tau^2 / 2).
    """
    share = spread**2 / (spread**2 + 0.5 * tau**2)
    return share * 0.5 * (one + two) + np.sqrt(1.0 - share) * z
