"""The days of one week of each patient: doses and G-CSF in, ANC, arrest and tumour block out.

What a plan can bring is known before it starts, so the days compute no more than that: nothing without drug, no G-CSF
without a policy. The choice is made at run time: all three are in the compiled program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import gcsf
from .course import daily_constants, day
from .individuals import Individuals


class Model(NamedTuple):
    """What the days need and no day changes."""

    theta: Any
    individuals: Individuals
    constants: Any
    """course.daily_constants."""
    structure: Any
    steps: int
    relaxation: gcsf.Relaxation


def model_of(theta, ind: Individuals, structure, steps: int) -> Model:
    """Return what the days of these patients need at ``steps`` integration steps a day."""
    return Model(theta, ind, daily_constants(ind, structure, steps), structure, steps, gcsf.relaxation(theta))


class Week(NamedTuple):
    """What the days of a week leave."""

    state: Any
    """Amount, arrest and chain at its end."""
    strength: Float[Array, "patients"]
    """Share of the full effect of G-CSF at its end."""
    blood: Float[Array, "7 patients"]
    """C = ANC / ANC0 at the start of each day."""
    arrest: Float[Array, "7 patients"]
    tumour_block: Float[Array, "patients"]
    """Mean over the week of a^n/(EC50_T^n + a^n)."""


def week(model: Model, mode, state, strength, doses, supported) -> Week:
    """Return the week that begins in ``state``, with ``doses`` in mg and ``supported`` 1 on days with G-CSF.

    ``mode`` is one of plan.NO_DRUG, DRUG and DRUG_AND_GCSF.
    """
    theta, ind, constants, structure, steps, relaxation = model
    patients = strength.shape[0]

    def seen(state):
        return structure.blood(state[2], ind.marrow), state[1]

    def without_drug(state, strength, doses, supported):
        blood, arrest = (jnp.broadcast_to(x, (7, patients)) for x in seen(state))
        return Week(state, strength, blood, arrest, jnp.zeros(patients))

    def with_drug(state, strength, doses, supported):
        def one_day(carry, dose):
            state, total = carry
            after, block = day(state, dose, constants, structure, steps)
            return (after, total + block), seen(state)

        (state, total), out = jax.lax.scan(one_day, (state, jnp.zeros(patients)), doses)
        return Week(state, strength, *out, total / 7.0)

    def with_both(state, strength, doses, supported):
        def one_day(carry, x):
            state, strength, total = carry
            dose, on = x
            strength, mean = gcsf.relax(strength, on, relaxation)
            after, block = day(state, dose, constants, structure, steps, gcsf.effects(mean, theta))
            return (after, strength, total + block), seen(state)

        start = state, strength, jnp.zeros(patients)
        (state, strength, total), out = jax.lax.scan(one_day, start, (doses, supported))
        return Week(state, strength, *out, total / 7.0)

    return jax.lax.switch(mode, (without_drug, with_drug, with_both), state, strength, doses, supported)
