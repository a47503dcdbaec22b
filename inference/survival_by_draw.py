"""Survival of simulated patients, vectorised over posterior draws.

Simulated patients are followed to the horizon and none is lost, so the Kaplan-Meier estimate of survival at t is the share
whose event comes later. Times are continuous: events do not tie. Checked against estimators.py and lifelines.
"""

import numpy as np


def survival(event_at: np.ndarray, time: float) -> np.ndarray:
    """Return the share of patients with an event after ``time``; ``event_at`` has shape ``(draws, patients)``."""
    return (event_at > time).mean(axis=-1)


def median_time(event_at: np.ndarray, horizon: float) -> np.ndarray:
    """Return the first time at which at most half of the patients are event-free; infinity after ``horizon``."""
    n = event_at.shape[-1]
    middle = np.partition(event_at, (n - 1) // 2, axis=-1)[..., (n - 1) // 2]
    return np.where(middle <= horizon, middle, np.inf)


def restricted_mean(event_at: np.ndarray, time: float) -> np.ndarray:
    """Return the mean time to the event up to ``time``: the area under the survival curve, in the unit of time."""
    return np.minimum(event_at, time).mean(axis=-1)


def hazard_ratio(treated: np.ndarray, control: np.ndarray, horizon: float, iterations: int = 25) -> np.ndarray:
    """Return the Cox hazard ratio of treated over control patients, followed to ``horizon``.

    Newton's method on the partial likelihood of each draw, from 0. With r1, r0 at risk in the two groups at an event time
    and p = r1 e^b / (r1 e^b + r0): score = events among treated - sum p, information = sum p (1 - p).

    Parameters
    ----------
    treated, control: times of events, shape ``(draws, patients)``; after ``horizon`` they are not seen.

    Returns
    -------
    Shape ``draws``; NaN where a group has no event.
    """
    time = np.concatenate([treated, control], axis=-1)
    order = np.argsort(time, axis=-1, kind="stable")
    sorted_time = np.take_along_axis(time, order, axis=-1)
    first = order < treated.shape[-1]
    event = sorted_time <= horizon
    # Patients from this one to the last are at risk at its time.
    r1 = np.cumsum(first[..., ::-1], axis=-1)[..., ::-1].astype(float)
    r0 = np.cumsum(~first[..., ::-1], axis=-1)[..., ::-1].astype(float)
    observed = (event & first).sum(axis=-1).astype(float)
    none = (observed == 0) | ((event & ~first).sum(axis=-1) == 0)
    b = np.zeros(time.shape[:-1])
    for _ in range(iterations):
        w = r1 * np.exp(b)[..., None]
        p = np.where(event, w / (w + r0), 0.0)
        step = (observed - p.sum(axis=-1)) / np.maximum((p * (1.0 - p)).sum(axis=-1), 1e-12)
        step = np.where(none, 0.0, np.clip(step, -1.0, 1.0))
        b = b + step
        if np.all(np.abs(step) < 1e-10):
            break
    return np.where(none, np.nan, np.exp(b))
