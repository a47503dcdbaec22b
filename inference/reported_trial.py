"""What a simulated trial would have reported: the numbers of the evidence rows, with intervals, by the paper's estimators."""

import numpy as np

from .estimators import cox, kaplan_meier_median, kaplan_meier_median_interval, quartiles
from .evidence import Evidence, Row
from .observed import MISSING, Observed, collect, median_error, unreached_error
from .trial import ARMS, SAMPLES, SURVIVAL, Trial, reduce

FEWEST = 4
"""Values below which quartiles are not reported."""


def wanted(evidence: Evidence) -> set[str]:
    """Return the names of the rows that a fit reads: the fitted ones and those they are conditional on."""
    given = (evidence.given(row) for row in evidence.fit)
    return {row.name for row in evidence.fit} | {row.name for row in given if row is not None}


def reported_by(trial: Trial, evidence: Evidence) -> Observed:
    """Return the numbers of ``trial`` in the order of the evidence rows; rows that no fit reads are left out."""
    names = wanted(evidence)
    return collect([_numbers(trial, row) if row.name in names else MISSING for row in evidence.rows])


def _numbers(trial: Trial, row: Row) -> tuple[float, ...]:
    if row.statistic == "quartiles":
        x = np.asarray(SAMPLES[row.outcome](trial, row))
        if len(x) < FEWEST:
            return MISSING
        low, middle, high = quartiles(x)
        # Patients that the row is out of: those with the event, where it is conditional on one.
        return middle, low, high, float(len(x)) if row.given else row.denominator, 1.0, 1.0
    if row.statistic == "count":
        return reduce(trial, row)[1], 0.0, 0.0, row.denominator, 1.0, 1.0
    what = SURVIVAL[row.outcome]
    if row.statistic == "median":
        time, event = trial[row.arm].time_to_event(what)
        median = kaplan_meier_median(time, event)
        if not np.isfinite(median):
            return float(time.max()), 0.0, 0.0, row.denominator, unreached_error(float(event.sum())), 0.0
        low, high = kaplan_meier_median_interval(time, event)
        # An upper bound beside the median, after a last step down, is no upper bound either.
        high = high if high > low * (1.0 + 1e-9) else float("inf")
        error = median_error(median, low, high, float(event.sum()))
        return median, 0.0, 0.0, row.denominator, error, 1.0
    times, events = zip(*(trial[a].time_to_event(what) for a in ARMS), strict=True)
    arm = np.repeat([1, 0], [len(x) for x in times])
    log_hr, error = cox(np.concatenate(times), np.concatenate(events), arm)
    if not np.isfinite(log_hr):
        return MISSING
    return float(np.exp(log_hr)), 0.0, 0.0, row.denominator, error, 1.0
