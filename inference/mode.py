"""Mode of the posterior and curvature there: the start and the scale of NUTS (inference.md, section 4)."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Of this process: a batch system gives it some of the machine's."""
Gradient = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""z -> (log-density, gradient)."""


@dataclass(frozen=True)
class Mode:
    """Laplace approximation in prior-scaled coordinates."""

    z: np.ndarray
    log_density: float
    whiten: np.ndarray
    """Maps standard normal coordinates to z - mode: its product with its transpose is the covariance."""
    gradients: int
    """Gradients spent."""


def find_mode(gradient: Gradient, starts: np.ndarray, bound: float = 6.0) -> tuple[np.ndarray, float, int]:
    """Return the best local maximum from ``starts`` (bounded quasi-Newton), its log-density and the gradients spent."""
    spent = 0

    def negative(z):
        nonlocal spent
        spent += 1
        value, slope = gradient(z)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return 1e10, np.zeros_like(z)
        return -value, -slope

    def climb(z):
        return minimize(
            negative, z, jac=True, method="L-BFGS-B", bounds=[(-bound, bound)] * len(z),
            options={"maxiter": 200, "ftol": 1e-9, "gtol": 1e-3},
        )  # fmt: skip

    with ThreadPoolExecutor(CORES) as pool:
        best = min(pool.map(climb, starts), key=lambda found: found.fun)
    return best.x, -float(best.fun), spent


def whitening(gradient: Gradient, z: np.ndarray, step: float = 1e-2) -> np.ndarray:
    """Return the inverse square root of the negative Hessian at ``z``, from central differences of the gradient.

    Eigenvalues below the prior's, 1, are raised to it: the likelihood cannot make a direction wider than its prior in
    this approximation (NUTS corrects that).
    """
    n = len(z)

    def row(e):
        return (gradient(z - e)[1] - gradient(z + e)[1]) / (2.0 * step)

    with ThreadPoolExecutor(CORES) as pool:
        hessian = np.stack(list(pool.map(row, step * np.eye(n))))
    return root_of_inverse(0.5 * (hessian + hessian.T))


def root_of_inverse(curvature: np.ndarray) -> np.ndarray:
    """Return the inverse square root of a symmetric ``curvature``, eigenvalues below the prior's, 1, raised to it."""
    values, vectors = np.linalg.eigh(curvature)
    return vectors / np.sqrt(np.maximum(values, 1.0))


def laplace(gradient: Gradient, starts: np.ndarray) -> Mode:
    """Return the Laplace approximation at the best mode from ``starts``."""
    z, value, spent = find_mode(gradient, starts)
    return Mode(z, value, whitening(gradient, z), spent + 2 * len(z))
