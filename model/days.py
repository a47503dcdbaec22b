"""The days of one week of each patient: doses and G-CSF in, ANC, arrest and tumour block out.

What a plan can bring is known before it starts, so the days compute no more than that: nothing without drug, no G-CSF
without a policy. The choice is made at run time: all are in the compiled program, but G-CSF only where it was asked for.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import gcsf, infection
from .course import daily_constants, day
from .elementary import log
from .individuals import Individuals
from .probability import quick_normal_cdf
from .rules import LOG_GRADE3


class Model(NamedTuple):
    """What the days need and no day changes."""

    theta: Any
    individuals: Individuals
    constants: Any
    """course.daily_constants."""
    structure: Any
    steps: int
    relaxation: gcsf.Relaxation
    precision: Float[Array, "patients"]
    """1 / log SD of a count's error."""
    gcsf: bool
    """Whether a plan may give G-CSF (batch.Form)."""


def model_of(theta, ind: Individuals, structure, steps: int, gcsf_too: bool = True) -> Model:
    """Return what the days of these patients need at ``steps`` integration steps a day, with G-CSF if ``gcsf_too``."""
    return Model(
        theta,
        ind,
        daily_constants(ind, structure, steps),
        structure,
        steps,
        gcsf.relaxation(theta),
        1.0 / theta["sigma_anc"],
        gcsf_too,
    )


class Week(NamedTuple):
    """What the days of a week leave."""

    state: Any
    """Amount, arrest and chain at its end."""
    strength: Float[Array, "patients"]
    """Share of the full effect of G-CSF at its end."""
    log_anc: Float[Array, "7 patients"]
    """Log of the latent ANC at the start of each day, 10^9/L."""
    arrest: Float[Array, "7 patients"]
    """A at the start of each day."""
    below: Float[Array, "7 patients"]
    """Probability that a count on each day is below 1.0."""
    infection: Float[Array, "7 patients"]
    """Hazard of infection over that without drug and neutropenia (infection.daily_ratio)."""
    tumour_block: Float[Array, "patients"]
    """Mean over the week of a^n/(EC50_T^n + a^n)."""


def week(model: Model, mode, state, strength, doses, supported) -> Week:
    """Return the week that begins in ``state``, with ``doses`` in mg and ``supported`` 1 on days with G-CSF.

    ``mode`` is one of plan.NO_DRUG, DRUG and DRUG_AND_GCSF.
    """
    theta, ind, constants, structure, steps, relaxation, precision, gcsf_too = model
    patients = strength.shape[0]

    def finished(state, strength, blood, arrest, total):
        log_anc = ind.log_anc0 + log(blood)
        below = quick_normal_cdf((LOG_GRADE3 - log_anc) * precision)
        ratio = infection.daily_ratio(log_anc, arrest, theta)
        log_anc, arrest, below, ratio = (jnp.broadcast_to(x, (7, patients)) for x in (log_anc, arrest, below, ratio))
        return Week(state, strength, log_anc, arrest, below, ratio, total / 7.0)

    def seen(state):
        return structure.blood(state[2], ind.marrow), state[1]

    def without_drug(state, strength, doses, supported):
        return finished(state, strength, *seen(state), jnp.zeros(patients))  # all days are the first

    def with_drug(state, strength, doses, supported):
        def one_day(carry, dose):
            state, total = carry
            after, block = day(state, dose, constants, structure, steps)
            return (after, total + block), seen(state)

        (state, total), out = jax.lax.scan(one_day, (state, jnp.zeros(patients)), doses)
        return finished(state, strength, *out, total)

    def with_both(state, strength, doses, supported):
        def one_day(carry, x):
            state, strength, total = carry
            dose, on = x
            strength, mean = gcsf.relax(strength, on, relaxation)
            after, block = day(state, dose, constants, structure, steps, gcsf.effects(mean, theta))
            return (after, strength, total + block), seen(state)

        start = state, strength, jnp.zeros(patients)
        (state, strength, total), out = jax.lax.scan(one_day, start, (doses, supported))
        return finished(state, strength, *out, total)

    ways = (without_drug, with_drug, with_both) if gcsf_too else (without_drug, with_drug)
    return jax.lax.switch(mode, ways, state, strength, doses, supported)
