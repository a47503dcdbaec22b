"""Posterior draws under another density: moved, weighted, and told how far the weights can be trusted (PSIS k-hat)."""

from typing import NamedTuple

import numpy as np

TRUSTED = 0.7
"""k-hat above which importance weights are not to be trusted (Vehtari et al. 2024)."""


class Weighted(NamedTuple):
    """Smoothed weights of draws, which add up to 1."""

    weights: np.ndarray
    khat: float

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Return the weighted mean over the first axis."""
        return np.tensordot(self.weights, x, axes=(0, 0))

    def sd(self, x: np.ndarray) -> np.ndarray:
        """Return the weighted SD over the first axis."""
        return np.sqrt(np.maximum(self.mean(np.square(x - self.mean(x))), 0.0))

    def quantile(self, x: np.ndarray, q: float) -> float:
        """Return a weighted quantile of one quantity, linear between the draws' mid-ranks."""
        order = np.argsort(x)
        at = np.cumsum(self.weights[order]) - 0.5 * self.weights[order]
        return float(np.interp(q, at, x[order]))


def smoothed(log_ratio: np.ndarray) -> Weighted:
    """Return Pareto-smoothed weights of draws whose log-density ratios are ``log_ratio``; not finite counts as none."""
    worst = log_ratio[np.isfinite(log_ratio)].min(initial=0.0)
    ratio = np.where(np.isfinite(log_ratio), log_ratio, worst - 700.0)
    if np.ptp(np.sort(ratio)[-(len(ratio) // 5 + 1) :]) < 1e-12:  # even weights have no tail to smooth
        log_weights, khat = ratio, 0.0
    else:  # arviz takes log-likelihoods to be left out: the negative of log ratios
        from arviz_stats.base.array import array_stats  # takes half a second to import

        log_weights, khat = array_stats.psislw(-ratio)
    weights = np.exp(np.asarray(log_weights) - np.max(log_weights))
    return Weighted(weights / weights.sum(), float(khat))


class Normal(NamedTuple):
    """A normal approximation: its centre, and the root that maps standard normal coordinates to it."""

    centre: np.ndarray
    root: np.ndarray


def moved(x: np.ndarray, base: Normal, other: Normal) -> np.ndarray:
    """Return draws of one density mapped to where another one is, by their normal approximations.

    The map is affine, so its Jacobian is a constant that weights do without.
    """
    return other.centre + np.linalg.solve(base.root, (x - base.centre).T).T @ other.root.T
