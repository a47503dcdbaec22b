"""How probable some numbers are given the others, from draws with them, without them and between: bridge sampling.

p(members | others) is the ratio of two normalising constants. The mean of p(members | others, draw) over draws without the
members rests on the few draws that happen to predict them; weights of draws with them, 1 / p, have no better tail. The
bridge uses both (Bennett 1976; Meng and Wong 1996). Where the two posteriors hardly overlap, draws of posteriors in which
the members count with a power between 0 and 1 stand between them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .likelihood import Joint, part_of

MIXED = 1.1
"""R-hat from which draws are no sample of their posterior, whatever is made of them."""
ENOUGH = 0.03
"""Overlap of neighbours from which a bridge between them can be trusted (Klimovich, Shirts and Mobley 2015)."""
BLOCKS = 8
"""Into which the draws of a level are divided for the standard error: halves of four chains."""


class Level(NamedTuple):
    """Draws of a posterior in which the members count with a power."""

    power: float
    """0 without them, 1 with them."""
    others: np.ndarray
    """Squared distance (``distance``) of the other scores from what each draw expects."""
    everything: np.ndarray
    """Of all scores."""
    rhat: float
    """Of the draws."""

    def log_density(self, power: float, trials: float) -> np.ndarray:
        """Return the log-likelihood of each draw with the members at a power, as ``joint_log_likelihood``."""
        q = (1.0 - power) * self.others + power * self.everything
        return -0.5 * trials * np.log1p(q / (trials - 1.0))

    def without_block(self, block: int) -> "Level":
        """Return the level without one of its BLOCKS."""
        kept = [np.concatenate([b for i, b in enumerate(np.array_split(x, BLOCKS)) if i != block])
                for x in (self.others, self.everything)]  # fmt: skip
        return self._replace(others=kept[0], everything=kept[1])


class Bridged(NamedTuple):
    """What a ladder of levels says."""

    elpd: float
    """log p(members | others), up to a constant that depends on the numbers alone."""
    error: float
    """Its Monte Carlo standard error: jackknife over halves of chains, so that chains that differ count."""
    overlap: float
    """Of the neighbours that overlap least, 0 to 1."""


def distance(scores: np.ndarray, joint: Joint) -> np.ndarray:
    """Return (r - mean)' S^-1 (r - mean) of each draw's scores r."""
    u = (scores - np.asarray(joint.mean)) @ np.asarray(joint.root).T
    return (u * u).sum(axis=-1)


def level(power: float, scores: np.ndarray, joint: Joint, members: np.ndarray, rhat: float) -> Level:
    """Return the level of draws with these ``scores``, shape ``(draws, scores)``, ordered by chain."""
    others = np.flatnonzero(~members)
    return Level(power, distance(scores[:, others], part_of(joint, others)), distance(scores, joint), rhat)


def log_ratio(low: np.ndarray, high: np.ndarray) -> float:
    """Return log Z_high / Z_low from log(q_high / q_low) at the draws of each of two densities q / Z (Bennett 1976)."""
    odds = np.log(len(high) / len(low))

    def excess(r: float) -> float:
        return float(expit(low + odds - r).sum() - expit(-(high + odds - r)).sum())

    both = np.concatenate([low, high])
    from scipy.optimize import brentq  # a tenth of a second, and every prediction reads this module

    return brentq(excess, both.min() - 50.0, both.max() + 50.0, xtol=1e-9)  # type: ignore[return-value]


def overlap(low: np.ndarray, high: np.ndarray) -> float:
    """Return how far two densities overlap, the integral of p_low p_high / (their mixture by draws): 0 to 1."""
    share = len(high) / (len(low) + len(high))
    return float(expit(low + np.log(len(high) / len(low)) - log_ratio(low, high)).mean() / share)


def _pairs(levels: Sequence[Level], trials: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the log-density ratios of each pair of neighbours at the draws of both."""
    return [
        tuple(x.log_density(high.power, trials) - x.log_density(low.power, trials) for x in (low, high))
        for low, high in pairwise(levels)
    ]  # type: ignore[return-value]


def between(levels: Sequence[Level], trials: float) -> float | None:
    """Return the power at which draws are wanted most; None where all neighbours overlap enough.

    A sixth of the upper neighbour's, where the lower one leaves the members out: what they say is felt early.
    """
    overlaps = [overlap(*pair) for pair in _pairs(levels, trials)]
    i = int(np.argmin(overlaps))
    if overlaps[i] >= ENOUGH:
        return None
    low, high = levels[i].power, levels[i + 1].power
    return high / 6.0 if low == 0.0 else float(np.sqrt(low * high))


def bridged(levels: Sequence[Level], joint: Joint, members: np.ndarray) -> Bridged:
    """Return log p(members | others) from levels by rising power, the first 0 and the last 1."""
    trials = float(np.asarray(joint.trials))
    others = part_of(joint, np.flatnonzero(~members))
    size = sum(sign * np.linalg.slogdet(np.asarray(x.root))[1] for sign, x in ((1.0, joint), (-1.0, others)))

    def total(levels: Sequence[Level]) -> float:
        return sum(log_ratio(*pair) for pair in _pairs(levels, trials))

    left = np.array([total([x.without_block(b) for x in levels]) for b in range(BLOCKS)])
    error = np.sqrt((BLOCKS - 1) * left.var())
    weakest = min(overlap(*pair) for pair in _pairs(levels, trials))
    return Bridged(total(levels) + float(size), float(error), weakest)
