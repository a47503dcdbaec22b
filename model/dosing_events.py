"""Dosing records to amounts at observation times, exactly: the model is linear, so doses superpose.

Records are NONMEM's, in row order: EVID 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose; AMT, RATE (an infusion
into central; else a dose into depot or central by CMT), II, ADDL, SS. What depends on order alone (which dose a reset
wipes out, which comes first at equal times) is decided here once, in numpy; what depends on parameters (lag, rates) is a
sum over doses in closed form, so nothing has to be sorted again when a lag changes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .disposition import Amounts, Rates, decayed, infused, plus, repeated

DEPOT, CENTRAL = 1, 2
OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)
SS_RESET, SS_ADD = 1, 2


class Unsupported(ValueError):
    """A record that this engine does not handle; says which and why."""


@dataclass(frozen=True)
class Records:
    """Records of one patient in row order; arrays of one length."""

    time: np.ndarray
    """h."""
    evid: np.ndarray
    cmt: np.ndarray
    amt: np.ndarray
    rate: np.ndarray
    """Amount/h; 0 for a bolus."""
    ii: np.ndarray
    """Interval between doses, h."""
    addl: np.ndarray
    """Further doses after this one."""
    ss: np.ndarray
    """1: steady state, what was before is wiped out; 2: steady state on top of what is there."""
    level: np.ndarray | None = None
    """Concentration (or exposure) from each record on until the next, where it is given instead of the drug's kinetics."""


class Schedule(NamedTuple):
    """Doses of patients and which observation sees which; padded with doses of amount 0."""

    time: Float[np.ndarray, "patients doses"]
    amount: Float[np.ndarray, "patients doses"]
    duration: Float[np.ndarray, "patients doses"]
    """Of an infusion, h; 0 for a bolus."""
    interval: Float[np.ndarray, "patients doses"]
    """Of a steady state, h; 0 for a single dose."""
    to_central: Float[np.ndarray, "patients doses"]
    """1 for a dose into central."""
    at: Float[np.ndarray, "patients observations"]
    """Observation times, h; padded with the last."""
    seen: Float[np.ndarray, "patients observations doses"]
    """1 where the dose counts: given in an earlier row, and not wiped out since."""


def check(r: Records) -> None:
    """Raise Unsupported at the first record that this engine does not handle."""
    time, evid = np.asarray(r.time), np.asarray(r.evid)
    dose, reset = np.isin(evid, (DOSE, RESET_AND_DOSE)), np.isin(evid, (RESET, RESET_AND_DOSE))
    steady, infusion = np.asarray(r.ss) != 0, np.asarray(r.rate) > 0
    length = r.amt / np.where(infusion, r.rate, 1.0)
    reasons = (
        ((np.diff(time, prepend=time[:1]) < 0) & ~reset, "time goes back without a reset"),
        (dose & ~np.isin(r.cmt, (DEPOT, CENTRAL)), "a dose into compartment {cmt}: 1 is the depot, 2 central"),
        (dose & (r.rate < 0), "RATE below 0: durations and rates as parameters are not supported"),
        (dose & infusion & (r.cmt != CENTRAL), "an infusion into the depot is not supported"),
        (dose & ((r.addl > 0) | steady) & (r.ii <= 0), "ADDL or SS without II"),
        (dose & steady & infusion & (length > r.ii), "a steady-state infusion longer than II is not supported"),
        (dose & (r.amt <= 0), "a dose without AMT"),
    )
    if any(bad.any() for bad, _ in reasons):
        i = min(int(np.argmax(bad)) for bad, _ in reasons if bad.any())
        why = next(text for bad, text in reasons if bad[i])
        raise Unsupported(f"record {i + 1}: {why.format(cmt=r.cmt[i])}")


class Dose(NamedTuple):
    """One dose, ADDL written out; times in h."""

    time: float
    amount: float
    duration: float
    interval: float
    to_central: float
    row: int
    wiped_at: int
    """Row from which it no longer counts."""


def _columns(r: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every dose of one patient, further doses (ADDL) among them, in row order.

    ``fields doses``, the first five fields of ``Dose``; its row; the row from which it no longer counts.
    """
    evid, size = np.asarray(r.evid), len(r.time)
    wiping = np.isin(evid, (RESET, RESET_AND_DOSE)) | ((evid == DOSE) & (np.asarray(r.ss) == SS_RESET))
    wipes = np.append(np.flatnonzero(wiping), size)
    given = np.flatnonzero(np.isin(evid, (DOSE, RESET_AND_DOSE)))
    times = np.asarray(r.addl)[given].astype(int) + 1
    row = np.repeat(given, times)
    number = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    infusion = np.asarray(r.rate)[row] > 0
    duration = np.where(infusion, r.amt[row] / np.where(infusion, r.rate[row], 1.0), 0.0)
    interval = np.where((np.asarray(r.ss)[row] != 0) & (number == 0), r.ii[row], 0.0)
    end = wipes[np.searchsorted(wipes, row, side="right")] if len(row) else row
    time, central = r.time[row] + number * r.ii[row], np.asarray(r.cmt)[row] == CENTRAL
    return np.array([time, r.amt[row], duration, interval, central], float), row, end


def doses(r: Records) -> list[Dose]:
    """Return every dose of one patient, further doses (ADDL) among them, in row order."""
    fields, row, wiped = (c.tolist() for c in _columns(r))
    return [Dose(*x) for x in zip(*fields, row, wiped, strict=True)]


def schedule(patients: list[Records]) -> Schedule:
    """Return the doses of all patients with ADDL written out, and what each observation (EVID 0) sees.

    Raises
    ------
    Unsupported: time going back, an infusion into the depot, RATE below 0, ADDL or SS without II, a dose without AMT.
    """
    for r in patients:
        check(r)
    every = [_columns(r) for r in patients]
    rows = [np.flatnonzero(np.asarray(r.evid) == OBSERVATION) for r in patients]
    shape = len(patients), max(1, *(len(row) for _, row, _ in every)), max(1, *(len(x) for x in rows))
    arrays = np.zeros((5, shape[0], shape[1]))
    at, seen = np.zeros((shape[0], shape[2])), np.zeros((shape[0], shape[2], shape[1]))
    for p, (r, (fields, row, wiped), observed) in enumerate(zip(patients, every, rows, strict=True)):
        arrays[:, p, : len(row)] = fields
        # A further dose (ADDL) at the time of a row comes before it, as NONMEM orders it.
        now = observed[:, None]
        seen[p, : len(observed), : len(row)] = (row < now) & (now < wiped)
        at[p, : len(observed)] = r.time[observed]
        at[p, len(observed) :] = r.time[observed[-1]] if len(observed) else 0.0
    time, amount, duration, interval, to_central = arrays
    return Schedule(time, amount, duration, interval, to_central, at, seen)


def single(amount, duration, to_central, r: Rates, t) -> Amounts:
    """Return the amounts a time ``t`` >= 0 after a dose began, an infusion where ``duration`` (h) is above 0."""
    zero = jnp.zeros_like(amount * t)
    length = jnp.where(duration > 0.0, duration, 1.0)
    during = infused(amount / length, r, jnp.minimum(t, length))
    infusion = decayed(during, r, jnp.maximum(t - length, 0.0))
    bolus = decayed(Amounts(amount * (1.0 - to_central) + zero, amount * to_central + zero, zero), r, t)
    return Amounts(*(jnp.where(duration > 0.0, a, b) for a, b in zip(infusion, bolus, strict=True)))


def steady_trough(amount, duration, to_central, r: Rates, interval) -> Amounts:
    """Return the amounts just before a dose of a train without beginning, one every ``interval`` h."""
    return repeated(single(amount, duration, to_central, r, interval), r, interval)


def amounts(s: Schedule, r: Rates, lag=0.0, lag_central=0.0, bioavailability=1.0) -> Amounts:
    """Return the amounts at the observations, shape ``patients observations``.

    A lag is NONMEM's ALAG: it delays every dose into its compartment, further ones (ADDL) too. A steady-state dose is one of a
    train that was always delayed: between the record and the end of the lag the interval before goes on, C(t) = C0(t - lag + II).
    So does NONMEM 7.5.1 (runs in FeRx-NLME/ferx-core, pull request 94), and mrgsolve (issues 239, 596). A reset calls off
    doses that have not arrived.

    Parameters
    ----------
    r: rate constants, each of shape ``(patients, 1, 1)`` or scalar.
    lag: of doses into the depot (ALAG1), h; shape as ``r``.
    lag_central: of doses and infusions into central (ALAG2).
    bioavailability: share of AMT that arrives; shape as ``r``.
    """
    duration, central = s.duration[:, None, :], s.to_central[:, None, :]  # RATE stays, so does the duration
    elapsed = s.at[:, :, None] - s.time[:, None, :] - jnp.where(central > 0.0, lag_central, lag)
    amount = bioavailability * s.amount[:, None, :]
    steady = s.interval[:, None, :] > 0.0
    interval = jnp.where(steady, s.interval[:, None, :], 1.0)

    after = jnp.maximum(elapsed, 0.0)
    one = single(amount, duration, central, r, after)
    # Steady state: the dose at hand and all before it. Between the record and the end of the lag the last cycle goes on.
    begin = steady_trough(amount, duration, central, r, interval)
    cycles = jnp.maximum(jnp.ceil(-elapsed / interval), 0.0)
    within = elapsed + cycles * interval
    carried = decayed(begin, r, within)
    full = plus(carried, single(amount, duration, central, r, within))
    given = jnp.where(elapsed >= 0.0, 1.0, 0.0)

    def total(single, periodic):
        return (jnp.asarray(s.seen) * jnp.where(steady, periodic, given * single)).sum(axis=-1)

    return Amounts(*(total(a, b) for a, b in zip(one, full, strict=True)))
