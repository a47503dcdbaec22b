"""Where the sampler of a hierarchical fit starts, and its scale: modes and curvature of patients, then of what they share.

The joint mode of effects and their SDs is no place to start (it lies at SD 0). So the SDs come from a few steps of
expectation-maximisation: with SDs fixed, the mode of everything else; each patient's curvature there gives the spread of
its effects; their mean square plus that spread gives the next SDs and correlation. Patients touch one another only
through what they share, so their blocks of the Hessian come together from as many gradients as there are effects. The last
blocks also tell what each patient's data say of its effects, and so the scale of their coordinates (population.py).
"""

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.population import Information, coordinates_of, root_to_coordinates
from scipy.optimize import minimize

from .patient_target import Inputs, PatientTarget
from .processor import compiler_options
from .side_by_side import Scale

ROUNDS = 4
"""Steps of expectation-maximisation."""
LEAST_SD = 0.03
STEP = 1e-4
"""Of the differences of gradients."""


class Start(NamedTuple):
    """A point of high density and what is about its scale."""

    x: np.ndarray
    whiten: np.ndarray
    """Maps standard normal coordinates to x - start: of all coordinates, or of those that patients share alone."""
    data: Any
    """With what the patients' data say of their effects: the scale of these coordinates."""
    shrinkage: np.ndarray
    """Of each effect: mean posterior variance over the population variance."""
    gradients: int
    follow: np.ndarray | None = None
    """How coordinates of effects move with those that patients share, where ``whiten`` is of these alone."""


class Hierarchy(Protocol):
    """A log-density of what patients share, which comes first among the coordinates, and of each patient's effects."""

    @property
    def patients(self) -> int: ...

    @property
    def effects(self) -> tuple[str, ...]: ...

    @property
    def shared_size(self) -> int: ...

    @property
    def dimensions(self) -> int: ...

    def log_density(self, x: Any, data: Any) -> Any: ...


class Gradient:
    """Compiled value and gradient, counted; ``data`` can change between calls."""

    def __init__(self, target: Hierarchy, data: Any):
        self._function = jax.jit(jax.value_and_grad(target.log_density), compiler_options=compiler_options())
        self.data: Any = jax.tree.map(jnp.asarray, data)
        self.calls = 0

    def of(self, data: Any) -> "Gradient":
        """Return the same compiled function of other data, of the same shapes; counted anew."""
        other = copy(self)
        other.data, other.calls = jax.tree.map(jnp.asarray, data), 0
        return other

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-density and its gradient."""
        self.calls += 1
        value, slope = self._function(jnp.asarray(x), self.data)
        return float(value), np.asarray(slope)


def climb(gradient: Gradient, x: np.ndarray, free: np.ndarray) -> np.ndarray:
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


def columns(gradient: Gradient, x: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the negative Hessian times each direction."""
    return np.stack([(gradient(x - STEP * d)[1] - gradient(x + STEP * d)[1]) / (2.0 * STEP) for d in directions])


def hessian(gradient: Gradient, x: np.ndarray, target: Hierarchy) -> np.ndarray:
    """Return the negative Hessian: shared block, cross block, a block for each patient; zeros between patients."""
    shared, n, k = target.shared_size, target.patients, len(target.effects)
    size = len(x)
    out = np.zeros((size, size))
    first = columns(gradient, x, np.eye(size)[:shared])
    out[:shared], out[:, :shared] = first, first.T
    blocks = patient_blocks(gradient, x, target)
    for i in range(n):
        a = shared + i * k
        out[a : a + k, a : a + k] = blocks[i]
    return 0.5 * (out + out.T)


def patient_blocks(gradient: Gradient, x: np.ndarray, target: Hierarchy) -> np.ndarray:
    """Return the negative Hessian in each patient's effects, ``patients effects effects``."""
    shared, n, k = target.shared_size, target.patients, len(target.effects)
    directions = np.zeros((k, len(x)))
    for j in range(k):
        directions[j, shared + j :: k] = 1.0
    found = columns(gradient, x, directions)[:, shared:].reshape(k, n, k)
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
    shrinkage, eta = np.ones(k), np.zeros((n, k))
    data = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))

    def placed(x: np.ndarray, data: Inputs) -> np.ndarray:
        """Return ``x`` with the SDs, the correlation and the effects at hand, in the coordinates that ``data`` says."""
        x = x.copy()
        share = np.clip(sd / s.sd_upper, 1e-4, 0.98)
        x[at.sds] = np.log(share) - np.log1p(-share)
        if s.correlation == "lkj":
            x[at.correlation] = np.asarray(root_to_coordinates(jnp.asarray(np.linalg.cholesky(correlation))))
        shared = target.shared(jnp.asarray(x))
        known = target.typical(shared), shared.spread, data.information
        x[at.shared :] = np.asarray(coordinates_of(jnp.asarray(eta), *known)).ravel()
        return x

    information = data.information
    for number in range(ROUNDS):
        gradient.data = jax.tree.map(jnp.asarray, data)
        x = climb(gradient, placed(x, data), free)
        shared = target.shared(jnp.asarray(x))
        eta = np.asarray(target.etas(jnp.asarray(x), shared, gradient.data)[0])
        to_effect = sd[:, None] * np.asarray(shared.spread.root)
        blocks = patient_blocks(gradient, x, target)
        within = to_effect @ _inverse(blocks) @ to_effect.T
        information = information_at(
            blocks, x[at.shared :].reshape(n, k), eta + np.asarray(target.typical(shared)), to_effect
        )
        total = (eta[:, :, None] * eta[:, None, :] + within).mean(axis=0)
        sd = np.clip(np.sqrt(np.diagonal(total)), LEAST_SD, 0.9 * s.sd_upper)
        shrinkage = np.clip(within.mean(axis=0).diagonal() / sd**2, 0.0, 1.0)
        if s.correlation == "lkj" and n > 1:
            # Few patients say little of a correlation: a share of what they show.
            found = total / np.sqrt(np.outer(np.diagonal(total), np.diagonal(total)))
            weight = n / (n + 2.0 * k)
            correlation = weight * found + (1.0 - weight) * np.eye(k)
        tell(f"round {number + 1}: log-density {gradient(x)[0]:.2f}")
    data = data._replace(information=information)
    gradient.data = jax.tree.map(jnp.asarray, data)
    x = placed(x, data)
    scale = np.ones(target.dimensions)
    scale[at.residual], scale[at.correlation] = 0.5, 0.6
    values, vectors = np.linalg.eigh(hessian(gradient, x, target) * np.outer(scale, scale))
    # At a point that is not the mode some curvatures are small or negative: no direction is wider than its scale.
    whiten = scale[:, None] * (vectors / np.sqrt(np.maximum(np.abs(values), 1.0)))
    return Start(x, whiten, data, shrinkage, gradient.calls)


def information_at(blocks: np.ndarray, z: np.ndarray, own: np.ndarray, to_effect: np.ndarray) -> Information:
    """Return what the data say of effects, from the curvature ``blocks`` in z at the mode ``z``; prior of z standard normal.

    ``own`` is log p + eta at the mode, ``to_effect`` w L. At the mode the slope of the log-likelihood is that of the prior.
    """
    values, vectors = np.linalg.eigh(blocks - np.eye(z.shape[1]))
    of_z = (vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    back = np.linalg.inv(to_effect)
    matrix = back.T @ of_z @ back
    return Information(matrix, np.einsum("pij,pj->pi", matrix, own) + z @ back)


def scale_of(start: Start, shared: int) -> Scale:
    """Return the scale of the start for chains side by side: given what patients share, effects are about standard normal."""
    own = np.ones(len(start.x) - shared)
    if start.follow is not None:
        return Scale(start.x, start.whiten, own, start.follow)
    covariance = start.whiten @ start.whiten.T
    first = covariance[:shared, :shared]
    follow = np.linalg.solve(first, covariance[:shared, shared:]).T
    return Scale(start.x, np.linalg.cholesky(first), own, follow)
