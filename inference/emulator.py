"""A quadratic emulator of the scores: what trajectories follow where gradients of the model cost too much.

In coordinates u of about standard normal posterior each whitened score, root (score - mean), is about

    w(u) = constant + linear u + u' quadratic u,

fitted by ridge regression to points at which the model was computed. The emulated log-density is that of the emulated scores
and the prior, which is exact. Its gradient costs two products of matrices instead of a daily scan of all virtual patients.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

RIDGE = 1.0
"""Points that say that a second-order coefficient is 0."""
WEAK_RIDGE = 1e-3
"""The same for constants and slopes."""


class Emulator(NamedTuple):
    """Scores as second-order polynomials."""

    constant: Float[Array, "scores"]
    linear: Float[Array, "scores parameters"]
    quadratic: Float[Array, "scores parameters parameters"]
    """Symmetric."""

    def scores(self, u):
        """Return the emulated whitened scores at ``u``, shape ``(scores,)``."""
        return self.constant + self.linear @ u + (self.quadratic @ u) @ u


def fitted(u: Float[np.ndarray, "points parameters"], w: Float[np.ndarray, "points scores"]) -> Emulator:
    """Return the emulator of whitened scores ``w`` at ``u``; points that are not finite are left out."""
    known = np.isfinite(u).all(axis=1) & np.isfinite(w).all(axis=1)
    u, w = u[known], w[known]
    n, first, second = u.shape[1], *np.triu_indices(u.shape[1])
    terms = np.hstack([np.ones((len(u), 1)), u, u[:, first] * u[:, second]])
    penalty = np.full(terms.shape[1], RIDGE)
    penalty[: n + 1] = WEAK_RIDGE
    coefficients = np.linalg.solve(terms.T @ terms + np.diag(penalty), terms.T @ w)
    quadratic = np.zeros((w.shape[1], n, n))
    quadratic[:, first, second] = coefficients[n + 1 :].T
    quadratic = 0.5 * (quadratic + np.swapaxes(quadratic, 1, 2))
    return Emulator(jnp.asarray(coefficients[0]), jnp.asarray(coefficients[1 : n + 1].T), jnp.asarray(quadratic))
