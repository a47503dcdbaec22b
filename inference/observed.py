"""The reported numbers as arrays: what a log-density is given at run time, so that one program serves every trial.

A simulated trial is reduced to the same arrays by the paper's estimators (reported_trial.py), so it can be fitted like the
real one (calibration.py), and tells how the numbers of one trial vary together (joint_covariance.py).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from .evidence import Evidence, Row

Z95 = 1.959963984540054
LN2 = 0.6931471805599453
Numbers = np.ndarray | Array


class Observed(NamedTuple):
    """The numbers of every evidence row, in the order of ``Evidence.rows``; finite everywhere."""

    value: Float[Numbers, "rows"]
    """Count, median, hazard ratio; the last observed time where a median was not reached."""
    low: Float[Numbers, "rows"]
    """Lower quartile; else unused."""
    high: Float[Numbers, "rows"]
    """Upper quartile; else unused."""
    denominator: Float[Numbers, "rows"]
    """Patients that the number is out of; 0 for a number that is missing, which then says nothing."""
    error: Float[Numbers, "rows"]
    """Standard error of the log of a median or hazard ratio, from its 95 % interval; else unused."""
    reached: Float[Numbers, "rows"]
    """1; 0 for a median that was not reached by ``value``."""


def log_error(value: float, low: float, high: float) -> float:
    """Return the standard error of a log from a 95 % interval; from its lower half where the upper bound is not reached."""
    if not np.isfinite(high):
        return float(np.log(value / low) / Z95)
    return float(np.log(high / low) / (2.0 * Z95))


def unreached_error(events: float) -> float:
    """Return a standard error of the log of a median that was not reached, from the events so far.

    For an exponential time the Kaplan-Meier median of n patients has the variance 1/(n h^2), h the hazard, when n/2 have
    had the event; so its log has 1/(ln 2 sqrt(2 events)).
    """
    return float(1.0 / (LN2 * np.sqrt(2.0 * max(events, 1.0))))


def median_error(median: float, low: float, high: float, events: float) -> float:
    """Return the standard error of the log of a median; where its upper bound is not reached, at least ``unreached_error``.

    A median that is the last event of a curve can have a lower bound beside it, which says nothing of its error.
    """
    error = log_error(median, low, high)
    return error if np.isfinite(high) else max(error, unreached_error(events))


def reported(evidence: Evidence) -> Observed:
    """Return the numbers that the evidence reports."""
    return collect([_reported(row, evidence) for row in evidence.rows])


def collect(rows: list[tuple[float, ...]]) -> Observed:
    """Return (value, low, high, denominator, error, reached) of every row as arrays."""
    return Observed(*np.array(rows, float).T.reshape(len(Observed._fields), -1))


MISSING = (1.0, 0.0, 0.0, 0.0, 1.0, 1.0)
"""A number that is not there; its denominator 0 takes it out of the likelihood."""


def _reported(row: Row, evidence: Evidence) -> tuple[float, ...]:
    if row.statistic in ("median", "hazard_ratio"):
        if not np.isfinite(row.value) or not np.isfinite(row.low):  # never a fitted row (evidence_rules.py)
            return MISSING
        events = [r.value for r in evidence.fit if r.outcome == "progression or death" and r.arm == row.arm]
        error = median_error(row.value, row.low, row.high, events[0] if events else float("inf"))
        return row.value, 0.0, 0.0, np.nan_to_num(row.denominator, nan=1.0), error, 1.0
    if row.statistic == "quartiles":
        return row.value, row.low, row.high, row.denominator, 1.0, 1.0
    return row.value, 0.0, 0.0, row.denominator, 1.0, 1.0
