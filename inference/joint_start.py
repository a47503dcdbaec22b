"""Where the sampler of a joint fit starts, and the joint law of the reported numbers there."""

import jax
import jax.numpy as jnp
import numpy as np

from .arrest_start import find_arrest_start
from .joint_covariance import joined, score_function
from .joint_target import JointInputs, JointTarget
from .patient_start import Gradient, Start, climb
from .problem import Problem


def find_joint_start(target: JointTarget, other: Problem, data: JointInputs, gradient: Gradient) -> Start:
    """Return where to start and the scale there; ``data`` with the joint law of the numbers' scores.

    As in a fit to reported numbers alone: the mode as if they were independent (at the prior medians of the effects' SDs, see
    arrest_start.py), trials simulated there, the mode again.
    """
    likelihood = other.settings.likelihood
    if likelihood.covariance == "simulated":
        gradient.data = jax.tree.map(jnp.asarray, data)
        mode = climb(gradient, np.zeros(target.dimensions), ~target.of_spread)
        at = np.asarray(target.sides(jnp.asarray(mode)).reported)
        scores, seed = score_function(target.numbers), other.settings.sampler.seed
        numbers = joined(target.numbers, data.numbers, scores, at, likelihood.covariance_trials, seed)
        data = data._replace(numbers=jax.tree.map(np.asarray, numbers))
    return find_arrest_start(target, data, gradient)  # type: ignore[arg-type]
