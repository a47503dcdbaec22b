"""Virtual patients: exact margins, weights, common points, and a better integral than from random draws."""

import numpy as np
import pytest
from mezikd.model.patients import EFFECTS, sampled_cohort, virtual_cohort
from mezikd.model.trial_design import Arm, Design
from scipy.stats import norm

SHARES = np.array([27, 109, 88, 64])


@pytest.mark.parametrize("patients", [64, 256])
def test_margins_are_exact_in_every_region(patients):
    cohort = virtual_cohort(patients, SHARES, seed=1)
    assert cohort.z.shape == (len(EFFECTS), patients) and cohort.size == patients
    n = patients // 4
    strata = norm.ppf((np.arange(n) + 0.5) / n)
    for r in range(4):
        z = cohort.z[:, cohort.region == r]
        assert z.shape == (len(EFFECTS), n)
        np.testing.assert_allclose(z.mean(axis=1), 0.0, atol=1e-12)
        np.testing.assert_allclose(z.var(axis=1), 1.0, rtol=1e-12)
        # Every effect has the same margin in every region: the centres of equal strata, scaled.
        np.testing.assert_allclose(np.sort(z, axis=1), [strata / strata.std()] * len(EFFECTS), atol=1e-12)


def test_weights_are_the_regions_shares():
    cohort = virtual_cohort(128, SHARES, seed=1)
    np.testing.assert_allclose(cohort.weight.sum(), 1.0, rtol=1e-14)
    by_region = np.bincount(cohort.region, cohort.weight)
    np.testing.assert_allclose(by_region, SHARES / SHARES.sum(), rtol=1e-14)


def test_same_seed_same_points():
    one, two, other = (virtual_cohort(64, SHARES, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.z, two.z)
    assert not np.array_equal(one.z, other.z)
    # Regions are scrambled apart, and so are the arms of a design.
    assert not np.array_equal(one.z[:, one.region == 0], one.z[:, one.region == 1])
    sizes = Arm(288, 288, tuple(map(int, SHARES)))
    design = Design(sizes, sizes)
    assert not np.array_equal(design.cohort("mezikd", 64, 5).z, design.cohort("kd", 64, 5).z)
    np.testing.assert_array_equal(design.cohort("mezikd", 64, 5).z, one.z)


def smooth(z) -> np.ndarray:
    """A smooth function of all effects with mean 1: logistic-normal products are what the model averages."""
    a = np.array([0.45, 0.35, 0.15, 0.5, 0.5])[:, None]
    return np.exp((a * z).sum(axis=0) - 0.5 * (a**2).sum())


def test_integrates_better_than_random_draws():
    seeds = range(40)
    sobol = [virtual_cohort(256, SHARES, s) for s in seeds]
    ours = [(smooth(c.z) * c.weight).sum() - 1.0 for c in sobol]
    drawn = [sampled_cohort(np.full(4, 64), np.random.default_rng(s)) for s in seeds]
    theirs = [(smooth(c.z) * c.weight).sum() - 1.0 for c in drawn]
    rms = [float(np.sqrt(np.mean(np.square(x)))) for x in (ours, theirs)]
    assert rms[0] < 0.3 * rms[1], f"root mean square error: virtual {rms[0]:.4f}, random {rms[1]:.4f}"
    # One effect alone is integrated to 1 % by 64 points a region, whatever the scrambling.
    cosine = np.array([(np.cos(c.z) * c.weight).sum(axis=1) for c in sobol])
    np.testing.assert_allclose(cosine, np.exp(-0.5), rtol=0.01)


def test_effects_are_uncorrelated():
    """Ranks keep the Sobol structure: no pair of effects of a region is tied to each other."""
    for seed in range(10):
        cohort = virtual_cohort(1024, SHARES, seed)
        for r in range(4):
            off = np.corrcoef(cohort.z[:, cohort.region == r]) - np.eye(len(EFFECTS))
            assert np.abs(off).max() < 0.06, (seed, r)


def test_a_sampled_trial_has_the_regions_sizes():
    cohort = sampled_cohort(SHARES, np.random.default_rng(7))
    np.testing.assert_array_equal(np.bincount(cohort.region), SHARES)
    assert cohort.size == SHARES.sum() and cohort.weight.sum() == pytest.approx(1.0)
    assert abs(cohort.z.mean()) < 4.0 / np.sqrt(cohort.z.size)
