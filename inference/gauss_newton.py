"""Mode and curvature of the posterior from scores alone, without gradients of the model (Gauss and Newton).

In the sampler's coordinates x the log-density is, up to a constant, that of whitened scores w(x) and of the prior-scaled
coordinates. Difference quotients give the slopes J of w, and these the curvature

    H = c J' J + P,  c = N / (N - 1 + |w|^2),

with P that of the prior, by difference quotients too, and N the trials of the joint law. It leaves out the scores' own curvature: enough for a normal
approximation that the sampler refines.
"""

from collections.abc import Callable

import jax
import numpy as np

from .coordinates import prior_scaled
from .importance import Normal
from .likelihood import Data, Target, whitened_log_likelihood
from .mode import CORES, root_of_inverse
from .workers import workers

Scores = Callable[[np.ndarray, Data], np.ndarray]
"""(sampler's coordinates, data) -> whitened scores."""
STEP = 0.05
"""Of the difference quotients, in prior SDs: far above the noise of float32."""
PRIOR_STEP = 1e-4
"""The same of the prior's slope, in float64."""
MOST_STEPS = 40
SMALLEST_GAIN = 0.2
"""Of the last step; what is left to gain is far less, as steps near the mode square the distance to it."""
BOUND = 6.0
"""Prior SDs within which the mode is sought."""


def slopes(scores: Scores, x: np.ndarray, data: Data) -> np.ndarray:
    """Return the derivatives of the scores at ``x``, shape ``(scores, parameters)``."""

    def column(e: np.ndarray) -> np.ndarray:
        return (scores(x + e, data) - scores(x - e, data)) / (2.0 * STEP)

    with workers(CORES) as pool:
        return np.stack(list(pool.map(column, STEP * np.eye(len(x)))), axis=1)


def normal_approximation(scores: Scores, target: Target, data: Data, start: np.ndarray) -> tuple[Normal, int]:
    """Return the normal approximation at the mode that ``start`` leads to, and how often scores were computed.

    Steps are damped until they gain.
    """
    prior = jax.jit(lambda x: target.log_prior(prior_scaled(x, target.parameters), data))
    prior_slope = jax.jit(jax.grad(prior))

    def height(x: np.ndarray) -> tuple[float, np.ndarray]:
        w = scores(x, data)
        value = float(whitened_log_likelihood(w, data.joint) + prior(x))
        return (value if np.isfinite(value) else -np.inf), w

    def prior_curvature(x: np.ndarray) -> np.ndarray:
        ends = [(prior_slope(x + e), prior_slope(x - e)) for e in PRIOR_STEP * np.eye(len(x))]
        h = np.array([np.asarray(b) - np.asarray(a) for a, b in ends]) / (2.0 * PRIOR_STEP)
        return 0.5 * (h + h.T)

    def around(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return slope and curvature of the log-density."""
        j, n = slopes(scores, x, data), float(data.joint.trials)
        c = n / (n - 1.0 + w @ w)
        return -c * j.T @ w + np.asarray(prior_slope(x)), c * j.T @ j + prior_curvature(x)

    x = np.array(start, dtype=float)
    (value, w), damping, computed = height(x), 0.0, 1 + 2 * len(x)
    slope, curvature = around(x, w)
    for _ in range(MOST_STEPS):
        move = np.linalg.solve(curvature + damping * np.eye(len(x)), slope)
        there = np.clip(x + move, -BOUND, BOUND)
        new, new_w = height(there)
        computed += 1
        if new <= value:
            if damping > 1e3:
                break
            damping = max(10.0 * damping, 0.1)
            continue
        gain, x, value, w = new - value, there, new, new_w
        (slope, curvature), computed = around(x, w), computed + 2 * len(x)
        damping = damping / 10.0 if damping > 0.1 else 0.0
        if gain < SMALLEST_GAIN:
            break
    return Normal(x, root_of_inverse(curvature)), computed


def as_rows(scores: Scores, x: np.ndarray, data: Data) -> np.ndarray:
    """Return the scores at the rows of ``x``, one core a row."""
    with workers(CORES) as pool:
        return np.array(list(pool.map(lambda row: scores(row, data), x)))
