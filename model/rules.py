"""Dose rules: hold, resume, reduce. One meaning, two versions (model.md, section 1).

At a visit with a dose planned: ANC < 0.5 holds the drug; 0.5 <= ANC < 1.0 holds it with probability pi_3. While on
hold ANC is counted weekly and dosing resumes at ANC >= 1.0, one level lower with probability pi_R.
Mean-field version, smooth in the parameters: a patient never held has the course of full doses, exactly; those held at
least once share one expected course and the probabilities of (level, on hold).
Exact version, for these and other rules: holds.py.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .probability import normal_cdf

LOG_GRADE3, LOG_GRADE4 = 0.0, -0.6931471805599453
"""log of 1.0 and 0.5 x 10^9/L: CTCAE version 5."""


class HoldRule(NamedTuple):
    """Parameters of the rules; scalars."""

    hold_grade3: Float[Array, ""]
    reduce_after_hold: Float[Array, ""]
    sigma: Float[Array, ""]
    """Residual log SD of one count."""
    log_resume: Float[Array, ""] | float = LOG_GRADE3
    """Log of the count from which dosing resumes."""


class Occupancy(NamedTuple):
    """Probability of each (dose level, dosing or on hold) once held; shape ``levels patients``; sums to P(ever held)."""

    dosing: Float[Array, "levels patients"]
    held: Float[Array, "levels patients"]


def nobody_held(levels: int, patients: int) -> Occupancy:
    """Return the state at the start."""
    zero = jnp.zeros((levels, patients))
    return Occupancy(zero, zero)


def hold_probability(log_anc, rule: HoldRule):
    """Return the probability that a count taken at latent ``log_anc`` leads to a hold."""
    below3 = normal_cdf((LOG_GRADE3 - log_anc) / rule.sigma)
    below4 = normal_cdf((LOG_GRADE4 - log_anc) / rule.sigma)
    return below4 + rule.hold_grade3 * (below3 - below4)


def one_level_lower(x):
    """Shift the mass on each level one level down; the lowest keeps its own."""
    down = jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])
    return down.at[-1].add(x[-1])


class Chances(NamedTuple):
    """What a count may lead to in patients who have been held."""

    resume: Float[Array, "*patients"]
    """Probability that it ends a hold."""
    hold: Float[Array, "*patients"]
    """Probability that it starts one where a dose is due."""


def chances(log_anc, rule: HoldRule) -> Chances:
    """Return the chances of a count taken at latent ``log_anc``."""
    return Chances(normal_cdf((log_anc - rule.log_resume) / rule.sigma), hold_probability(log_anc, rule))


def advance(state: Occupancy, count: Chances, joining, full_dose_hold, rule: HoldRule, dosing_visit) -> Occupancy:
    """Return the occupancy after the counts of one study day.

    ``joining`` is the probability that a patient is held for the first time, ``full_dose_hold`` that of a hold in a patient
    on full doses: those who resumed at the full level have that patient's course again, not the group's.
    ``dosing_visit`` is 1 where a dose is due at a visit.
    """
    lower = count.hold * dosing_visit
    hold = jnp.concatenate([full_dose_hold[None], jnp.broadcast_to(lower, state.dosing[1:].shape)])
    back = state.held * count.resume
    stopped = state.dosing * hold
    dosing = state.dosing - stopped + (1.0 - rule.reduce_after_hold) * back
    dosing = dosing + rule.reduce_after_hold * one_level_lower(back)
    held = state.held - back + stopped
    return Occupancy(dosing, held.at[0].add(joining))
