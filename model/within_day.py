"""The Friberg-Karlsson course in hours, driven by a drug's concentration: in closed form, or given and constant in each step.

Steps are those of mesh.py. Within a step the amounts are exact (disposition.py); the marrow takes the step of friberg.py
with the exact mean of the drug's effect over both its parts, by quadrature. Between the ends of steps counts are a cubic
through values and slopes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import friberg
from .disposition import Amounts, Rates, decayed, infused, plus, transition
from .dosing_events import steady_trough
from .mesh import Mesh, Read
from .relaxation import TR_SHARE

NODES = 4
"""Points of the quadrature in each part of a step."""
UNROLL = 4
"""Steps of the scan that are compiled as one."""
Effect = Callable[[Any], Any]
"""Concentration -> effect on proliferation, 0 to 1."""


def linear(slope) -> Effect:
    """Return the effect min(1, slope x concentration)."""
    return lambda c: jnp.minimum(slope * c, 1.0)


def emax(largest, ec50, hill=1.0) -> Effect:
    """Return the effect largest c^hill / (ec50^hill + c^hill)."""

    def of(c):
        # From the logarithm, whose gradient is finite where there is no drug.
        x = hill * (jnp.log(jnp.maximum(c, 1e-30)) - jnp.log(ec50))
        return largest * jax.nn.sigmoid(x)

    return of


class Course(NamedTuple):
    """States at the beginning of each step, shape ``steps patients``, after what it was given."""

    amounts: Amounts | None
    """None where the concentration is given."""
    blood: Float[Array, "steps patients"]
    """C = ANC / ANC0."""
    slope: Float[Array, "steps patients"]
    """Of C, 1/h."""


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return points in a step (shares of it) and the weights of the means over its two parts, shape ``2 points``.

    The first part follows a dose, so its points crowd at its beginning: Gauss-Legendre in the square root of time.
    """
    x, w = np.polynomial.legendre.leggauss(NODES)
    x, w = 0.5 * (x + 1.0), 0.5 * w
    first, second = TR_SHARE * x**2, TR_SHARE + (1.0 - TR_SHARE) * x
    weights = np.zeros((2, 2 * NODES))
    weights[0, :NODES], weights[1, NODES:] = 2.0 * x * w, w
    return np.concatenate([first, second]), weights


def course(m: Mesh, r: Rates, volume, effect: Effect, marrow: friberg.Marrow, infusions: bool = True) -> Course:
    """Return the course of every patient.

    The drug does not feel the marrow, so its amounts at all steps, and the effect within them, come first and side by side;
    what they need is computed once for each distinct length of step (regular dosing has few).

    Parameters
    ----------
    r: rate constants, 1/h, shape ``patients`` each.
    volume: of the central compartment, L.
    effect: of the concentration (amount / volume) on proliferation.
    marrow: rates in 1/h, shape ``patients``.
    infusions: whether any dose is one.
    """
    patients = m.length.shape[1]
    share, weights = _nodes()
    kinds = jnp.asarray(m.kinds)
    at = kinds[:, None, :] * share[:, None]  # kinds nodes patients
    over, within = transition(r, kinds), transition(r, at)
    to_central = within.depot_to_central, within.central, within.peripheral_to_central
    infused_over, infused_within = (infused(1.0, r, kinds), infused(1.0, r, at).central) if infusions else (None, None)
    by_step = jax.tree.map(lambda x: x[m.kind], (over, infused_over, to_central, infused_within))
    over, infused_over, to_central, infused_within = by_step

    def carry(drug: Amounts, xs):
        given, rate, keep, over, infused_over = xs
        drug = Amounts(*(x * keep + y for x, y in zip(drug, given, strict=True)))
        after = over.of(drug)
        if infused_over is not None:
            after = plus(after, Amounts(*(rate * x for x in infused_over)))
        return after, drug

    none = jnp.zeros(patients)
    given, rate, keep = _given(m, r), jnp.asarray(m.rate), jnp.asarray(m.keep)
    _, drug = jax.lax.scan(carry, Amounts(none, none, none), (given, rate, keep, over, infused_over))
    inside = sum(x[:, None] * w for x, w in zip(drug, to_central, strict=True))
    if infusions:
        inside += rate[:, None] * infused_within
    e = effect(inside / volume)
    first, second = (sum(float(w) * e[:, i] for i, w in enumerate(row) if w) for row in weights)
    return Course(drug, *_blood(m, first, second, marrow))


def driven(m: Mesh, effect: Effect, marrow: friberg.Marrow) -> Course:
    """Return the course of every patient under the concentration that is given (``m.level``); arguments as in ``course``."""
    e = effect(jnp.asarray(m.level))
    return Course(None, *_blood(m, e, e, marrow))


def _blood(m: Mesh, first, second, marrow: friberg.Marrow) -> tuple[Array, Array]:
    """Return C and its slope at the beginning of each step, given the mean effects over both parts of each step."""

    def step(chain, xs):
        h, keep, first, second = xs
        chain = jax.tree.map(lambda a, b: keep * a + (1.0 - keep) * b, chain, full)
        slope = marrow.k_transit * (chain.t3 - chain.blood)
        return friberg.step(chain, 0.0, (first, second), 0.0, marrow, h), (chain.blood, slope)

    full = friberg.baseline(marrow, (m.length.shape[1],))
    xs = jnp.asarray(m.length), jnp.asarray(m.keep), first, second
    return jax.lax.scan(step, full, xs, unroll=UNROLL)[1]


def _given(m: Mesh, r: Rates) -> Amounts:
    """Return what each step begins with besides what the one before it left: doses, steady states."""
    depot, central = jnp.asarray(m.to_depot), jnp.asarray(m.to_central)
    peripheral = jnp.zeros_like(depot)
    if m.steady is not None:
        s = m.steady
        amount, duration, interval, to_central = (jnp.asarray(x) for x in s[1:])
        trough = steady_trough(amount, duration, to_central, r, interval)
        at = s.step, np.arange(depot.shape[1])
        depot, central, peripheral = (
            x.at[at].add(y) for x, y in zip((depot, central, peripheral), trough, strict=True)
        )
    return Amounts(depot, central, peripheral)


def concentrations(
    c: Course, m: Mesh, read: Read, r: Rates, volume, infusions: bool
) -> Float[Array, "patients observations"]:
    """Return the concentration in central at each observation; arguments as in ``course``.

    ``infusions`` tells whether any dose is one.
    """
    assert c.amounts is not None
    who = np.arange(read.step.shape[0])[:, None]
    a = Amounts(*(x[read.step, who] for x in c.amounts))
    by_patient = Rates(*(jnp.asarray(x)[..., None] for x in r))
    central = decayed(a, by_patient, read.elapsed).central
    if infusions:
        central = central + infused(jnp.asarray(m.rate)[read.step, who], by_patient, read.elapsed).central
    return jnp.asarray(read.given) * central / jnp.asarray(volume)[..., None]


def blood_at(c: Course, m: Mesh, read: Read) -> Float[Array, "patients observations"]:
    """Return C = ANC / ANC0 at each observation."""
    who = np.arange(read.step.shape[0])[:, None]
    before, after = (read.step, who), (read.step + 1, who)
    h = jnp.asarray(m.length)[before]
    s = read.elapsed / h
    y0, y1, d0, d1 = c.blood[before], c.blood[after], c.slope[before], c.slope[after]
    a, b = h * d0 - (y1 - y0), (y1 - y0) - h * d1
    level = y0 + s * (y1 - y0) + s * (1.0 - s) * ((1.0 - s) * a + s * b)
    return 1.0 + jnp.asarray(read.given) * (level - 1.0)
