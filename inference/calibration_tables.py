"""Coverage and ranks of a calibration as tables, with the bands that they should stay in."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.stats import binom

from .calibration import RANKED, Fitted

LEVELS = (0.5, 0.9)
CONFIDENCE = 0.99
SIMULATIONS = 20_000
COVERAGE_COLUMNS = (
    "quantity", "level", "trials", "covered", "coverage", "version", "band_low", "band_high", "inside", "kind",
)  # fmt: skip


class Fits(Protocol):
    """One trial: the truths, and the fits by version (calibration.TrialFit, patient_calibration.PatientTrial)."""

    @property
    def truth(self) -> dict[str, float]: ...

    @property
    def fits(self) -> dict[str, Fitted]: ...


def rank_table(fits: Iterable[Fits], quantities: set[str]) -> pd.DataFrame:
    """Return ranks.csv: one line a trial, version and quantity or parameter.

    ``rank`` is the number of the RANKED draws below the truth, 0 to RANKED, uniform if the fit is calibrated.
    """
    lines = []
    for trial, fit in enumerate(fits):
        for version, fitted in fit.fits.items():
            for name, draws in fitted.draws.items():
                lines.append(
                    (
                        trial, name, "quantity" if name in quantities else "parameter", version,
                        int((draws < fit.truth[name]).sum()), len(draws), fit.truth[name], draws.mean(), draws.std(ddof=1),
                    )
                )  # fmt: skip
    names = ["trial", "quantity", "kind", "version", "rank", "draws", "truth", "posterior_mean", "posterior_sd"]
    return pd.DataFrame.from_records(lines, columns=names)


def inside_interval(rank, draws: int, level: float):
    """Return whether ranks lie within the central ``level`` of the draws + 1 equally likely ones."""
    tail = (draws + 1) * (1.0 - level) / 2.0
    return (np.asarray(rank) >= tail) & (np.asarray(rank) <= draws - tail)


def coverage_table(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return calibration.csv: coverage of the 50 and 90 % intervals, and the binomial 99 % band around the nominal."""
    lines = []
    for key, group in ranks.groupby(["kind", "quantity", "version"], sort=False):
        kind, name, version = np.array(key, dtype=object)
        n = len(group)
        for level in LEVELS:
            covered = int(inside_interval(group["rank"], RANKED, level).sum())
            low, high = binom.ppf([(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0], n, level).astype(int)
            inside = bool(low <= covered <= high)
            lines.append((name, level, n, covered, covered / n, version, low / n, high / n, inside, kind))
    return pd.DataFrame.from_records(lines, columns=list(COVERAGE_COLUMNS))


def _smallest_tail(counts: np.ndarray, trials: int) -> np.ndarray:
    """Return the smallest two-sided pointwise p-value of cumulative rank counts, shape ``(..., ranks)``."""
    p = np.arange(1, counts.shape[-1] + 1) / (counts.shape[-1] + 1.0)
    at_most = binom.cdf(np.arange(trials + 1)[:, None], trials, p)
    at_least = binom.sf(np.arange(trials + 1)[:, None] - 1, trials, p)
    two = np.minimum(1.0, 2.0 * np.minimum(at_most, at_least))
    return np.take_along_axis(two, counts.reshape(-1, len(p)), axis=0).min(axis=1).reshape(counts.shape[:-1])


def _cumulative(ranks: np.ndarray, draws: int) -> np.ndarray:
    """Return how many of the ranks (last axis) are at most 0, 1, ..., draws - 1."""
    return (ranks[..., None, :] <= np.arange(draws)[:, None]).sum(axis=-1)


class UniformRanks:
    """The 99 % simultaneous band of the ranks of ``trials`` trials (Saeilynoja, Buerkner and Vehtari 2022), by simulation."""

    def __init__(self, trials: int, draws: int = RANKED, seed: int = 1):
        self.trials, self.draws = trials, draws
        uniform = np.random.default_rng(seed).integers(0, draws + 1, (SIMULATIONS, trials))
        parts = np.array_split(uniform, 40)
        counts = np.concatenate([_cumulative(part, draws) for part in parts])
        self.smallest = np.sort(_smallest_tail(counts, trials))
        self.pointwise = float(np.quantile(self.smallest, 1.0 - CONFIDENCE))
        """Pointwise level of the band."""

    def p_value(self, ranks: np.ndarray) -> float:
        """Return the share of uniform rank sets that leave a band as narrow as this set needs."""
        found = _smallest_tail(_cumulative(np.asarray(ranks), self.draws), self.trials)
        return float(np.searchsorted(self.smallest, found, side="right")) / len(self.smallest)

    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the band of the share of ranks at most 0, ..., draws - 1, less the uniform share."""
        p = np.arange(1, self.draws + 1) / (self.draws + 1.0)
        low, high = (binom.ppf(q, self.trials, p) for q in (self.pointwise / 2.0, 1.0 - self.pointwise / 2.0))
        return low / self.trials - p, high / self.trials - p

    def deviation(self, ranks: np.ndarray) -> np.ndarray:
        """Return the share of ranks at most 0, ..., draws - 1, less the uniform share."""
        p = np.arange(1, self.draws + 1) / (self.draws + 1.0)
        return _cumulative(np.asarray(ranks), self.draws) / self.trials - p


def with_rank_tests(table: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """Return calibration.csv with the p-value of uniform ranks (``rank_p``; below 0.01: outside the simultaneous band)."""
    uniform = UniformRanks(int(ranks["trial"].nunique()))
    found = {key: uniform.p_value(group["rank"].to_numpy()) for key, group in ranks.groupby(["quantity", "version"])}
    return table.assign(rank_p=[found[key] for key in zip(table["quantity"], table["version"], strict=True)])


def contraction(ranks: pd.DataFrame, version: str) -> dict[str, float]:
    """Return, by quantity, 1 - mean posterior variance / variance of the truths, of one version."""
    chosen = ranks.query("version == @version").assign(variance=lambda t: t["posterior_sd"] ** 2)
    of = chosen.groupby("quantity", sort=False).agg(posterior=("variance", "mean"), truth=("truth", "var"))
    return {str(name): float(1.0 - line["posterior"] / line["truth"]) for name, line in of.iterrows()}
