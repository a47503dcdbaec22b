"""Coordinates for the sampler: prior-scaled ones with the ridge between EC50 and half-life straightened.

Reported counts fix how much of the maturation step is blocked through the day, hence EC50 relative to the amount
some hours after a dose: at steady state and after the share s of a day, a(k) = exp(-k s) / (1 - exp(-k)). With a shorter
half-life that amount falls faster than any power of it, so the ridge is curved, and its width varies so much that NUTS
steps are those of its narrowest place. Sampled is instead the deviation of log EC50 from log a(k) - 1/n: a shear, so
the density needs no Jacobian. It changes no prior and no posterior, only the speed.

On the shipped draws, what is left of log EC50 after a straight line in all other parameters is smaller in these
coordinates than in prior-scaled ones (tests/inference/test_coordinates.py).
"""

import jax.numpy as jnp
from mezikd.model.exposure import LN2
from mezikd.model.parameters import Parameter, free, natural

SHARE_OF_DAY = 0.65


def ridge(theta):
    """Return log a(k) - 1/n: where log EC50 lies, up to a constant, when half-life and Hill exponent vary."""
    k = LN2 / (theta["half_life_hours"] / 24.0)
    return -k * SHARE_OF_DAY - jnp.log(-jnp.expm1(-k)) - 1.0 / theta["hill"]


def _shift(z, parameters: tuple[Parameter, ...]):
    """Return how far log EC50 at the ridge lies from its place at the prior's centre."""
    return ridge(natural(z, parameters)) - ridge(natural(jnp.zeros(z.shape[-1]), parameters))


def _moved(z, parameters: tuple[Parameter, ...], sign: float):
    names = [p.name for p in free(parameters)]
    if "ec50" not in names:
        return z
    i = names.index("ec50")
    return z.at[..., i].add(sign * _shift(z, parameters) / free(parameters)[i].spread)


def prior_scaled(x, parameters: tuple[Parameter, ...]):
    """Return the coordinates whose prior is standard normal, given the sampler's; shape ``(..., free parameters)``."""
    return _moved(jnp.asarray(x), parameters, 1.0)


def straightened(z, parameters: tuple[Parameter, ...]):
    """Return the sampler's coordinates: the inverse of ``prior_scaled``."""
    return _moved(jnp.asarray(z), parameters, -1.0)
