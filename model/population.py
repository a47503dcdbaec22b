"""From population parameters to patients: log-normal individual effects, their correlation, covariates.

    log p_i = log p + sum_c coefficient_c log(x_ic / reference_c) + eta_i,   eta_i ~ N(0, diag(w) R diag(w))

With w R w = (w L)(w L)' an effect is eta_k = w_k (L_k1 z_1 + ... + L_kk z_k), z standard normal. Effects are sampled in one of
two coordinates each (Papaspiliopoulos, Roberts and Skold 2007): centred, the patient's own value u = log p + eta, right where
the patients' data say much; or not, u = z, what is left of the effect given those before it, right where they say little: its
scale stays 1 however small its SD or however near 1 its correlation with the others.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float
from numpyro.distributions import LKJCholesky
from numpyro.distributions.transforms import CorrCholeskyTransform

_CORRELATION = CorrCholeskyTransform()


class Spread(NamedTuple):
    """Distribution of individual effects."""

    sd: Float[Array, "effects"]
    """w: SD of each effect (log)."""
    root: Float[Array, "effects effects"]
    """Cholesky root of their correlation R."""


def correlations(effects: int) -> int:
    """Return how many coordinates the correlation of so many effects has."""
    return effects * (effects - 1) // 2


def correlation_root(x, effects: int, shape: float):
    """Return the Cholesky root of a correlation at coordinates ``x`` and its log prior LKJ(``shape``), Jacobian included."""
    if effects < 2:
        return jnp.eye(effects), 0.0
    root = _CORRELATION(x)
    prior = LKJCholesky(effects, shape).log_prob(root)
    return root, prior + _CORRELATION.log_abs_det_jacobian(x, root)


def root_to_coordinates(root):
    """Return the coordinates of the Cholesky root of a correlation."""
    return _CORRELATION.inv(root) if root.shape[0] > 1 else jnp.zeros(0)


def effects_of(u, log_typical, spread: Spread, centred):
    """Return the effects eta at coordinates ``u`` and the log-density of the coordinates, one number a patient.

    Parameters
    ----------
    u, eta: ``patients effects``.
    centred: 1 for a centred effect, 0 for one that is not.
    """
    z, density = jnp.zeros_like(u), jnp.zeros(u.shape[0])
    columns = []
    for k in range(u.shape[1]):
        sd, own, before = spread.sd[k], spread.root[k, k], z @ spread.root[k]
        # Each branch divides by what it is safe to divide by; the mask picks.
        from_value = ((u[:, k] - log_typical[k]) / sd - before) / own
        z = z.at[:, k].set(centred[k] * from_value + (1.0 - centred[k]) * u[:, k])
        columns.append(sd * (before + own * z[:, k]))
        density = density - 0.5 * z[:, k] ** 2 - centred[k] * (jnp.log(own) + jnp.log(sd))
    return jnp.stack(columns, axis=1), density - 0.5 * u.shape[1] * jnp.log(2.0 * jnp.pi)


def coordinates_of(eta, log_typical, spread: Spread, centred):
    """Return the coordinates of effects: the inverse of ``effects_of``."""
    z = jsl.solve_triangular(spread.root, (eta / spread.sd).T, lower=True).T
    return centred * (log_typical + eta) + (1.0 - centred) * z
