"""One log-density of one patient, by the package's daily scan and by diffrax: 52 weeks of full doses, 51 weekly counts.

A patient has 12 parameters ``w`` on the working scale, in the order of NAMES. The log-density is that of the counts (log-normal
error) and of a normal prior. Solvers of the same equations differ in time and in the error of their log-density.
"""

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from mezikd.model import delivered, neutrophils
from mezikd.model.exposure import LN2, Block
from mezikd.model.individuals import Individuals
from mezikd.model.parameters import DECLARED
from mezikd.model.patients import virtual_cohort

NAMES = (
    "exposure", "half_life_hours", "ec50", "hill", "emax", "ikaros_half_life_days", "blood_half_life_hours", "reserve_ratio",
    "saturation", "feedback", "anc0", "sigma_anc",
)  # fmt: skip
"""All on the log scale but ``emax`` (logit)."""
WEEKS, SEED = 52, 5
AT = np.arange(7, 7 * WEEKS, 7)
"""Days of the counts: end of the day before, before the dose."""
BY_NAME = {p.name: p for p in DECLARED}
K_DEATH, THETA = BY_NAME["cell_death"].centre, BY_NAME["theta"].centre


def _reference():
    """Return the independent solution of tests/model."""
    path = Path(__file__).parents[1] / "model" / "reference.py"
    spec = importlib.util.spec_from_file_location("bench_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = _reference()
DOSES = np.asarray(reference.regimen(WEEKS // 4))


class Prior(NamedTuple):
    """Normal prior of ``w``."""

    centre: np.ndarray
    spread: np.ndarray


def prior() -> Prior:
    """Return the declared prior; exposure is relative to a typical patient's."""
    known = [BY_NAME[n] for n in NAMES[1:]]
    sd = BY_NAME["exposure_sd"].centre
    return Prior(
        np.array([0.0, *(float(p.to_working(p.centre)) for p in known)]), np.array([sd, *(p.spread for p in known)])
    )


def patients(count: int) -> np.ndarray:
    """Return ``w`` of virtual patients under the prior's medians, shape ``(count, 12)``."""
    z = np.asarray(virtual_cohort(count, np.array([1, 1, 1, 1]), SEED).z)
    w = np.tile(prior().centre, (count, 1))
    for name, i, sd, sign in (
        ("exposure", 0, "exposure_sd", 1.0), ("anc0", 1, "anc0_sd", 1.0), ("blood_half_life_hours", 2, "maturation_sd", -1.0)
    ):  # fmt: skip
        w[:, NAMES.index(name)] += sign * BY_NAME[sd].centre * z[i]
    return w


def individuals(w) -> Individuals:
    """Return the package's parameters of patients ``w``, shape ``(patients, 12)``."""
    x = dict(zip(NAMES, w.T, strict=True))
    one = jnp.ones(w.shape[0])
    block = Block(jax.nn.sigmoid(x["emax"]), x["ec50"], jnp.exp(x["hill"]), 24.0 * LN2 * jnp.exp(-x["half_life_hours"]))
    marrow = neutrophils.Marrow(
        24.0 * LN2 * jnp.exp(-x["blood_half_life_hours"]), K_DEATH * one, jnp.exp(x["reserve_ratio"]),
        jnp.exp(x["saturation"]), jnp.exp(x["feedback"]), THETA * one,
    )  # fmt: skip
    return Individuals(
        x["exposure"], block, 0.0 * one, LN2 * jnp.exp(-x["ikaros_half_life_days"]), marrow, x["anc0"], one, one, one
    )


def log_density_of(w, log_blood, log_value):
    """Return each patient's log-density, given log(ANC/ANC0) at the counts, ``(patients, counts)``."""
    p, sigma = prior(), jnp.exp(w[:, -1:])
    x = (log_value - w[:, NAMES.index("anc0")][:, None] - log_blood) / sigma
    counts = (-0.5 * x * x - jnp.log(sigma) - 0.5 * np.log(2.0 * np.pi)).sum(axis=1)
    u = (w - p.centre) / p.spread
    return counts + (-0.5 * u * u - np.log(p.spread) - 0.5 * np.log(2.0 * np.pi)).sum(axis=1)


def ours(w, log_value):
    """Return the log-densities by the package's daily scan (model/delivered.py)."""
    n = w.shape[0]
    zero, one = jnp.zeros(n), jnp.ones(n)
    dose = jnp.broadcast_to(jnp.asarray(DOSES).reshape(WEEKS, 7, 1), (WEEKS, 7, n))
    ledger = delivered.Ledger(dose, 1e9 * one, zero, zero, zero, zero)
    rates = delivered.Rates(one, zero, zero, zero, one, one, zero, one, jnp.ones((WEEKS, n)))
    followed = delivered.follow(individuals(w), rates, ledger, neutrophils)
    return log_density_of(w, followed.log_blood[AT].T, log_value)


def case_of(w):
    """Return the same patients for the reference."""
    i = individuals(w)
    b = i.block
    drug = reference.Drug(b.k, jnp.exp(b.log_ec50), b.hill, b.emax, i.k_ikaros, jnp.exp(i.log_exposure))
    return reference.Case(drug, i.marrow)


def positive_arrest_model(t, y, args):
    """The reference's equations; a trial step that is too long may not leave NaN for the reverse pass."""
    return reference.arrest_model(t, jnp.maximum(y, 1e-9), args)


def solved(w, rtol, solver, tight: bool = False):
    """Return log(ANC/ANC0) at the counts, ``(patients, counts)``, by diffrax: all patients as one system, jumps at the doses.

    ``rtol`` may be traced, so that one program serves all. ``tight``: the worst of all errors is held to it, for the exact solution.
    """
    case = case_of(w)
    shape = case.drug.exposure.shape
    y0 = jnp.stack([jnp.zeros(shape), *[jnp.ones(shape)] * 4, (1.0 + case.marrow.reserve) * jnp.ones(shape)])
    norm = {"norm": optimistix.max_norm} if tight else {}
    atol = (0.01 if tight else 0.1) * rtol
    y = diffrax.diffeqsolve(
        diffrax.ODETerm(positive_arrest_model),
        solver,
        0.0,
        float(AT[-1]),
        0.1,
        y0,
        (case, reference.amounts(case.drug, DOSES)),
        saveat=diffrax.SaveAt(ts=jnp.asarray(AT, float)),
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=rtol, atol=atol, **norm), jump_ts=jnp.arange(1.0, float(AT[-1]))
        ),
        max_steps=1 << 17 if tight else 8192,
    ).ys
    assert y is not None
    return jnp.log(reference.smooth_minimum(y[:, 5], case.marrow.reserve, case.marrow.theta)).T


def by_diffrax(w, log_value, rtol, solver, alone: bool):
    """Return the log-densities by diffrax: each patient with steps of its own (``alone``), or all with the same."""
    one_by_one = jax.vmap(lambda one: solved(one[None], rtol, solver)[0])
    return log_density_of(w, one_by_one(w) if alone else solved(w, rtol, solver), log_value)


def exact(w):
    """Return log(ANC/ANC0) at the counts, to about 1e-9."""
    return jax.jit(lambda w: solved(w, 1e-10, diffrax.Dopri8(), tight=True))(w)
