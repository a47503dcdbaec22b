"""The paper's estimators: Kaplan-Meier, Cox, quartiles. Plain arrays of one trial; checked against lifelines."""

import numpy as np


def kaplan_meier(time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the event times and the Kaplan-Meier estimate of survival just after each."""
    order = np.argsort(time, kind="stable")
    time, event = time[order], event[order].astype(bool)
    times, deaths = np.unique(time[event], return_counts=True)
    at_risk = len(time) - np.searchsorted(time, times, side="left")
    return times, np.cumprod(1.0 - deaths / at_risk)


def cumulative_incidence(time: np.ndarray, cause: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of events of cause 1 and their cumulative incidence just after each (Aalen-Johansen).

    Parameters
    ----------
    cause: 1 the event, 2 one that competes, 0 censored.
    """
    times, free = kaplan_meier(time, cause > 0)
    first, events = np.unique(time[cause == 1], return_counts=True)
    at_risk = len(time) - np.searchsorted(np.sort(time), first, side="left")
    before = np.append(1.0, free)[np.searchsorted(times, first, side="left")]
    return first, np.cumsum(before * events / at_risk)


def at_times(grid: np.ndarray, times: np.ndarray, values: np.ndarray, start: float) -> np.ndarray:
    """Return a step function that is ``start`` before its first jump and ``values`` from each of ``times`` on."""
    return np.append(start, values)[np.searchsorted(times, grid, side="right")]


def kaplan_meier_median(time: np.ndarray, event: np.ndarray) -> float:
    """Return the first time at which the Kaplan-Meier estimate is at most one half; infinity where it never is."""
    times, survival = kaplan_meier(time, event)
    below = survival <= 0.5 + 1e-12  # a product of fractions: exactly one half is not hit
    return float(times[np.argmax(below)]) if below.any() else float("inf")


def kaplan_meier_median_interval(
    time: np.ndarray, event: np.ndarray, z: float = 1.959963984540054
) -> tuple[float, float]:
    """Return the interval of the Kaplan-Meier median at normal quantile ``z`` (95 %): Brookmeyer and Crowley.

    The times at which the pointwise interval of survival, Greenwood's variance on the log(-log) scale (the default of SAS
    and of lifelines), reaches one half; infinity where a bound is not reached.
    """
    order = np.argsort(time, kind="stable")
    times, survival = kaplan_meier(time, event)
    at_risk = len(time) - np.searchsorted(time[order], times, side="left")
    deaths = np.diff(np.searchsorted(np.sort(time[event.astype(bool)]), times, side="right"), prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(deaths / (at_risk * (at_risk - deaths).astype(float)))
        log_survival = np.log(survival)
        width = z * np.sqrt(variance) / np.abs(log_survival)
        lower, upper = (np.exp(log_survival * np.exp(sign * width)) for sign in (1.0, -1.0))
    bounds = []
    for curve in (lower, upper):
        curve = np.where(survival > 0.0, curve, 0.0)
        below = curve <= 0.5
        bounds.append(float(times[np.argmax(below)]) if below.any() else float("inf"))
    return bounds[0], bounds[1]


def cox_log_hazard_ratio(
    time: np.ndarray, event: np.ndarray, treated: np.ndarray, strata: np.ndarray | None = None
) -> float:
    """Return the Cox estimate of the log hazard ratio; see ``cox``."""
    return cox(time, event, treated, strata)[0]


def cox(
    time: np.ndarray, event: np.ndarray, treated: np.ndarray, strata: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the Cox estimate of the log hazard ratio of ``treated`` (0 or 1) and its standard error.

    Breslow ties, Newton's method; the error from the observed information. With ``strata`` each stratum has a baseline
    hazard of its own. NaN where an arm has no event.
    """
    strata = np.zeros(len(time), int) if strata is None else strata
    if not event[treated == 1].any() or not event[treated == 0].any():
        return float("nan"), float("nan")
    n1, n0 = [], []
    observed = float((event * treated).sum())
    for s in np.unique(strata):
        inside = strata == s
        t, e, a = time[inside], event[inside].astype(bool), treated[inside].astype(bool)
        times = t[e]
        for arm, out in ((True, n1), (False, n0)):
            ordered = np.sort(t[a == arm])
            out.append(len(ordered) - np.searchsorted(ordered, times, side="left"))
    r1, r0 = np.concatenate(n1).astype(float), np.concatenate(n0).astype(float)
    beta, information = 0.0, 1.0
    for _ in range(50):
        w = r1 * np.exp(beta)
        p = w / (w + r0)
        information = max((p * (1.0 - p)).sum(), 1e-12)
        step = (observed - p.sum()) / information
        beta += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-10:
            break
    return beta, 1.0 / float(np.sqrt(information))


def quartiles(x: np.ndarray) -> tuple[float, float, float]:
    """Return the lower quartile, median and upper quartile; NaN of nothing."""
    if len(x) == 0:
        return float("nan"), float("nan"), float("nan")
    q = np.quantile(x, [0.25, 0.5, 0.75])
    return float(q[0]), float(q[1]), float(q[2])
