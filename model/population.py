"""From population parameters to patients: log-normal individual effects, their correlation, covariates.

    log p_i = log p + sum_c coefficient_c log(x_ic / reference_c) + eta_i,   eta_i ~ N(0, diag(w) R diag(w))

With w R w = (w L)(w L)' an effect is eta = w L z, z standard normal. Sampled is neither eta (centred, right where a patient's
data say much) nor z (right where they say little; Papaspiliopoulos, Roberts and Skold 2007), but what is left of z once the
data are allowed for: near a patient's mode its log-likelihood is about a'b - a'H a / 2, a = log p + eta, so given what patients
share z is about normal with precision A = I + (w L)'H (w L) and mean A^-1 (w L)'(b - H log p), and

    u = C'(z - mean),   C C' = A

is about standard normal whatever the SDs and the correlation are. H and b are fixed before sampling; any H and b give the same
posterior, good ones a posterior without funnels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import LKJCholesky
from numpyro.distributions.transforms import CorrCholeskyTransform
from scipy.stats import beta

Numbers = np.ndarray | Array
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


def of_new_patients(z, spread: Spread):
    """Return the effects of patients drawn from the population at standard normal ``z``, ``... effects``: w L z."""
    return (z @ spread.root.T) * spread.sd


def correlation_law(effects: int, shape: float):
    """Return the prior of one correlation under LKJ(``shape``): beta on (-1, 1) (Lewandowski, Kurowicka and Joe 2009)."""
    a = shape - 1.0 + 0.5 * effects
    return beta(a, a, loc=-1.0, scale=2.0)


class Information(NamedTuple):
    """What each patient's data say of its own parameters, about: log-likelihood a'b - a'H a / 2 at a = log p + eta."""

    matrix: Float[Numbers, "patients effects effects"]
    """H: positive semi-definite; 0 for a patient of whom nothing is known yet."""
    vector: Float[Numbers, "patients effects"]
    """b."""


def _approximation(log_typical, spread: Spread, information: Information):
    """Return w L, the root C of the precision of z and the mean of z, given what patients share."""
    scale = spread.sd[:, None] * spread.root
    h = jnp.asarray(information.matrix)
    precision = jnp.eye(scale.shape[0]) + scale.T @ h @ scale
    root = jnp.linalg.cholesky(precision)
    pull = (information.vector - h @ log_typical) @ scale
    half = jax.lax.linalg.triangular_solve(root, pull[..., None], left_side=True, lower=True)
    return scale, root, half


def effects_of(u, log_typical, spread: Spread, information: Information):
    """Return the effects eta at coordinates ``u`` and the log-density of the coordinates, one number a patient.

    Both ``patients effects``.
    """
    scale, root, half = _approximation(log_typical, spread, information)
    # z = C'^-1 (C^-1 pull + u)
    z = jax.lax.linalg.triangular_solve(root, half + u[..., None], left_side=True, lower=True, transpose_a=True)[..., 0]
    jacobian = jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    density = -0.5 * (z * z).sum(axis=-1) - jacobian - 0.5 * u.shape[1] * jnp.log(2.0 * jnp.pi)
    return z @ scale.T, density


def coordinates_of(eta, log_typical, spread: Spread, information: Information):
    """Return the coordinates of effects: the inverse of ``effects_of``."""
    scale, root, half = _approximation(log_typical, spread, information)
    z = jnp.linalg.solve(scale, eta.T).T
    return (jnp.swapaxes(root, -2, -1) @ z[..., None] - half)[..., 0]
