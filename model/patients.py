"""Virtual patients: scrambled Sobol points in the space of between-patient effects, per arm and region.

The same points serve every gradient (common random numbers). Infection frailty is gamma and integrated in closed form,
so it needs no coordinate. Effects: exposure, baseline ANC, maturation, intensity, progression frailty.
"""

from dataclasses import dataclass

import numpy as np

EFFECTS = ("exposure", "anc0", "maturation", "intensity", "progression")


@dataclass(frozen=True)
class Cohort:
    """Virtual patients of one arm."""

    z: np.ndarray
    """Standard normal effects, shape ``(effects, patients)``."""
    region: np.ndarray
    """Index into REGIONS, shape ``(patients,)``."""
    weight: np.ndarray
    """Share of the trial's patients that each point stands for; sums to 1."""

    @property
    def size(self) -> int:
        return self.z.shape[1]


def _margins_exact(u: np.ndarray) -> np.ndarray:
    """Return normal effects with the ranks of the points ``u`` (points x dimensions) and exact one-dimensional margins.

    Each coordinate takes the centres of n equal strata, scaled to variance 1: what depends on one effect alone is then
    integrated by the midpoint rule, which is far more accurate than the random position within a stratum.
    """
    from scipy.special import ndtri  # a first prediction is compiled meanwhile (inference/programs.py)

    n = len(u)
    z = ndtri((np.argsort(np.argsort(u, axis=0), axis=0) + 0.5) / n)
    return (z / z.std(axis=0)).T


def virtual_cohort(patients: int, shares: np.ndarray, seed: int) -> Cohort:
    """Return ``patients`` virtual patients, an equal number per region, weighted by the regions' ``shares``.

    Each region has the first points of a scrambled Sobol sequence of its own (Owen scrambling, scipy), with exact margins;
    ``patients`` over the number of regions is a power of two.
    """
    from scipy.stats import qmc  # takes half a second to import

    n = patients // len(shares)
    points = []
    for r in range(len(shares)):
        rng = np.random.default_rng([seed, r])
        points.append(_margins_exact(qmc.Sobol(len(EFFECTS), scramble=True, rng=rng).random(n)))
    region = np.repeat(np.arange(len(shares)), n)
    weight = np.repeat(np.asarray(shares, float) / np.sum(shares) / n, n)
    return Cohort(np.concatenate(points, axis=1), region, weight)


def sampled_cohort(per_region: np.ndarray, seed: np.random.Generator) -> Cohort:
    """Return independent patients, ``per_region`` of each region: what a trial enrols."""
    region = np.repeat(np.arange(len(per_region)), per_region)
    n = len(region)
    return Cohort(seed.standard_normal((len(EFFECTS), n)), region, np.full(n, 1.0 / n))
