"""Amounts of a drug in closed form: one or two compartments, first-order absorption or infusion.

States: depot g, central c, peripheral p::

    g' = -ka g      c' = ka g + R - (k10 + k12) c + k21 p      p' = k12 c - k21 p

With the eigenvalues alpha >= beta of the disposition matrix -K the exponential is (Newton form)

    exp(K t) = e^(-beta t) I + (K + beta I) F[alpha, beta](t)

and absorption and infusion add one more node, ka or 0, to the divided differences F of exp(-x t). These are computed
without cancellation wherever nodes coincide (ka near an eigenvalue, alpha near beta), so values and gradients are finite
for every positive rate.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALL = 2e-2
"""Spread of three nodes times t below which their divided difference is a series."""


class Rates(NamedTuple):
    """Rate constants, 1/h; every field broadcasts over the others."""

    ka: Float[Array, "*#shape"]
    """Absorption."""
    k10: Float[Array, "*#shape"]
    """Elimination from central."""
    k12: Float[Array, "*#shape"]
    """Central to peripheral; 0 for one compartment."""
    k21: Float[Array, "*#shape"]
    """Peripheral to central; above 0."""


class Amounts(NamedTuple):
    """Amount of drug in each compartment, in the unit of the dose."""

    depot: Float[Array, "*shape"]
    central: Float[Array, "*shape"]
    peripheral: Float[Array, "*shape"]


def rates(ka, cl, v1, q=0.0, v2=1.0) -> Rates:
    """Return the rate constants of clearance ``cl`` (L/h), volumes ``v1``, ``v2`` (L), intercompartmental clearance ``q``."""
    one = jnp.ones_like(jnp.asarray(cl) / v1)
    return Rates(ka * one, cl / v1, q / v1 * one, jnp.maximum(q / v2 * one, 1e-12))


def eigenvalues(r: Rates):
    """Return alpha >= beta > 0, beta without cancellation: k10 k21 / alpha."""
    total = r.k10 + r.k12 + r.k21
    root = jnp.sqrt(jnp.maximum((r.k10 + r.k12 - r.k21) ** 2 + 4.0 * r.k12 * r.k21, 1e-30))
    alpha = 0.5 * (total + root)
    return alpha, r.k10 * r.k21 / alpha


def _phi(u):
    """Return (e^u - 1) / u, 1 at 0."""
    small = jnp.abs(u) < 1e-5
    safe = jnp.where(small, 1.0, u)
    return jnp.where(small, 1.0 + u * (0.5 + u / 6.0), jnp.expm1(safe) / safe)


def two_nodes(x, y, t):
    """Return the integral of e^(-x (t - s)) e^(-y s) over s from 0 to t: (e^(-y t) - e^(-x t)) / (x - y)."""
    low, high = jnp.minimum(x, y), jnp.maximum(x, y)
    return jnp.exp(-low * t) * t * _phi(-(high - low) * t)


def three_nodes(x, y, z, t):
    """Return (two_nodes(x, z) - two_nodes(y, z)) / (y - x): the convolution of three exponentials, symmetric in x, y, z."""
    low = jnp.minimum(jnp.minimum(x, y), z)
    high = jnp.maximum(jnp.maximum(x, y), z)
    middle = x + y + z - low - high
    spread = high - low
    close = spread * t < _SMALL
    safe = jnp.where(close, 1.0, spread)
    far = (two_nodes(low, middle, t) - two_nodes(middle, high, t)) / safe
    mean = (x + y + z) / 3.0
    a, b, c = ((n - mean) * t for n in (x, y, z))
    # Moments of a uniform mixture of the nodes (Dirichlet 1, 1, 1): variance, third and fourth central moments.
    second, third = (a * a + b * b + c * c) / 12.0, (a**3 + b**3 + c**3) / 30.0
    fourth = (a * a + b * b + c * c) ** 2 / 60.0
    series = 0.5 * t * t * jnp.exp(-mean * t) * (1.0 + second / 2.0 - third / 6.0 + fourth / 24.0)
    return jnp.where(close, series, far)


def _central_and_peripheral(first, second, r: Rates, beta) -> tuple[Array, Array]:
    """Return first e1 + second (K + beta I) e1, e1 the unit amount in central."""
    return first + (beta - r.k10 - r.k12) * second, r.k12 * second


def decayed(a: Amounts, r: Rates, t) -> Amounts:
    """Return the amounts a time ``t`` (h) later without further input."""
    alpha, beta = eigenvalues(r)
    first, second = jnp.exp(-beta * t), two_nodes(alpha, beta, t)
    c, p = a.central, a.peripheral
    central = first * c + second * ((beta - r.k10 - r.k12) * c + r.k21 * p)
    peripheral = first * p + second * (r.k12 * c + (beta - r.k21) * p)
    from_depot = _central_and_peripheral(two_nodes(beta, r.ka, t), three_nodes(alpha, beta, r.ka, t), r, beta)
    absorbed = r.ka * a.depot
    return Amounts(
        a.depot * jnp.exp(-r.ka * t), central + absorbed * from_depot[0], peripheral + absorbed * from_depot[1]
    )


def infused(rate, r: Rates, t) -> Amounts:
    """Return the amounts after an infusion of ``rate`` (amount/h) into central for a time ``t`` (h), from none."""
    alpha, beta = eigenvalues(r)
    zero = jnp.zeros_like(beta)
    c, p = _central_and_peripheral(two_nodes(beta, zero, t), three_nodes(alpha, beta, zero, t), r, beta)
    return Amounts(jnp.zeros_like(rate * c), rate * c, rate * p)


def plus(a: Amounts, b: Amounts) -> Amounts:
    """Return the sum of two sets of amounts: the model is linear."""
    return Amounts(*(x + y for x, y in zip(a, b, strict=True)))


def repeated(end: Amounts, r: Rates, interval) -> Amounts:
    """Return the steady state of a cycle of ``interval`` h: the amounts S = E S + end with E the decay over a cycle.

    ``end`` holds the amounts that one cycle's own input leaves at its end.
    """
    depot = end.depot / -jnp.expm1(-r.ka * interval)
    alpha, beta = eigenvalues(r)
    carried = decayed(Amounts(depot, jnp.zeros_like(depot), jnp.zeros_like(depot)), r, interval)
    c, p = end.central + carried.central, end.peripheral + carried.peripheral
    # (I - exp(K T))^-1 is a polynomial in K: I - E = (1 - e^(-beta T)) I - F (K + beta I), eigenvalues 1 - e^(-alpha T) and
    # 1 - e^(-beta T); its inverse by Cayley-Hamilton.
    one_a, one_b = -jnp.expm1(-alpha * interval), -jnp.expm1(-beta * interval)
    f = two_nodes(alpha, beta, interval)
    kc = (beta - r.k10 - r.k12) * c + r.k21 * p
    kp = r.k12 * c + (beta - r.k21) * p
    # On the beta space K + beta I is 0, on the alpha space beta - alpha: (1 / one_b) I + x (K + beta I).
    x = f / (one_a * one_b)
    return Amounts(depot, c / one_b + x * kc, p / one_b + x * kp)
