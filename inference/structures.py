"""Structures compared: how well each predicts a group of reported numbers that it has not seen, and their stacked mixture."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from .importance import TRUSTED, smoothed
from .likelihood import Joint
from .power_scaling import log_likelihoods, part_of
from .settings import Model


def structure_name(model: Model) -> str:
    """Return what tables call a structure: arrest or kill, and what it leaves out."""
    parts = ["kill" if model.structure == "friberg" else "arrest"]
    if model.tumour == "no_memory":
        parts.append("no tumour memory")
    if model.infection == "no_neutrophils":
        parts.append("infection without neutrophils")
    return ", ".join(parts)


class LeftOut(NamedTuple):
    """Prediction of one group of numbers from all others."""

    elpd: float
    """Expected log predictive density of the group."""
    khat: float


def _log_density(scores: np.ndarray, joint: Joint) -> np.ndarray:
    """Return the log-density of each draw's scores; up to a constant that all structures share."""
    size = float(np.linalg.slogdet(np.asarray(joint.root))[1])
    return log_likelihoods(scores, joint) + size


def left_out(scores: np.ndarray, joint: Joint, members: np.ndarray) -> LeftOut:
    """Return the elpd of the scores that are ``members``, by importance sampling from the posterior of all (PSIS-LOO).

    p(group | others) is the mean over the posterior without the group; draws of the one with it are weighted by
    1 / p(group | others, draw).
    """
    rest = _log_density(scores[:, ~members], part_of(joint, ~members))
    conditional = _log_density(scores, joint) - rest
    without = smoothed(-conditional)
    return LeftOut(
        float(np.log(without.weights @ np.exp(conditional - conditional.max())) + conditional.max()), without.khat
    )


def stacked(elpd: np.ndarray) -> np.ndarray:
    """Return the weights of structures (columns) that maximise the log score of their mixture over the groups (rows).

    Expectation-maximisation: the objective is concave, each step raises it (Yao et al. 2018, stacking).
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weights = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(20_000):
        share = weights * density
        new = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(new - weights).max() < 1e-10:
            break
        weights = new
    return weights / weights.sum()


def comparison_table(found: dict[str, dict[str, LeftOut]]) -> pd.DataFrame:
    """Return structures.csv from the elpd of each group, by structure: differences to the best, weights.

    ``difference_se`` is sqrt(groups x variance of the groups' differences): with five groups it is rough.
    """
    names, groups = list(found), list(next(iter(found.values())))
    elpd = np.array([[found[n][g].elpd for n in names] for g in groups])
    best, weights = int(elpd.sum(axis=0).argmax()), stacked(elpd)
    lines = []
    for i, name in enumerate(names):
        difference = elpd[:, i] - elpd[:, best]
        error = float(np.sqrt(len(groups) * difference.var(ddof=1)))
        worst = max(x.khat for x in found[name].values())
        lines.append((name, "all", elpd[:, i].sum(), difference.sum(), error, worst, worst <= TRUSTED, weights[i]))
        for j, group in enumerate(groups):
            x = found[name][group]
            lines.append((name, group, x.elpd, difference[j], np.nan, x.khat, x.khat <= TRUSTED, weights[i]))
    columns = ["structure", "left_out", "elpd", "difference", "difference_se", "khat", "weights_trusted", "weight"]
    return pd.DataFrame.from_records(lines, columns=columns)


EQUAL = 2.0
"""Standard errors of the difference within which structures fit equally."""


def fit_equally(table: pd.DataFrame) -> list[str]:
    """Return the structures that predict as well as the best one."""
    whole = table.query("left_out == 'all'")
    return whole[whole["difference"].abs() <= np.maximum(EQUAL * whole["difference_se"], 1e-9)]["structure"].tolist()


def mixture(draws: dict[str, np.ndarray], weights: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return all structures' draws of one quantity and the weight of each draw; weights add up to 1."""
    x = np.concatenate([draws[name] for name in draws])
    w = np.concatenate([np.full(len(draws[name]), weights[name] / len(draws[name])) for name in draws])
    return x, w / w.sum()
