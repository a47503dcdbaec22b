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


EPISODE_WEEKS = 3
"""Weeks over which an episode is followed."""


class EpisodeWeights:
    """P(duration > cut) of an episode of grade >= 3 neutropenia that begins on day 1 of a week.

    After ``delay_days`` days a count is made on any day with probability 1 - exp(-1/r); the episode ends with the first
    count of at least 1.0. Between whole days of ``cuts`` (at most 20) the log survival is interpolated.
    """

    def __init__(self, cuts, delay_days: int):
        day = np.arange(7 * EPISODE_WEEKS)
        weight = jnp.clip(jnp.asarray(cuts)[:, None] + 1.0 - day, 0.0, 1.0) * (day > delay_days)
        self.weight = weight.reshape(-1, EPISODE_WEEKS, 7)
        """Share of each day's hazard that counts towards a cut, by week of the episode."""

    def of_week(self, below: Float[Array, "7 *patients"], recheck_days) -> Float[Array, "cuts 3 *patients"]:
        """Return the week's contribution to each cut for episodes in their first, second and third week.

        ``below`` is the probability of a count below 1.0 on each day.
        """
        hazard = -log_not(recheck_probability(recheck_days) * (1.0 - below))
        parts = [[sum(w * h for w, h in zip(days, hazard, strict=True)) for days in cut] for cut in self.weight]
        return jnp.stack([jnp.stack(cut) for cut in parts])

    def longer(self, parts: Float[Array, "weeks cuts 3 *patients"]) -> Float[Array, "weeks cuts *patients"]:
        """Return the probabilities by week of onset, given ``of_week`` of every week; the last two repeat the one before."""
        weeks = parts.shape[0] - EPISODE_WEEKS + 1
        total = sum((parts[i : weeks + i, :, i] for i in range(1, EPISODE_WEEKS)), start=parts[:weeks, :, 0])
        return jnp.exp(-jnp.concatenate([total, *[total[-1:]] * (EPISODE_WEEKS - 1)]))
