"""How the reported numbers of one trial vary together, from exact simulated trials (inference.md, section 2).

Numbers of one trial come from the same patients: those held are among those with neutropenia, those with infections stay
on treatment for as long as they do not progress. Trials of the real size are simulated at the posterior mode with the
discrete rules, reduced to the reported numbers by the paper's estimators, and scored (scores.py) against the
expectations at the same parameters. The scores' covariance joins them in the likelihood; their mean, which is 0 where
expectations, virtual patients and large-sample distributions are exact, corrects it there for what these leave out.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .evidence import Row
from .likelihood import Data, Joint, Target
from .observed import Observed
from .reported_trial import reported_by
from .trial import simulated_trials

Scores = Callable[[np.ndarray, Observed], np.ndarray]
"""(coordinates, numbers of a trial) -> scores."""


def score_function(target: Target) -> Scores:
    """Return the scores of a trial at coordinates, compiled once."""

    @jax.jit
    def compiled(z, observed):
        return jnp.concatenate(list(target.row_scores(target.expected(z, observed), observed).values()))

    return lambda z, observed: np.asarray(compiled(jnp.asarray(z), observed))


def simulated_scores(target: Target, scores: Scores, z: np.ndarray, trials: int, seed: int) -> np.ndarray:
    """Return the scores at coordinates ``z`` of ``trials`` trials simulated there, shape ``(trials, scores)``."""
    simulated = simulated_trials(np.tile(z, (trials, 1)), target.parameters, target.design, seed)
    return np.array([scores(z, reported_by(trial, target.evidence)) for trial, _ in simulated])


def disjoint(a: Row, b: Row) -> bool:
    """Return whether no patient enters both rows: other arms, or other regions of one."""
    if {a.arm, b.arm} == {"mezikd", "kd"}:
        return True
    return a.arm == b.arm and "all" not in (a.subgroup, b.subgroup) and a.subgroup != b.subgroup


def shrunk_correlation(x: np.ndarray, known_zero: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the correlations of the columns of ``x``, pulled towards none, and by how much.

    The pull is the one that minimises the expected squared error (Schaefer and Strimmer, 2005): the sampling variance of
    the correlations over their squares. Those ``known_zero`` are set to 0.
    """
    n, r = len(x), np.corrcoef(x.T)
    off = ~np.eye(len(r), dtype=bool) & ~known_zero
    noise = (1.0 - r[off] ** 2) ** 2 / (n - 1.0)
    pull = float(np.clip(noise.sum() / max((r[off] ** 2).sum(), 1e-12), 0.0, 1.0))
    return np.where(off, (1.0 - pull) * r, 0.0) + np.eye(len(r)), pull


SMALLEST = 0.02
"""Smallest eigenvalue of the correlations: zeros set by hand can make it negative."""


def joint_of(simulated: np.ndarray, rows: tuple[Row, ...]) -> Joint:
    """Return how scores vary together; ``simulated`` has one trial a row, ``rows`` is the evidence row of each column.

    Scores of counts have variance 1: their likelihood is exact. Those of quartiles and of survival summaries, whose
    likelihoods hold for large samples, keep the variance that they have in the trials.
    """
    trials = len(simulated)
    known_zero = np.array([[disjoint(a, b) for b in rows] for a in rows])
    spread = simulated.std(axis=0, ddof=1)
    missing = spread < 1e-6  # a row that no trial could report
    x = np.where(missing, np.random.default_rng(0).standard_normal(simulated.shape), simulated)
    correlation, _ = shrunk_correlation(x, known_zero | missing[:, None] | missing[None])
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, SMALLEST)) @ vectors.T
    exact = np.array([r.statistic == "count" for r in rows]) | missing
    scale = np.where(exact, 1.0, spread)
    covariance = correlation * np.outer(scale, scale) * (1.0 + 1.0 / trials)  # the mean is estimated too
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    return Joint(jnp.asarray(simulated.mean(axis=0)), jnp.asarray(root), jnp.asarray(float(trials)))


def rows_of_scores(target: Target) -> tuple[Row, ...]:
    """Return the evidence row of each score."""
    by_name = {r.name: r for r in target.evidence.fit}
    return tuple(by_name[name] for name in target.score_names)


def joined(target: Target, data: Data, scores: Scores, z: np.ndarray, trials: int, seed: int) -> Data:
    """Return ``data`` with the joint law of scores from ``trials`` trials simulated at coordinates ``z``."""
    return data._replace(joint=joint_of(simulated_scores(target, scores, z, trials, seed), rows_of_scores(target)))
