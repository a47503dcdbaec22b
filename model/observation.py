"""What is seen of ANC: counts with log-normal error, graded by CTCAE version 5, and episodes (model.md, section 4)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .probability import log_not, normal_cdf
from .rules import LOG_GRADE3

LOG_GRADE2 = 0.4054651081081644
"""log of 1.5 x 10^9/L."""


def below_limit(log_anc, sigma, limit=LOG_GRADE3):
    """Return the probability that a count at latent ``log_anc`` is below ``exp(limit)``."""
    return normal_cdf((limit - log_anc) / sigma)


def recheck_probability(recheck_days):
    """Return the probability of a count on any one day of an episode, 1 - exp(-1/r)."""
    return -jnp.expm1(-1.0 / recheck_days)


def episode_longer(
    below: Float[Array, "weeks 7 patients"], recheck_days, delay_days: float, cuts
) -> Float[Array, "weeks cuts patients"]:
    """Return P(duration > cut) of an episode of grade >= 3 neutropenia that begins on day 1 of each week.

    ``below`` is the probability of a count below 1.0 on each day. After ``delay_days`` days a count is made on any
    day with probability 1 - exp(-1/r); the episode ends with the first count of at least 1.0. Between whole days of ``cuts`` (at
    most 20) the log survival is interpolated. The last two weeks repeat the one before them.
    """
    hazard = -log_not(recheck_probability(recheck_days) * (1.0 - below))
    weeks = below.shape[0] - 2
    out = []
    for cut in cuts:
        weight = np.clip(cut + 1 - np.arange(21), 0.0, 1.0)
        weight[: int(delay_days) + 1] = 0.0
        parts = [
            jnp.einsum("k,wkp->wp", w, hazard[i : weeks + i]) for i, w in enumerate(weight.reshape(3, 7)) if w.any()
        ]
        out.append(jnp.exp(-sum(parts, start=jnp.zeros_like(hazard[:weeks, 0]))))
    longer = jnp.stack(out, axis=1)
    return jnp.concatenate([longer, longer[-1:], longer[-1:]])
