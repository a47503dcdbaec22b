"""Where the sampler of the arrest model for single patients starts: the mode, and what each patient's data say there.

The joint mode of standardised effects and their SDs may lie at SDs beyond all reason: a frailty of any spread explains each time
of progression by itself. So the rest is found at the SDs' prior medians first. Once it is known what the data say of each
patient, the density of the coordinates (population.py) is about that of effects integrated out, and SDs are free. Memory and time
grow with the number of patients alone: the curvature of what patients share, given the best effects for it, comes from a
block for each patient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.population import Information, coordinates_of

from .arrest_target import ArrestInputs, ArrestTarget
from .patient_start import Gradient, Start, climb, columns, information_at, patient_blocks

ROUNDS = 2


def find_arrest_start(target: ArrestTarget, data: ArrestInputs, gradient: Gradient) -> Start:
    """Return where to start and the scale there: ``whiten`` of what patients share, ``follow`` of their effects given it."""
    shared, n, k = target.shared_size, target.patients, len(target.effects)
    x = np.zeros(target.dimensions)
    data = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
    shrinkage = np.ones(k)
    for number in range(ROUNDS):
        gradient.data = jax.tree.map(jnp.asarray, data)
        x = climb(gradient, x, ~target.of_spread | (number > 0))
        theta = target.population(jnp.asarray(x))
        typical, spread = target.spread(theta)
        eta = target.etas(jnp.asarray(x), theta, gradient.data)[0]
        flat = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
        gradient.data = jax.tree.map(jnp.asarray, flat)
        root, sd = np.asarray(spread.root), np.asarray(spread.sd)
        z = np.linalg.solve(sd[:, None] * root, np.asarray(eta).T).T
        blocks = patient_blocks(gradient, np.concatenate([x[:shared], z.ravel()]), target)
        to_effect = sd[:, None] * root
        information = information_at(blocks, z, np.asarray(eta + typical), to_effect)
        within = root @ np.linalg.inv(np.eye(k) + to_effect.T @ information.matrix @ to_effect) @ root.T
        shrinkage = within.mean(axis=0).diagonal()
        data = data._replace(information=information)
        u = coordinates_of(eta, typical, spread, Information(*map(jnp.asarray, information)))
        x = np.concatenate([x[:shared], np.asarray(u).ravel()])
    gradient.data = jax.tree.map(jnp.asarray, data)
    first = columns(gradient, x, np.eye(len(x))[:shared])
    blocks = patient_blocks(gradient, x, target)
    # A patient's coordinates are about standard normal a priori: no direction is wider than that.
    values, vectors = np.linalg.eigh(blocks)
    within = (vectors / np.maximum(values, 1.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    cross = first[:, shared:].reshape(shared, n, k)
    moved = -np.einsum("pij,spj->pis", within, cross)
    curvature = 0.5 * (first[:, :shared] + first[:, :shared].T) + np.einsum("spi,pit->st", cross, moved)
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    whiten = vectors / np.sqrt(np.maximum(np.abs(values), 1.0))
    return Start(x, whiten, data, shrinkage, gradient.calls, moved.reshape(n * k, shared))
