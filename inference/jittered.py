"""HMC with trajectories of random length, short ones where long ones would be refused: for sampler.py, along an emulator.

Where the density p that is wanted is far above the density p' that trajectories follow, what is proposed far away is refused
for long. Near by both change little. So trajectories are short with a probability s that rises with the gap log p/p', which
is another one at their end: the acceptance min(1, [p(z')/p'(z')] / [p(z)/p'(z)]) is multiplied by s(z')/s(z), or by
(1 - s(z'))/(1 - s(z)) for long ones, inside the minimum. That leaves p invariant (Green, Biometrika 1995: probabilities of
moves that depend on where the chain is).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

STEEP = 3.0
"""How fast the share of short trajectories rises with the gap."""
SHORT = 0.15
"""Time of a short trajectory over that of a long one."""


class Jittered(NamedTuple):
    """HMC instead of NUTS, where gradients cost nothing beside the density that accepts: several transitions before it does."""

    shortest: float
    longest: float
    """Times of a long trajectory, uniform between the two, in coordinates u: after about half of pi a draw has forgotten its past."""
    moves: int
    stuck: float
    """Gap at which half of all trajectories are short; 0 is usual."""

    def log_share(self, gap, short):
        """Return the log-probability that trajectories are ``short`` (or, where that is false, are not) at ``gap``."""
        x = STEEP * (gap - self.stuck)
        return jax.nn.log_sigmoid(jnp.where(short, x, -x))

    def short(self, key, gap):
        """Return whether trajectories from where the density has this ``gap`` are short."""
        return jnp.log(jax.random.uniform(key)) < self.log_share(gap, True)

    def time(self, key, short):
        """Return the time of one trajectory."""
        return jnp.where(short, SHORT, 1.0) * jax.random.uniform(key, (), float, self.shortest, self.longest)
