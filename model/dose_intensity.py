"""Relative dose intensity: its distribution over patients, hold histories and the times at which treatment ends."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

RDI_SMOOTHING = 0.02
"""Kernel width that turns the virtual patients' RDI into a smooth distribution."""
HISTORY_CORRELATION, HISTORY_WEEKS = 0.6, 10.0
"""Variance of a held patient's mean dose share after w weeks, over the mean variance at one time, is
HISTORY_CORRELATION w / (w + HISTORY_WEEKS): holds come in runs, reductions last."""
EXCESS_LOSS = 0.97
"""The common course of those held loses a little too much dose: theirs differ, and holds come to the deepest. This and the
two above are fitted to exact patients (tests/inference/mean_field.csv), within 2 points of P(RDI <= reported quartile)."""
LOGISTIC = 0.5513288954217921
"""Scale of a logistic distribution with SD 1: sqrt(3)/pi."""


def rdi_below(cuts, share, spread, never, intensity, weeks):
    """Return P(RDI <= cut) of each patient after ``weeks`` of treatment, shape ``cuts patients``.

    Patients never held (probability ``never``) took their intensity q; the RDI of the others has the mean and variance of
    the hold histories without that share, ``share`` and ``spread`` being mean and mean variance over all histories.
    """
    some = 1.0 - never + 1e-6
    loss = EXCESS_LOSS * (1.0 - (share - never) / some)
    held = 1.0 - loss
    held = 0.5 * (held + jnp.sqrt(held * held + 1e-4))
    among = (spread - never * (1.0 - never) * loss * loss) / some
    among = 0.5 * (among + jnp.sqrt(among * among + 1e-6))
    width = jnp.sqrt(HISTORY_CORRELATION * weeks / (weeks + HISTORY_WEEKS) * among + RDI_SMOOTHING**2)
    a = jax.nn.sigmoid((cuts - intensity) / (LOGISTIC * RDI_SMOOTHING))
    b = jax.nn.sigmoid((cuts - intensity * held) / (LOGISTIC * intensity * width))
    return never * a + (1.0 - never) * b


BLOCK_WEEKS = 4
"""Treatment that ends within such a block counts with the dose intensity at its middle."""


def rdi_distribution(
    cuts,
    ends: Float[Array, "weeks patients"],
    dose: Float[Array, "weeks patients"],
    variance: Float[Array, "weeks patients"],
    never: Float[Array, "weeks patients"],
    planned: np.ndarray,
    intensity: Float[Array, "patients"],
) -> Float[Array, "cuts patients"]:
    """Return P(RDI <= cut) of each patient: dose given over dose planned up to the end of treatment.

    ``ends`` is the probability that treatment ends in each week, ``dose`` and ``variance`` the mean and variance of the
    share delivered (other causes left out), ``never`` the probability of not having been held, ``planned`` mg per week.
    """
    weeks = len(planned)
    middle = np.arange(BLOCK_WEEKS // 2, weeks, BLOCK_WEEKS)
    upto = np.arange(weeks)[None] <= middle[:, None]
    weights = upto * planned / (upto * planned).sum(axis=1, keepdims=True)
    share, spread = weights @ dose, weights @ variance
    mass = jnp.pad(ends, ((0, -weeks % BLOCK_WEEKS), (0, 0))).reshape(-1, BLOCK_WEEKS, ends.shape[1]).sum(axis=1)
    mass = mass[: len(middle)].at[-1].add(mass[len(middle) :].sum(axis=0))
    return jnp.stack(
        [
            (mass * rdi_below(c, share, spread, never[middle], intensity, middle[:, None] + 1.0)).sum(axis=0)
            for c in cuts
        ]
    )
