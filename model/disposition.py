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
_NEAR = 2e-2
"""The same of two nodes."""


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
    """Return the rate constants of clearance ``cl`` (L/h), volumes ``v1``, ``v2`` (L), intercompartmental clearance ``q``.

    With one compartment (``q`` 0) nothing is in the periphery and k21 is free: above k10, where nothing cancels.
    """
    one = jnp.ones_like(jnp.asarray(cl) / v1)
    back = q / v2 * one
    return Rates(ka * one, cl / v1, q / v1 * one, jnp.where(back > 0.0, back, 2.0 * cl / v1))


def eigenvalues(r: Rates):
    """Return alpha >= beta > 0, beta without cancellation: k10 k21 / alpha."""
    total = r.k10 + r.k12 + r.k21
    root = jnp.sqrt(jnp.maximum((r.k10 + r.k12 - r.k21) ** 2 + 4.0 * r.k12 * r.k21, 1e-30))
    alpha = 0.5 * (total + root)
    return alpha, r.k10 * r.k21 / alpha


def _series(a):
    """Return (1 - e^-a) / a by its series, for a below ``_NEAR``."""
    return 1.0 - a / 2.0 * (1.0 - a / 3.0 * (1.0 - a / 4.0 * (1.0 - a / 5.0 * (1.0 - a / 6.0 * (1.0 - a / 7.0)))))


def _difference(x, y, t, of_x, of_y):
    """Return (e^(-x t) - e^(-y t)) / (y - x) for x <= y from both exponentials, without cancellation where they are near."""
    a = (y - x) * t
    near = a < _NEAR
    far = jnp.where(near, 1.0, y - x)
    return jnp.where(near, of_x * t * _series(jnp.where(near, a, 0.0)), (of_x - of_y) / far)


def two_nodes(x, y, t):
    """Return the integral of e^(-x (t - s)) e^(-y s) over s from 0 to t: (e^(-y t) - e^(-x t)) / (x - y)."""
    low, high = jnp.minimum(x, y), jnp.maximum(x, y)
    return _difference(low, high, t, jnp.exp(-low * t), jnp.exp(-high * t))


class Differences(NamedTuple):
    """Divided differences of e^(-x t) at three nodes x, by size."""

    low: Array
    """e^(-low t)."""
    middle: Array
    high: Array
    low_middle: Array
    """(e^(-low t) - e^(-middle t)) / (middle - low)."""
    low_high: Array
    all_three: Array
    """(low_middle - middle_high) / (high - low): the convolution of the three exponentials."""
    middle_high: Array


def differences(low, middle, high, t) -> Differences:
    """Return the divided differences at ``low`` <= ``middle`` <= ``high``."""
    of_low, of_middle, of_high = (jnp.exp(-x * t) for x in (low, middle, high))
    first = _difference(low, middle, t, of_low, of_middle)
    second = _difference(middle, high, t, of_middle, of_high)
    outer = _difference(low, high, t, of_low, of_high)
    spread = high - low
    close = spread * t < _SMALL
    far = (first - second) / jnp.where(close, 1.0, spread)
    mean = (low + middle + high) / 3.0
    a, b, c = (jnp.where(close, (x - mean) * t, 0.0) for x in (low, middle, high))
    # Moments of a uniform mixture of the nodes (Dirichlet 1, 1, 1): variance, third and fourth central moments.
    square = a * a + b * b + c * c
    third, fourth = (a**3 + b**3 + c**3) / 30.0, square * square / 60.0
    series = 0.5 * t * t * jnp.exp(-mean * t) * (1.0 + square / 24.0 - third / 6.0 + fourth / 24.0)
    return Differences(of_low, of_middle, of_high, first, outer, jnp.where(close, series, far), second)


def three_nodes(x, y, z, t):
    """Return (two_nodes(x, z) - two_nodes(y, z)) / (y - x): the convolution of three exponentials, symmetric in x, y, z."""
    low = jnp.minimum(jnp.minimum(x, y), z)
    high = jnp.maximum(jnp.maximum(x, y), z)
    return differences(low, x + y + z - low - high, high, t).all_three


def _central_and_peripheral(first, second, r: Rates, beta) -> tuple[Array, Array]:
    """Return first e1 + second (K + beta I) e1, e1 the unit amount in central."""
    return first + (beta - r.k10 - r.k12) * second, r.k12 * second


class Transition(NamedTuple):
    """What a unit in each compartment makes of each, a time later; nothing returns to the depot."""

    depot: Array
    depot_to_central: Array
    depot_to_peripheral: Array
    central: Array
    central_to_peripheral: Array
    peripheral_to_central: Array
    peripheral: Array

    def of(self, a: Amounts) -> Amounts:
        """Return what ``a`` becomes."""
        return Amounts(
            self.depot * a.depot,
            self.depot_to_central * a.depot + self.central * a.central + self.peripheral_to_central * a.peripheral,
            self.depot_to_peripheral * a.depot
            + self.central_to_peripheral * a.central
            + self.peripheral * a.peripheral,
        )


def transition(r: Rates, t) -> Transition:
    """Return what amounts become in a time ``t`` (h) without input: three exponentials serve all of it."""
    alpha, beta = eigenvalues(r)
    slow, fast = r.ka < beta, r.ka > alpha  # absorption is the slowest or the fastest of the three; else between
    middle = jnp.where(slow, beta, jnp.where(fast, alpha, r.ka))
    # Not minimum and maximum: where two nodes coincide these halve their gradients.
    d = differences(jnp.where(slow, r.ka, beta), middle, jnp.where(fast, r.ka, alpha), t)
    of_beta = jnp.where(slow, d.middle, d.low)
    disposition = jnp.where(slow, d.middle_high, jnp.where(fast, d.low_middle, d.low_high))  # nodes alpha, beta
    absorption = jnp.where(fast, d.low_high, d.low_middle)  # nodes beta, ka
    central, to_peripheral = _central_and_peripheral(of_beta, disposition, r, beta)
    absorbed = _central_and_peripheral(absorption, d.all_three, r, beta)
    return Transition(
        depot=jnp.where(slow, d.low, jnp.where(fast, d.high, d.middle)),
        depot_to_central=r.ka * absorbed[0],
        depot_to_peripheral=r.ka * absorbed[1],
        central=central,
        central_to_peripheral=to_peripheral,
        peripheral_to_central=r.k21 * disposition,
        peripheral=of_beta + disposition * (beta - r.k21),
    )


def decayed(a: Amounts, r: Rates, t) -> Amounts:
    """Return the amounts a time ``t`` (h) later without further input."""
    return transition(r, t).of(a)


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
