"""Relative exposure and the block of the maturation step (model.md, section 2).

One unit of amount is what one 1 mg dose leaves in a typical patient; no human PK of mezigdomide is public.
"""

from typing import NamedTuple

import jax.numpy as jnp

LN2 = 0.6931471805599453


class Block(NamedTuple):
    """Parameters of B(a) = Emax a^n / (EC50^n + a^n); fields broadcast over patients."""

    emax: jnp.ndarray
    log_ec50: jnp.ndarray
    hill: jnp.ndarray
    k: jnp.ndarray
    """Elimination of the drug, 1/day: ln 2 / half-life."""


def day_mean_block(log_amount, block: Block, days: float = 1.0):
    """Return the exact mean of B over ``days`` in which the amount decays from exp(log_amount) with rate k.

    mean B = Emax/(n k d) ln[(1 + (a/EC50)^n) / (1 + (a e^{-k d}/EC50)^n)], in log-space so that nothing overflows.
    """
    nk = block.hill * block.k * days
    u = block.hill * (log_amount - block.log_ec50)
    return block.emax / nk * (jnp.logaddexp(0.0, u) - jnp.logaddexp(0.0, u - nk))


def reference_tumour_block(log_ec50_tumour, hill, k, days_on: int = 21, cycle_days: int = 28, dose_mg: float = 1.0):
    """Return the cycle mean of a^n/(EC50_T^n + a^n) of a typical patient on full doses, at steady state."""
    block = Block(jnp.asarray(1.0), log_ec50_tumour, hill, k)
    day = jnp.arange(cycle_days)
    lag = (day[:, None] - day[None, :days_on]) % cycle_days
    amount = dose_mg * jnp.exp(-k * lag).sum(axis=1) / -jnp.expm1(-k * cycle_days)
    return day_mean_block(jnp.log(amount), block).mean()
