"""Bridge sampling against closed forms: a normal mean, observed twice."""

import numpy as np
import pytest
from mezikd.inference.bridge import BLOCKS, ENOUGH, Level, between, bridged, level, log_ratio, overlap
from mezikd.inference.likelihood import Joint
from scipy.special import logsumexp
from scipy.stats import norm

PRIOR_SD, COUNT = 3.0, 8000
KNOWN = Joint(np.zeros(2), np.eye(2), np.asarray(1e12))  # type: ignore[arg-type]
SECOND = np.array([False, True])


def drawn(power: float, second: float, error: float, seed: int) -> Level:
    """Return draws of the mean given a first observation 0 and a second one, of known error, with a power."""
    precision = 1.0 / PRIOR_SD**2 + (1.0 + power) / error**2
    mean = power * second / error**2 / precision
    x = norm.rvs(mean, precision**-0.5, size=COUNT, random_state=np.random.default_rng(seed))
    return level(power, np.stack([-x, second - x], axis=1) / error, KNOWN, SECOND, 1.0)


def exact(second: float, error: float) -> float:
    """Return log p(second | first), without the constant of the normal density."""
    variance = 1.0 / (1.0 / PRIOR_SD**2 + 1.0 / error**2)
    return norm.logpdf(second, 0.0, np.sqrt(variance + error**2)) - norm.logpdf(0.0, 0.0, error)


def test_close_posteriors_need_nothing_between():
    levels = [drawn(0.0, 1.5, 1.0, 1), drawn(1.0, 1.5, 1.0, 2)]
    assert between(levels, 1e12) is None
    found = bridged(levels, KNOWN, SECOND)
    assert found.elpd == pytest.approx(exact(1.5, 1.0), abs=0.03)
    assert found.overlap > 0.5 and found.error < 0.03


def test_distant_posteriors_are_bridged_in_steps():
    """Ten errors apart the mean over draws without the second observation is far off; steps find it, error and all."""
    second, error = 10.0, 1.0
    levels = [drawn(0.0, second, error, 1), drawn(1.0, second, error, 2)]
    first = between(levels, 1e12)
    assert first == pytest.approx(1.0 / 6.0)
    far = [drawn(p, 60.0, 1.0, 3) for p in (0.0, 0.1, 1.0)]
    assert between(far[1:], 1e12) == pytest.approx(0.1**0.5)
    while (power := between(levels, 1e12)) is not None:
        assert len(levels) < 7
        levels = sorted([*levels, drawn(power, second, error, len(levels) + 1)], key=lambda x: x.power)
    found = bridged(levels, KNOWN, SECOND)
    truth = exact(second, error)
    assert abs(found.elpd - truth) < 4.0 * found.error and found.error < 0.2 and found.overlap >= ENOUGH
    one_sided = logsumexp(levels[0].log_density(1.0, 1e12) - levels[0].log_density(0.0, 1e12)) - np.log(COUNT)
    assert abs(one_sided - truth) > 3.0 * abs(found.elpd - truth)


def test_error_is_that_of_repetitions():
    """The jackknife against the spread of 60 repetitions."""
    found = [bridged([drawn(0.0, 4.0, 1.0, 2 * k), drawn(1.0, 4.0, 1.0, 2 * k + 1)], KNOWN, SECOND) for k in range(60)]
    spread = np.std([x.elpd for x in found], ddof=1)
    assert np.sqrt(np.mean([x.error**2 for x in found])) == pytest.approx(spread, rel=0.35)
    assert np.mean([x.elpd for x in found]) == pytest.approx(exact(4.0, 1.0), abs=4.0 * spread / np.sqrt(60))


def test_chains_that_differ_count_in_the_error():
    even = [drawn(0.0, 1.5, 1.0, 1), drawn(1.0, 1.5, 1.0, 2)]
    shift = np.repeat([0.0, 6.0], COUNT // 2) * (np.arange(COUNT) // (COUNT // BLOCKS) % 2)
    apart = even[0]._replace(everything=even[0].everything + shift)
    assert bridged([apart, even[1]], KNOWN, SECOND).error > 3.0 * bridged(even, KNOWN, SECOND).error


def test_overlap_of_densities():
    """The same density 1, distant ones 0; the ratio of normalising constants by hand."""
    assert overlap(np.zeros(10), np.zeros(30)) == pytest.approx(1.0)
    assert overlap(np.full(10, -40.0), np.full(10, 40.0)) < 1e-8
    assert log_ratio(np.full(10, 0.7), np.full(30, 0.7)) == pytest.approx(0.7)


def test_correlated_scores_and_an_estimated_covariance():
    """The constant of the members' conditional density: a single parameter value leaves nothing else."""
    rng = np.random.default_rng(4)
    root = np.linalg.inv(np.linalg.cholesky(np.array([[1.0, 0.6], [0.6, 2.0]])))
    joint = Joint(np.array([0.1, -0.2]), root, np.asarray(1e12))  # type: ignore[arg-type]
    scores = np.tile(rng.standard_normal(2), (16, 1))
    levels = [level(p, scores, joint, SECOND, 1.0) for p in (0.0, 1.0)]
    first, second = scores[0] - joint.mean
    conditional = norm.logpdf(second, 0.6 * first, np.sqrt(2.0 - 0.36)) + 0.5 * np.log(2.0 * np.pi)
    assert bridged(levels, joint, SECOND).elpd == pytest.approx(conditional, rel=1e-6)
