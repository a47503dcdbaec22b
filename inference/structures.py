"""Structures compared: how well each predicts reported numbers that it has not seen, and their stacked mixture."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .bridge import ENOUGH, MIXED, Level, bridged
from .importance import TRUSTED, Weighted, smoothed
from .likelihood import Joint, part_of
from .power_scaling import log_likelihoods

GROUPS, ROWS = "groups", "rows"
"""What ``left_out`` says of a structure's sums: over groups left out one at a time, over rows left out one at a time."""
EQUAL, SMALL = 2.0, 4.0
"""Structures fit equally where their elpd differ by at most EQUAL standard errors, or by at most SMALL: below that the
standard error of so few numbers says little (Sivula et al. 2025, arXiv:2008.10296)."""
PULL = 1.0
"""Weight of the prior of the stacking weights, in groups a structure (``stacked``): as if each had been best in one group.
Five groups whose elpd differ by less than their errors say little; with 0.1 a structure 1.9 behind had a weight of 0.06."""


EXACT = 0.5
"""Monte Carlo error up to which a bridge (bridge.py) is trusted."""


class LeftOut(NamedTuple):
    """Prediction of some numbers from all others."""

    elpd: float
    """Expected log predictive density of the numbers."""
    khat: float
    """Of the importance weights; NaN where the posterior without the numbers was sampled."""
    rhat: float = 1.0
    """Largest of those samples."""
    error: float = float("nan")
    """Monte Carlo standard error of the elpd from them."""
    overlap: float = 1.0
    """Of the samples that overlap least."""

    @property
    def sampled(self) -> bool:
        """Whether the posterior without the numbers was sampled."""
        return bool(np.isnan(self.khat))

    @property
    def trusted(self) -> bool:
        """Whether the elpd can be trusted."""
        if self.sampled:
            return self.rhat <= MIXED and self.error <= EXACT and self.overlap >= ENOUGH
        return self.khat <= TRUSTED


def _log_density(scores: np.ndarray, joint: Joint) -> np.ndarray:
    """Return the log-density of each draw's scores; up to a constant that all structures share."""
    size = float(np.linalg.slogdet(np.asarray(joint.root))[1])
    return log_likelihoods(scores, joint) + size


def _given_others(scores: np.ndarray, joint: Joint, members: np.ndarray) -> np.ndarray:
    """Return log p(members | all other numbers, draw) of each draw."""
    others = np.flatnonzero(~members)
    return _log_density(scores, joint) - _log_density(scores[:, others], part_of(joint, others))


def left_out(scores: np.ndarray, joint: Joint, members: np.ndarray) -> LeftOut:
    """Return the elpd of the scores that are ``members``, by importance sampling from the posterior of all (PSIS-LOO).

    p(members | others) is the mean over the posterior without the members; draws of the one with them are weighted by
    1 / p(members | others, draw).
    """
    density = _given_others(scores, joint, members)
    without = smoothed(-density)
    return LeftOut(float(np.log(without.weights @ np.exp(density - density.max())) + density.max()), without.khat)


def refitted(levels: Sequence[Level], joint: Joint, members: np.ndarray) -> LeftOut:
    """Return the elpd of the scores that are ``members`` from draws with them, without them and between (bridge.py)."""
    found = bridged(levels, joint, members)
    return LeftOut(found.elpd, float("nan"), max(x.rhat for x in levels), found.error, found.overlap)


def stacked(elpd: np.ndarray, pull: float = PULL) -> np.ndarray:
    """Return the weights of structures (columns) that maximise the log score of their mixture over the groups (rows).

    sum_g log sum_k w_k exp(elpd_gk) + pull sum_k log w_k: stacking (Yao et al. 2018) under a Dirichlet(1 + pull) prior.
    Without it, ``pull`` 0, a structure that differs in one group and is no better there gets nothing, however small the
    difference; with it, equal structures get equal weights. Expectation-maximisation: the objective is concave, each step
    raises it.
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weights = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(20_000):
        share = weights * density
        new = (share / share.sum(axis=1, keepdims=True)).sum(axis=0) + pull
        new = new / new.sum()
        if np.abs(new - weights).max() < 1e-10:
            break
        weights = new
    return weights / weights.sum()


def _differences(elpd: np.ndarray, best: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each structure's elpd less the best one's and its standard error; ``elpd`` has one structure a column."""
    d = elpd - elpd[:, [best]]
    return d.sum(axis=0), np.sqrt(len(d) * d.var(axis=0, ddof=1))


def comparison_table(
    groups: Mapping[str, Mapping[str, LeftOut]],
    rows: Mapping[str, Mapping[str, LeftOut]],
    unmixed: Collection[str] = (),
) -> pd.DataFrame:
    """Return structures.csv from the elpd of each group and of each row, by structure.

    The line 'groups' of a structure sums over groups left out one at a time, the line 'rows' over rows left out one at a
    time; then come the groups. ``difference`` is to the structure with the largest sum over groups, ``difference_se`` is
    sqrt(n x variance over the n groups or rows): with five groups it is rough, and rows share patients. ``fits_equally``
    as ``equal``; ``weight`` is the stacking weight over groups among those, 0 for the ``unmixed``: a fit that misses the
    convergence gate does not predict by default. ``monte_carlo_error`` is that of the elpd where it was sampled. Groups that were sampled cannot be compared with weighted ones (their
    elpd can be many units lower): such a structure's difference is NaN.
    """
    names = list(groups)

    def matrix(found: Mapping[str, Mapping[str, LeftOut]]) -> np.ndarray:
        return np.array([[found[n][part].elpd for n in names] for part in found[names[0]]])

    by_group, by_row = matrix(groups), matrix(rows)
    eligible = ~np.isin(names, list(unmixed))
    if not eligible.any():
        eligible[:] = True
    best = int(np.where(eligible, by_group.sum(axis=0), -np.inf).argmax())
    sampled = np.array([[groups[n][part].sampled for n in names] for part in groups[names[0]]])
    comparable = (sampled == sampled[:, [best]]).all(axis=0)
    difference, error = (np.where(comparable, x, np.nan) for x in _differences(by_group, best))
    same = equal(difference, error)
    weights, weighed = np.zeros(len(names)), same & eligible
    weights[weighed] = stacked(by_group[:, weighed])
    row_difference, row_error = _differences(by_row, best)
    lines = []
    for i, name in enumerate(names):
        shared = bool(same[i]), weights[i]

        def whole(label: str, elpd: np.ndarray, d: float, se: float, parts, name=name, i=i, shared=shared):
            worst = max((x.khat for x in parts.values() if not x.sampled), default=np.nan)
            errors = [x.error for x in parts.values() if x.sampled]
            error = float(np.sqrt(np.square(errors).sum())) if errors else np.nan
            trusted = all(x.trusted for x in parts.values())
            return (name, label, elpd[:, i].sum(), error, d, se, worst, trusted, len(errors), *shared)

        lines.append(whole(GROUPS, by_group, difference[i], error[i], groups[name]))
        lines.append(whole(ROWS, by_row, row_difference[i], row_error[i], rows[name]))
        for j, (group, x) in enumerate(groups[name].items()):
            d = by_group[j, i] - by_group[j, best] if comparable[i] else np.nan
            lines.append((name, group, x.elpd, x.error, d, np.nan, x.khat, x.trusted, int(x.sampled), *shared))
    columns = [
        "structure", "left_out", "elpd", "monte_carlo_error", "difference", "difference_se", "khat", "trusted", "refits", "fits_equally",
        "weight",
    ]  # fmt: skip
    return pd.DataFrame.from_records(lines, columns=columns)


def equal(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return which structures fit as well as the best: |difference| at most EQUAL standard errors or SMALL."""
    return np.abs(difference) <= np.maximum(EQUAL * error, SMALL)


def fit_equally(table: pd.DataFrame) -> list[str]:
    """Return the structures that predict the numbers left out as well as the best one."""
    whole = table[table["left_out"] == GROUPS]
    return whole.loc[whole["fits_equally"], "structure"].tolist()


def mixture(draws: dict[str, np.ndarray], weights: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return all structures' draws of one quantity and the weight of each draw; weights add up to 1."""
    x = np.concatenate([draws[name] for name in draws])
    w = np.concatenate([np.full(len(draws[name]), weights[name] / len(draws[name])) for name in draws])
    return x, w / w.sum()


class Gap(NamedTuple):
    """Where two structures differ most in what they predict."""

    quantity: str
    one: float
    """Median under the first structure."""
    two: float
    size: float
    """Difference of the medians over the larger distance of a quartile from its median: above 1, the median of each lies
    outside the other's 50 % interval."""

    @property
    def differs(self) -> bool:
        """Whether they predict differently."""
        return self.size > 1.0


def largest_gap(one: Mapping[str, np.ndarray], two: Mapping[str, np.ndarray]) -> Gap:
    """Return where two structures differ most; ``one`` and ``two`` hold the draws of each quantity."""

    def gap(name: str) -> Gap:
        q = [Weighted(np.full(len(x), 1.0 / len(x)), np.nan) for x in (one[name], two[name])]
        a, b = ([w.quantile(x[name], p) for p in (0.25, 0.5, 0.75)] for w, x in zip(q, (one, two), strict=True))
        wide = max(a[1] - a[0], a[2] - a[1], b[1] - b[0], b[2] - b[1])
        return Gap(name, a[1], b[1], abs(a[1] - b[1]) / max(wide, 1e-12))

    return max((gap(name) for name in one), key=lambda g: g.size)
