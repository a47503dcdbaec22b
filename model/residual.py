"""Log-densities of observations around a patient's course: three kinds of residual error, values below the limit too."""

from typing import Literal

import jax.numpy as jnp
from jax.scipy.stats import norm

Error = Literal["lognormal", "proportional", "additive"]
_LEAST = 1e-30
"""Keeps the logarithm of a prediction finite."""


def log_likelihood(value, prediction, sd, error: Error, below):
    """Return the log-density of each observation.

    Parameters
    ----------
    value: observed, or the lower limit of quantification where ``below``.
    prediction: of the model, same unit.
    sd: of the log for ``lognormal``, relative for ``proportional``, in the unit for ``additive``.
    below: 1 where the value is only known to lie below ``value``: its likelihood is that probability (M3).
    """
    if error == "lognormal":
        safe = jnp.maximum(prediction, _LEAST)
        seen = jnp.where(below > 0.0, jnp.maximum(value, _LEAST), value)
        x = (jnp.log(seen) - jnp.log(safe)) / sd
        density = -0.5 * x * x - jnp.log(sd) - jnp.log(seen)
    else:
        scale = sd * jnp.maximum(prediction, _LEAST) if error == "proportional" else sd
        x = (value - prediction) / scale
        density = -0.5 * x * x - jnp.log(scale)
    return jnp.where(below > 0.0, norm.logcdf(x), density - 0.5 * jnp.log(2.0 * jnp.pi))
