"""The paper's estimators: Kaplan-Meier, Cox, quartiles. Plain arrays of one trial; checked against lifelines."""

import numpy as np


def kaplan_meier(time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the event times and the Kaplan-Meier estimate of survival just after each."""
    order = np.argsort(time, kind="stable")
    time, event = time[order], event[order].astype(bool)
    times, deaths = np.unique(time[event], return_counts=True)
    at_risk = len(time) - np.searchsorted(time, times, side="left")
    return times, np.cumprod(1.0 - deaths / at_risk)


def kaplan_meier_median(time: np.ndarray, event: np.ndarray) -> float:
    """Return the first time at which the Kaplan-Meier estimate is at most one half; infinity where it never is."""
    times, survival = kaplan_meier(time, event)
    below = survival <= 0.5 + 1e-12  # a product of fractions: exactly one half is not hit
    return float(times[np.argmax(below)]) if below.any() else float("inf")


def cox_log_hazard_ratio(
    time: np.ndarray, event: np.ndarray, treated: np.ndarray, strata: np.ndarray | None = None
) -> float:
    """Return the Cox estimate of the log hazard ratio of ``treated`` (0 or 1); Breslow ties, Newton's method.

    With ``strata`` each stratum has a baseline hazard of its own. NaN where an arm has no event.
    """
    strata = np.zeros(len(time), int) if strata is None else strata
    if not event[treated == 1].any() or not event[treated == 0].any():
        return float("nan")
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
    beta = 0.0
    for _ in range(50):
        w = r1 * np.exp(beta)
        p = w / (w + r0)
        step = (observed - p.sum()) / max((p * (1.0 - p)).sum(), 1e-12)
        beta += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-10:
            break
    return beta


def quartiles(x: np.ndarray) -> tuple[float, float, float]:
    """Return the lower quartile, median and upper quartile; NaN of nothing."""
    if len(x) == 0:
        return float("nan"), float("nan"), float("nan")
    q = np.quantile(x, [0.25, 0.5, 0.75])
    return float(q[0]), float(q[1]), float(q[2])
