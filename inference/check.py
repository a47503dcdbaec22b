"""Reported numbers beside their posterior predictive intervals, from exact simulated trials (inference.md, section 5)."""

import numpy as np
import pandas as pd
from mezikd.model.parameters import Parameter
from mezikd.model.trial_design import Design

from .evidence import Evidence, Row
from .trial import reduce, simulated_trials

COLUMNS = (
    "id", "arm", "subgroup", "statistic", "role", "reported", "low", "high", "predicted",
    "pi50_low", "pi50_high", "pi90_low", "pi90_high", "covered",
)  # fmt: skip
QUARTILES = ("quartile1", "quartile2", "quartile3")


def predictive(
    evidence: Evidence, z: np.ndarray, parameters: tuple[Parameter, ...], design: Design, seed: int
) -> np.ndarray:
    """Return (low, value, high) of every row in one simulated trial per row of ``z``; shape ``(trials, rows, 3)``."""
    trials = simulated_trials(z, parameters, design, seed)
    return np.array([[reduce(trial, row) for row in evidence.rows] for trial, _ in trials])


def _quantile(x: np.ndarray, q: float) -> float:
    x = x[~np.isnan(x)]
    # A median that a trial did not reach is infinite: no interpolation.
    return float(np.quantile(x, q, method="inverted_cdf")) if len(x) else float("nan")


def _statistics(row: Row) -> list[tuple[str, int, float, float, float]]:
    nan = float("nan")
    if row.statistic == "quartiles":
        numbers = (row.low, row.value, row.high)
        return [(name, i, numbers[i], nan, nan) for i, name in enumerate(QUARTILES)]
    return [(row.statistic, 1, row.value, row.low, row.high)]


def check_table(evidence: Evidence, simulated: np.ndarray) -> pd.DataFrame:
    """Return check.csv: one line a reported number (three for quartiles); counts stay counts.

    ``covered`` says whether the reported number lies inside the 90 % predictive interval.
    """
    lines = []
    for i, row in enumerate(evidence.rows):
        for statistic, j, reported, low, high in _statistics(row):
            x = simulated[:, i, j]
            q = {p: _quantile(x, p) for p in (0.05, 0.25, 0.5, 0.75, 0.95)}
            lines.append(
                (
                    *row.key, statistic, row.role, reported, low, high, q[0.5], q[0.25], q[0.75], q[0.05], q[0.95],
                    bool(q[0.05] <= reported <= q[0.95]),
                )
            )  # fmt: skip
    return pd.DataFrame.from_records(lines, columns=list(COLUMNS))
