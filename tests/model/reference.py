"""An independent solution of the arrest model, and the cases on which schemes are compared.

The equations are typed again from the design (continuous time, PK within the day, the proliferating pool
rather than its log) and handed to diffrax, so that an error in the package's scheme cannot hide here.
"""

from functools import partial
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optimistix
from mezikd.model import neutrophils, relaxation

LN2 = 0.6931471805599453


class Drug(NamedTuple):
    """From dose to block; every field broadcasts over patients."""

    k: jax.Array
    """Elimination of the drug, 1/day."""
    ec50: jax.Array
    """Amount at half the largest block, in units of the amount after one 1 mg dose."""
    hill: jax.Array
    emax: jax.Array
    k_ikaros: jax.Array
    """Resynthesis of Ikaros, 1/day."""
    exposure: jax.Array
    """Amount after a first 1 mg dose: 1 in a typical patient."""


class Case(NamedTuple):
    """One draw of the parameters with its patients (last axis)."""

    drug: Drug
    marrow: neutrophils.Marrow


def prior_cases(seed: int, draws: int, patients: int, spread: float = 1.0) -> Case:
    """Return cases from the prior, SDs times ``spread``; fields are ``draws 1`` or ``draws patients``."""
    keys = iter(jax.random.split(jax.random.key(seed), 11))

    def draw(shape=(draws, 1)):
        return spread * jax.random.normal(next(keys), shape)

    between = (draws, patients)
    drug = Drug(
        k=LN2 * 24.0 / (10.0 * jnp.exp(0.4 * draw())),
        ec50=0.25 * jnp.exp(0.7 * draw()),
        hill=2.0 * jnp.exp(0.25 * draw()),
        emax=jax.nn.sigmoid(jnp.log(9.0) + 0.5 * draw()),
        k_ikaros=LN2 / (0.9 * jnp.exp(0.35 * draw())),
        exposure=jnp.exp(0.45 * draw(between)),
    )
    full = jnp.ones((draws, 1))
    marrow = neutrophils.Marrow(
        k_circ=LN2 * 24.0 / (30.0 * jnp.exp(0.15 * draw() + 0.15 * draw(between))),
        k_death=0.024 * full,
        reserve=2.5 * jnp.exp(0.3 * draw()),
        saturation=0.25 * jnp.exp(0.6 * draw()),
        feedback=0.012 * jnp.exp(0.5 * draw()),
        theta=0.97 * full,
    )
    return Case(drug, marrow)


def take(case: Case, draw: int) -> Case:
    """Return one draw of the cases."""
    return jax.tree.map(lambda x: x[draw], case)


def regimen(cycles: int, on: int = 21, length: int = 28) -> jax.Array:
    """Return the dose of each day, mg: 1 on days 1 to ``on`` of every cycle."""
    return jnp.tile(jnp.where(jnp.arange(length) < on, 1.0, 0.0), cycles)


def amounts(drug: Drug, doses) -> jax.Array:
    """Return the amount just after the dose of each day, ``days patients``."""

    def day(left, dose):
        after = left + dose * drug.exposure
        return after * jnp.exp(-drug.k), after

    return jax.lax.scan(day, jnp.zeros_like(drug.exposure), doses)[1]


def block(drug: Drug, amount):
    """Return B, the block at an amount."""
    x = (amount / drug.ec50) ** drug.hill
    return drug.emax * x / (1.0 + x)


def log_power(drug: Drug, amount):
    """Return n ln(a/EC50); an amount of 0 stands for a trace of drug."""
    return drug.hill * (jnp.log(jnp.maximum(amount, 1e-300)) - jnp.log(drug.ec50))


def mean_block(drug: Drug, log_x, h: float):
    """Return the exact mean of B over ``h`` days of decay from ``log_x`` = n ln(a/EC50)."""
    nkh = drug.hill * drug.k * h
    return drug.emax / nkh * (jax.nn.softplus(log_x) - jax.nn.softplus(log_x - nkh))


def smooth_minimum(mature, reserve, theta):
    """Return C, the smaller root of theta C^2 - (M + b) C + M b = 0."""
    b = (1.0 + reserve - theta) / reserve
    s = mature + b
    return (s - jnp.sqrt(s**2 - 4.0 * theta * mature * b)) / (2.0 * theta)


def arrest_model(t, y, args):
    """The right-hand side of model.md, section 3, with the within-day block; time in days."""
    case, after_dose = args
    drug, marrow = case
    today = jnp.clip(jnp.floor(t).astype(int), 0, after_dose.shape[0] - 1)
    b_t = block(drug, after_dose[today] * jnp.exp(-drug.k * (t - today)))
    a, p, t1, t2, t3, m = y
    kd, rho, ksat = marrow.k_death, marrow.reserve, marrow.saturation
    f0 = marrow.k_circ + kd * rho
    phi = (f0 + kd) * (ksat + 1.0) * (1.0 - a) * t2 / (ksat + t2)
    c = smooth_minimum(m, rho, marrow.theta)
    return jnp.stack(
        [
            drug.k_ikaros * (b_t - a),
            (f0 + 3.0 * kd) * p * ((1.0 / t2) ** marrow.feedback - 1.0),
            (f0 + 3.0 * kd) * (p - t1),
            (f0 + 2.0 * kd) * t1 - phi - kd * t2,
            phi - (f0 + kd) * t3,
            f0 * t3 - kd * (m - c) - marrow.k_circ * c,
        ]
    )


def solve(rhs, y0, args, days: int, rtol: float = 1e-8, atol: float = 1e-10):
    """Return the solution of ``rhs``, which may jump at whole days, at the end of days 1 to ``days``."""
    ends = jnp.arange(1.0, days + 1.0)
    # The largest error over patients is held to the tolerance: a root mean square would let the hard one go.
    controller = diffrax.PIDController(rtol=rtol, atol=atol, norm=optimistix.max_norm)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(rhs),
        diffrax.Dopri8(),
        0.0,
        float(days),
        0.01,
        y0,
        args,
        saveat=diffrax.SaveAt(ts=ends),
        stepsize_controller=diffrax.ClipStepSizeController(controller, jump_ts=ends[:-1]),
        max_steps=1_000_000,
    ).ys


@jax.jit
def reference_course(case: Case, doses):
    """Return C = ANC/ANC0 at the end of each day, ``days patients``, in continuous time."""
    shape = case.drug.exposure.shape
    y0 = jnp.stack([jnp.zeros(shape), *[jnp.ones(shape)] * 4, (1.0 + case.marrow.reserve) * jnp.ones(shape)])
    y = solve(arrest_model, y0, (case, amounts(case.drug, doses)), doses.shape[0])
    return smooth_minimum(y[:, 5], case.marrow.reserve, case.marrow.theta)


def arrest_after(arrest, block, k_ikaros, h: float):
    """Return the arrest A after a step of ``h`` days, given the mean block over it or the pair of means of its stages."""
    first, second = block if isinstance(block, tuple) else (block, block)
    return relaxation.arrest_later(arrest, first, second, relaxation.relaxation(k_ikaros, h))


def stepped_course(case: Case, doses, steps_per_day: int = 1, chain=neutrophils, paired: bool = True):
    """Return C at the end of each day of whole weeks, ``days patients``, by a model's ``step``; exact blocks.

    ``paired``: hand the step its two means (as the package does), else one mean of the whole step.
    """
    drug, marrow = case
    h, share = 1.0 / steps_per_day, relaxation.TR_SHARE
    shape = drug.exposure.shape
    nk = drug.hill * drug.k
    log_x = log_power(drug, amounts(drug, doses))[:, None] - nk * h * jnp.arange(steps_per_day)[:, None]
    log_x = log_x.reshape(-1, *shape)
    if paired:
        later = log_x - nk * share * h
        block = mean_block(drug, log_x, share * h), mean_block(drug, later, (1.0 - share) * h)
    else:
        block = mean_block(drug, log_x, h)

    def step(carry, block):
        arrest, state = carry
        state = chain.step(state, arrest, block, drug.k_ikaros, marrow, h)
        arrest = arrest_after(arrest, block, drug.k_ikaros, h)
        return (arrest, state), chain.blood(state, marrow)

    # Weeks are recomputed in the reverse pass, as in the package: faster, and what is timed is what runs.
    @partial(jax.checkpoint, prevent_cse=False)
    def week(carry, blocks):
        return jax.lax.scan(step, carry, blocks)

    start = (jnp.zeros(shape), chain.baseline(marrow, shape))
    weeks = jax.tree.map(lambda x: x.reshape(-1, 7 * steps_per_day, *shape), block)
    course = jax.lax.scan(week, start, weeks)[1]
    return course.reshape(-1, *shape)[steps_per_day - 1 :: steps_per_day]
