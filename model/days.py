"""The days of one week of each patient: doses and G-CSF in, ANC, arrest and tumour block out.

What a plan can bring is known before it starts, so the days compute no more than that: nothing without drug, no G-CSF
without a policy. The choice is made at run time, as is that of the neutrophil structure: all are in the compiled program,
but for G-CSF where no plan of the program has it.

In single precision they take half of the time. Its rounding (1e-6 of an ANC in the median, 3e-4 in 1 of 100 patients where the
prior reaches) is below the error of the daily scheme; what comes of the days, hazards and dates, is double again.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import gcsf, infection
from .choice import Choice
from .course import daily_constants, day
from .elementary import log, once
from .individuals import Individuals
from .plan import NO_DRUG
from .precision import cast, in_single
from .probability import quick_normal_cdf
from .rules import LOG_GRADE3


class Model(NamedTuple):
    """What the days need and no day changes."""

    theta: Any
    individuals: Individuals
    constants: Any
    """course.daily_constants."""
    structure: Choice
    steps: int
    relaxation: gcsf.Relaxation
    precision: Float[Array, "patients"]
    """1 / log SD of a count's error."""


def model_of(theta, ind: Individuals, structure: Choice, steps: int, single: bool = False) -> Model:
    """Return what the days of these patients need at ``steps`` integration steps a day; with ``single`` in float32."""
    found = theta, ind, daily_constants(ind, structure, steps), gcsf.relaxation(theta), 1.0 / theta["sigma_anc"]
    theta, ind, constants, relaxation, precision = cast(found, jnp.float32) if single else found
    return Model(theta, ind, constants, structure, steps, relaxation, precision)


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


def week(model: Model, mode, state, strength, doses, supported, with_gcsf: bool = True) -> Week:
    """Return the week that begins in ``state``, with ``doses`` in mg and ``supported`` 1 on days with G-CSF.

    ``mode`` is one of plan.NO_DRUG, DRUG and, ``with_gcsf``, DRUG_AND_GCSF. The precision is the model's; arrays come and go
    in double.
    """
    of = partial(_week, model, mode, with_gcsf)
    given = state, strength, doses, supported
    return of(*given) if model.precision.dtype == jnp.float64 else once(in_single(of, *once(given)))


def _week(model: Model, mode, with_gcsf: bool, state, strength, doses, supported) -> Week:
    theta, ind, constants, choice, steps, relaxation, precision = model
    patients = strength.shape[0]

    def finished(state, strength, blood, arrest, total):
        log_anc = ind.log_anc0 + log(blood)
        below = quick_normal_cdf((LOG_GRADE3 - log_anc) * precision)
        ratio = infection.daily_ratio(log_anc, arrest, theta)
        log_anc, arrest, below, ratio = (jnp.broadcast_to(x, (7, patients)) for x in (log_anc, arrest, below, ratio))
        return Week(state, strength, log_anc, arrest, below, ratio, total / 7.0)

    def without_drug(state, strength, doses, supported):
        # All days are the first.
        return finished(state, strength, choice.blood(state[2], ind.marrow), state[1], jnp.zeros(patients))

    def of(i: int):
        """Return the weeks with drug, without and with G-CSF, of structure ``i``; the chains of others stand still."""
        structure, marrow, own = choice.structures[i], ind.marrow[i], constants._replace(marrow=constants.marrow[i])

        def alone(state):
            return *state[:2], state[2][i]

        def among(state, chains):
            return *state[:2], (*chains[:i], state[2], *chains[i + 1 :])

        def seen(state):
            return structure.blood(state[2], marrow), state[1]

        def with_drug(state, strength, doses, supported):
            def one_day(carry, dose):
                state, total = carry
                after, block = day(state, dose, own, structure, steps)
                return (after, total + block), seen(state)

            (after, total), out = jax.lax.scan(one_day, (alone(state), jnp.zeros(patients)), doses)
            return finished(among(after, state[2]), strength, *out, total)

        def with_both(state, strength, doses, supported):
            def one_day(carry, x):
                state, strength, total = carry
                dose, on = x
                strength, mean = gcsf.relax(strength, on, relaxation)
                after, block = day(state, dose, own, structure, steps, gcsf.effects(mean, theta))
                return (after, strength, total + block), seen(state)

            start = alone(state), strength, jnp.zeros(patients)
            (after, strength, total), out = jax.lax.scan(one_day, start, (doses, supported))
            return finished(among(after, state[2]), strength, *out, total)

        return with_drug, with_both

    weeks = [of(i) for i in range(len(choice.structures))]
    branches = [without_drug, *(w for kind in list(zip(*weeks, strict=True))[: 1 + with_gcsf] for w in kind)]
    at = jnp.where(mode == NO_DRUG, 0, 1 + (mode - 1) * len(weeks) + choice.number)
    return jax.lax.switch(at, branches, state, strength, doses, supported)
