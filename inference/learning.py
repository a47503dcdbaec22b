"""Which reported number moves what, and what one more number would teach."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binom

from .bridge import MIXED
from .importance import TRUSTED, Weighted, smoothed
from .likelihood import Joint
from .power_scaling import conditional_log_likelihood

NEW_PATIENTS = 64
"""Patients of stage 1 of the trial at 0.6 mg."""


class Sampled(NamedTuple):
    """Draws of the posterior without a number."""

    values: Mapping[str, np.ndarray]
    max_rhat: float


def moves(
    values: Mapping[str, np.ndarray],
    scores: np.ndarray,
    joint: Joint,
    names: tuple[str, ...],
    without: Callable[[Mapping[str, np.ndarray]], Mapping[str, Sampled]] | None = None,
) -> pd.DataFrame:
    """Return learning.csv: how far each reported number moves each value, in posterior SDs, and how much it narrows it.

    ``shift`` is the posterior mean less that without the number, over the posterior SD; ``narrowing`` 1 - SD / SD without it.
    ``names`` has the row of each score, ``values`` draws by name. Draws are weighted, and their ``khat`` told; where it is
    above 0.7, ``without`` samples the posteriors without a row, whose scores it is given as a mask by row, and ``max_rhat``
    of their draws is told. ``trusted`` false: few draws dominate the weights, or chains have not mixed.
    """
    lines = []
    table = np.stack(list(values.values()), axis=1)
    mean, sd = table.mean(axis=0), table.std(axis=0)
    rows = np.array(names)
    weighted = {row: smoothed(-conditional_log_likelihood(scores, joint, rows == row)) for row in dict.fromkeys(names)}
    untrusted = {row: rows == row for row, w in weighted.items() if w.khat > TRUSTED}
    sampled = without(untrusted) if without is not None else {}
    for row, weights in weighted.items():
        there, rhat, trusted = table, np.nan, weights.khat <= TRUSTED
        if row in sampled:
            there, rhat = np.stack([sampled[row].values[name] for name in values], axis=1), sampled[row].max_rhat
            weights, trusted = Weighted(np.full(len(there), 1.0 / len(there)), np.nan), rhat <= MIXED
        shift = (mean - weights.mean(there)) / sd
        narrowing = 1.0 - sd / weights.sd(there)
        lines += [(row, name, shift[i], narrowing[i], weights.khat, rhat, trusted) for i, name in enumerate(values)]
    return pd.DataFrame.from_records(
        lines, columns=["reported", "value", "shift", "narrowing", "khat", "max_rhat", "trusted"]
    )


def one_more_count(values: Mapping[str, np.ndarray], probability: np.ndarray, patients: int) -> pd.DataFrame:
    """Return next_number.csv: posterior SDs now and expected once a count out of ``patients`` is known.

    ``probability`` is each draw's probability of the event. Every possible count is weighted by its posterior predictive
    probability; given it, the draws are weighted by its binomial likelihood (exact sums over counts, no simulation).
    """
    counts = np.arange(patients + 1)
    likelihood = binom.pmf(counts[:, None], patients, probability[None])
    marginal = likelihood.mean(axis=1)
    weights = likelihood / np.maximum(likelihood.sum(axis=1, keepdims=True), 1e-300)
    lines = []
    for name, x in values.items():
        mean = weights @ x
        variance = np.maximum(weights @ np.square(x) - mean**2, 0.0)
        expected = float((marginal * np.sqrt(variance)).sum())
        now = float(x.std())
        lines.append((name, patients, now, expected, 1.0 - expected / now))
    return pd.DataFrame.from_records(lines, columns=["value", "patients", "sd_now", "sd_expected", "narrowing"])
