"""Where the sampler of the arrest model for single patients starts: the mode, and what each patient's data say there.

SDs of effects have priors away from 0, so the joint mode in standardised effects is a point of high density. Memory and time
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
    """Return where to start and the scale there; ``whiten`` is that of what patients share."""
    shared, n, k = target.shared_size, target.patients, len(target.effects)
    x = np.zeros(target.dimensions)
    data = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
    everything = np.ones(len(x), bool)
    shrinkage = np.ones(k)
    for _ in range(ROUNDS):
        gradient.data = jax.tree.map(jnp.asarray, data)
        x = climb(gradient, x, everything)
        theta = target.population(jnp.asarray(x))
        typical, spread = target.spread(theta)
        eta = target.etas(jnp.asarray(x), theta, gradient.data)[0]
        flat = data._replace(information=Information(np.zeros((n, k, k)), np.zeros((n, k))))
        gradient.data = jax.tree.map(jnp.asarray, flat)
        z = np.asarray(eta / spread.sd)
        blocks = patient_blocks(gradient, np.concatenate([x[:shared], z.ravel()]), target)
        information = information_at(blocks, z, np.asarray(eta + typical), np.diag(np.asarray(spread.sd)))
        within = np.linalg.inv(np.eye(k) + information.matrix * np.outer(spread.sd, spread.sd))
        shrinkage = within.mean(axis=0).diagonal()
        data = data._replace(information=information)
        u = coordinates_of(eta, typical, spread, Information(*map(jnp.asarray, information)))
        x = np.concatenate([x[:shared], np.asarray(u).ravel()])
    gradient.data = jax.tree.map(jnp.asarray, data)
    first = columns(gradient, x, np.eye(len(x))[:shared])
    blocks = patient_blocks(gradient, x, target)
    values, vectors = np.linalg.eigh(blocks)
    cross = np.moveaxis(first[:, shared:].reshape(shared, n, k), 1, 0) @ vectors  # patients shared effects
    of_patients = np.einsum("psk,pk,ptk->st", cross, 1.0 / np.maximum(values, 1.0), cross)
    curvature = 0.5 * (first[:, :shared] + first[:, :shared].T) - of_patients
    values, vectors = np.linalg.eigh(curvature)
    whiten = vectors / np.sqrt(np.maximum(np.abs(values), 1.0))
    return Start(x, whiten, data, shrinkage, gradient.calls)
