"""Joint covariance of the survival summaries, from exact simulated trials (inference.md, section 2).

Medians, hazard ratio and counts of one trial share patients. Their correlations come from trials of the real size simulated
at the posterior mode; their standard errors from the reported 95 % intervals (binomial for counts).
"""

import numpy as np
from mezikd.model.parameters import Parameter
from mezikd.model.trial_design import Design

from .evidence import Row
from .likelihood import SurvivalBlock, survival_scale
from .trial import reduce, simulated_trials

SHRINK = 0.02
"""Pull of the correlations towards none: keeps the matrix well conditioned with a few hundred trials."""


def simulated_block(
    rows: tuple[Row, ...], z: np.ndarray, parameters: tuple[Parameter, ...], design: Design, trials: int, seed: int
) -> SurvivalBlock:
    """Return the survival summaries with correlations from ``trials`` simulated trials at coordinates ``z``.

    Trials in which a median is not reached are left out; with fewer than 50 left the correlations are dropped.
    """
    values = []
    for trial, _ in simulated_trials(np.tile(z, (trials, 1)), parameters, design, seed):
        values.append([_scaled(reduce(trial, row)[1], row) for row in rows])
    sample = np.array(values)
    sample = sample[np.isfinite(sample).all(axis=1)]
    scale = np.array([survival_scale(r) for r in rows]).reshape(-1, 2)
    correlation = np.corrcoef(sample.T) if len(sample) >= 50 else np.eye(len(rows))
    correlation = (1.0 - SHRINK) * np.atleast_2d(correlation) + SHRINK * np.eye(len(rows))
    return SurvivalBlock(rows, scale[:, 0], correlation * np.outer(scale[:, 1], scale[:, 1]))


def _scaled(value: float, row: Row) -> float:
    if row.statistic == "count":
        p = np.clip(value, 0.5, row.denominator - 0.5) / row.denominator
        return float(np.log(p) - np.log1p(-p))
    return float(np.log(value)) if value > 0.0 else float("nan")
