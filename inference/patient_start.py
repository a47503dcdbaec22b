"""Where the sampler of a hierarchical fit starts, and its scale: modes and curvature of patients, then of what they share.

The joint mode of effects and their SDs is no place to start (it lies at SD 0). So the SDs come from a few steps of
expectation-maximisation: with SDs fixed, the mode of everything else; each patient's curvature there gives the spread of
its effects; their mean square plus that spread gives the next SDs and correlation. Patients touch one another only
through what they share, so their blocks of the Hessian come together from as many gradients as there are effects.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.population import coordinates_of, root_to_coordinates
from scipy.optimize import minimize

from .patient_target import Inputs, PatientTarget
from .processor import compiler_options

ROUNDS = 4
"""Steps of expectation-maximisation."""
LEAST_SD = 0.03
CENTRED_BELOW = 0.12
"""Shrinkage below which an effect is centred. Where SDs are uncertain the standardised effect is the safer coordinate."""
STEP = 1e-4
"""Of the differences of gradients."""


class Start(NamedTuple):
    """A point of high density and what is about its scale."""

    x: np.ndarray
    whiten: np.ndarray
    """Maps standard normal coordinates to x - start."""
    data: Inputs
    """With the coordinates of effects that suit the patients' data."""
    shrinkage: np.ndarray
    """Of each effect: mean posterior variance over the population variance."""
    gradients: int


class Gradient:
    """Compiled value and gradient, counted; ``data`` can change between calls."""

    def __init__(self, target: PatientTarget, data: Inputs):
        self._function = jax.jit(jax.value_and_grad(target.log_density), compiler_options=compiler_options())
        self.data = jax.tree.map(jnp.asarray, data)
        self.calls = 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-density and its gradient."""
        self.calls += 1
        value, slope = self._function(jnp.asarray(x), self.data)
        return float(value), np.asarray(slope)


def _climb(gradient: Gradient, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the maximum over the coordinates that are ``free``."""

    def negative(part):
        at = x.copy()
        at[free] = part
        value, slope = gradient(at)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return 1e10, np.zeros_like(part)
        return -value, -slope[free]

    found = minimize(negative, x[free], jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-10})
    out = x.copy()
    out[free] = found.x
    return out


def _columns(gradient: Gradient, x: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the negative Hessian times each direction."""
    return np.stack([(gradient(x - STEP * d)[1] - gradient(x + STEP * d)[1]) / (2.0 * STEP) for d in directions])


def hessian(gradient: Gradient, x: np.ndarray, target: PatientTarget) -> np.ndarray:
    """Return the negative Hessian: shared block, cross block, a block for each patient; zeros between patients."""
    shared, n, k = target.layout.shared, target.patients, len(target.effects)
    size = len(x)
    out = np.zeros((size, size))
    first = _columns(gradient, x, np.eye(size)[:shared])
    out[:shared], out[:, :shared] = first, first.T
    blocks = patient_blocks(gradient, x, target)
    for i in range(n):
        a = shared + i * k
        out[a : a + k, a : a + k] = blocks[i]
    return 0.5 * (out + out.T)


def patient_blocks(gradient: Gradient, x: np.ndarray, target: PatientTarget) -> np.ndarray:
    """Return the negative Hessian in each patient's effects, ``patients effects effects``."""
    shared, n, k = target.layout.shared, target.patients, len(target.effects)
    directions = np.zeros((k, len(x)))
    for j in range(k):
        directions[j, shared + j :: k] = 1.0
    found = _columns(gradient, x, directions)[:, shared:].reshape(k, n, k)
    found = np.moveaxis(found, 1, 0)
    return 0.5 * (found + np.swapaxes(found, 1, 2))


def _inverse(blocks: np.ndarray) -> np.ndarray:
    """Return the inverses of symmetric ``blocks``, no variance above the prior's, 1."""
    values, vectors = np.linalg.eigh(blocks)
    return (vectors / np.maximum(values, 1.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)


def find_start(target: PatientTarget, data: Inputs, gradient: Gradient, tell: Callable[[str], None]) -> Start:
    """Return where to start and the scale there."""
    at, n, k = target.layout, target.patients, len(target.effects)
    s = target.settings.effects
    x = np.zeros(target.dimensions)
    x[at.residual] = np.log(0.2)
    free = np.ones(len(x), bool)
    free[at.sds], free[at.correlation] = False, False
    sd, correlation = np.full(k, min(s.sd_scale, 0.5 * s.sd_upper)), np.eye(k)
    shrinkage, eta, order = np.ones(k), np.zeros((n, k)), np.arange(k)
    data = data._replace(centred=np.zeros(k), order=order)

    def placed(x: np.ndarray, data: Inputs) -> np.ndarray:
        """Return ``x`` with the SDs, the correlation and the effects at hand, in the coordinates that ``data`` says."""
        x = x.copy()
        share = np.clip(sd / s.sd_upper, 1e-4, 0.98)
        x[at.sds] = np.log(share) - np.log1p(-share)
        if s.correlation == "lkj":
            sorted_ = correlation[np.ix_(data.order, data.order)]
            x[at.correlation] = np.asarray(root_to_coordinates(jnp.asarray(np.linalg.cholesky(sorted_))))
        spread, typical = target.in_order(target.shared(jnp.asarray(x)), data)
        x[at.shared :] = np.asarray(
            coordinates_of(jnp.asarray(eta)[:, data.order], typical, spread, data.centred)
        ).ravel()
        return x

    for number in range(ROUNDS):
        gradient.data = jax.tree.map(jnp.asarray, data)
        x = _climb(gradient, placed(x, data), free)
        shared = target.shared(jnp.asarray(x))
        eta = np.asarray(target.etas(jnp.asarray(x), shared, gradient.data)[0])
        to_effect = sd[:, None] * np.asarray(shared.spread.root)
        within = to_effect @ _inverse(patient_blocks(gradient, x, target)) @ to_effect.T
        total = (eta[:, :, None] * eta[:, None, :] + within).mean(axis=0)
        sd = np.clip(np.sqrt(np.diagonal(total)), LEAST_SD, 0.9 * s.sd_upper)
        shrinkage = np.clip(within.mean(axis=0).diagonal() / sd**2, 0.0, 1.0)
        if s.correlation == "lkj" and n > 1:
            # Few patients say little of a correlation: a share of what they show.
            found = total / np.sqrt(np.outer(np.diagonal(total), np.diagonal(total)))
            weight = n / (n + 2.0 * k)
            correlation = weight * found + (1.0 - weight) * np.eye(k)
        tell(f"round {number + 1}: log-density {gradient(x)[0]:.2f}")
    order = np.argsort(shrinkage, kind="stable")
    data = data._replace(centred=(shrinkage[order] < CENTRED_BELOW).astype(float), order=order)
    gradient.data = jax.tree.map(jnp.asarray, data)
    x = placed(x, data)
    scale = _scale(target, sd[order], data.centred)
    values, vectors = np.linalg.eigh(hessian(gradient, x, target) * np.outer(scale, scale))
    # At a point that is not the mode some curvatures are small or negative: no direction is wider than its scale.
    whiten = scale[:, None] * (vectors / np.sqrt(np.maximum(np.abs(values), 1.0)))
    return Start(x, whiten, data, shrinkage, gradient.calls)


def _scale(target: PatientTarget, sd: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Return the largest scale of each coordinate: 1 for those whose prior is normal, else what is usual."""
    at = target.layout
    out = np.ones(target.dimensions)
    out[at.residual] = 0.5
    out[at.correlation] = 0.6
    out[at.shared :] = np.tile(np.where(centred > 0.0, sd + 0.3, 1.0), target.patients)
    return out
