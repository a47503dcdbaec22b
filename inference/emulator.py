"""A quadratic emulator of the scores: what trajectories follow where gradients of the model cost too much.

In coordinates u of about standard normal posterior each whitened score, root (score - mean), is about

    w(u) = constant + linear u + u' quadratic u,

fitted by ridge regression to points at which the model was computed. Its gradient costs products of small matrices instead
of a daily scan of all virtual patients.

A polynomial is worst far out, where a chain that follows it must not be kept from going: the density that is wanted could
be much higher there than the emulated one, and a chain that got there would be refused for long. So the likelihood is what
it is on average over errors of the emulator, normal with variance

    v(u) = doubt max(1, |u|^2 / n)^4

for each score, n the number of parameters: on the shipped posterior errors grow about like that.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .likelihood import Joint, whitened_log_likelihood

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
    doubt: Float[Array, "scores"]
    """Variance of the error where |u|^2 is at most n."""

    def scores(self, u):
        """Return the emulated whitened scores at ``u``, shape ``(scores,)``."""
        return self.constant + self.linear @ u + (self.quadratic @ u) @ u


def distance(u):
    """Return max(1, |u|^2 / n)^4, shape ``(...)``."""
    return jnp.maximum((u * u).mean(axis=-1), 1.0) ** 4


def emulated_log_likelihood(emulator: Emulator, u, joint: Joint):
    """Return the log-likelihood at ``u``, the mean over the emulator's errors, up to a constant."""
    variance = 1.0 + emulator.doubt * distance(u)
    scores = emulator.scores(u) / jnp.sqrt(variance)
    return whitened_log_likelihood(scores, joint) - 0.5 * jnp.log(variance).sum()


def doubt_of(emulator: Emulator, u: Float[np.ndarray, "points parameters"], w: Float[np.ndarray, "points scores"]):
    """Return the variance of the emulator's errors at points that it was not fitted to, shape ``(scores,)``."""
    known = np.isfinite(w).all(axis=1)
    error = np.asarray(jax.vmap(emulator.scores)(jnp.asarray(u[known]))) - w[known]
    return (error**2 / np.asarray(distance(u[known]))[:, None]).mean(axis=0)


def fitted(
    u: Float[np.ndarray, "points parameters"], w: Float[np.ndarray, "points scores"], doubt: Float[np.ndarray, "scores"]
) -> Emulator:
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
    parts = coefficients[0], coefficients[1 : n + 1].T, quadratic, doubt
    return Emulator(*(jnp.asarray(x) for x in parts))
