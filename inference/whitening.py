"""Coordinates from draws and their gradients: what NUTS needs when the curvature at the mode is not typical.

For a normal target the gradient covariance is the inverse of the draws' covariance; the matrix S that solves
S cov(gradients) S = cov(draws) minimises the Fisher divergence of the draws from a normal (Seyboldt, Carlson and
Carpenter, "Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence") and is exact for a normal target
from few draws.
"""

import jax.numpy as jnp
import numpy as np

from .sampler import Draws, Geometry

SHRINK = 1.0
"""Weight of the coordinates in use, in draws per dimension: what little the draws say of a direction leaves it alone."""


def _of_eigenvalues(a: np.ndarray, f) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (a + a.T))
    return (vectors * f(values)) @ vectors.T


def matching_covariance(draws: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return S with S G S = C, C and G the covariances of ``draws`` and ``gradients`` (rows), shrunk towards 1."""
    n, d = draws.shape
    weight = SHRINK * d

    def shrunk(x):
        x = x - x.mean(axis=0)
        return (x.T @ x + weight * np.eye(d)) / (n + weight)

    root = _of_eigenvalues(shrunk(gradients), np.sqrt)
    inverse = np.linalg.inv(root)
    return inverse @ _of_eigenvalues(root @ shrunk(draws) @ root, np.sqrt) @ inverse


def refined(geometry: Geometry, pilots: list[list[Draws]]) -> Geometry:
    """Return the geometry that the pilot draws of all chains suggest; the first block of each is left out."""
    kept = [b for blocks in pilots for b in (blocks[1:] or blocks)]
    z, slope = (np.concatenate([getattr(b, k) for b in kept]) for k in ("z", "slope"))
    whiten, centre = np.asarray(geometry.whiten), np.asarray(geometry.centre)
    u = np.linalg.solve(whiten, (z - centre).T).T
    root = np.linalg.cholesky(matching_covariance(u, slope))
    return Geometry(jnp.asarray(z.mean(axis=0)), jnp.asarray(whiten @ root), geometry.data)
