"""Counts with error against scipy, and episodes of neutropenia against patients followed day by day."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import observation
from scipy.stats import norm


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.8])
def test_below_limit_is_a_normal_probability(sigma):
    anc = np.geomspace(0.05, 20.0, 41)
    for limit in (0.5, 1.0, 1.5):
        theirs = norm.cdf(np.log(limit), loc=np.log(anc), scale=sigma)
        ours = observation.below_limit(np.log(anc), sigma, np.log(limit))
        np.testing.assert_allclose(ours, theirs, atol=1e-15, rtol=1e-9)
    grade3 = observation.below_limit(np.log(anc), sigma)
    np.testing.assert_allclose(grade3, norm.cdf(-np.log(anc) / sigma), atol=1e-15, rtol=1e-9)
    np.testing.assert_allclose(np.exp(observation.LOG_GRADE2), 1.5, rtol=1e-14)


def test_recheck_probability():
    """Counts come at rate 1/r: a day passes without one with probability exp(-1/r)."""
    np.testing.assert_allclose(observation.recheck_probability(3.5), 1.0 - np.exp(-1.0 / 3.5), rtol=1e-14)


def brute_force(below, week, recheck, delay, n, rng) -> np.ndarray:
    """Return the days to recovery of ``n`` episodes that begin on day 1 of ``week``, followed day by day."""
    days = np.full(n, 99)
    for k in range(delay + 1, 21):
        p = below.reshape(-1)[7 * week + k]
        counted, high = rng.random(n) < recheck, rng.random(n) >= p
        days[(days == 99) & counted & high] = k
    return days


def episode_longer(below, recheck_days, delay, cuts):
    """Return P(duration > cut) by week of onset from the probability of a low count on every day."""
    weights = observation.EpisodeWeights(cuts, delay)
    return weights.longer(jax.vmap(lambda week: weights.of_week(week, recheck_days))(below))


@pytest.mark.parametrize("delay", [0, 3])
def test_episode_longer_against_daily_recovery(delay):
    rng = np.random.default_rng(4)
    below = rng.random((6, 7)) ** 0.5
    cuts, n = np.array([1.0, 3.0, 6.0, 10.0, 15.0, 20.0]), 200_000
    ours = np.asarray(episode_longer(jnp.asarray(below[..., None]), 2.0, delay, cuts))[..., 0]
    assert ours.shape == (6, len(cuts))
    recheck = 1.0 - np.exp(-1.0 / 2.0)
    for week in range(4):
        days = brute_force(below, week, recheck, delay, n, rng)
        for i, cut in enumerate(cuts):
            p = ours[week, i]
            tolerance = 4.5 * np.sqrt(max(p * (1.0 - p), 1e-4) / n)
            assert abs((days > cut).mean() - p) < tolerance, (week, cut)
    np.testing.assert_array_equal(ours[4:], ours[[3, 3]])


def test_between_whole_days_the_log_survival_is_linear():
    below = jnp.asarray(np.random.default_rng(5).random((4, 7, 2)))
    low, middle, high = np.moveaxis(np.log(episode_longer(below, 3.5, 2, [6.0, 6.25, 7.0])), 1, 0)
    np.testing.assert_allclose(middle, 0.75 * low + 0.25 * high, rtol=1e-12)


def test_ends_are_finite():
    """Certain recovery ends every episode at the next count, none ends without it; slopes stay finite."""

    def longer(p):
        return episode_longer(jnp.full((3, 7, 1), p), 0.01, 1, [5.5])[0, 0, 0]

    for p, expected in ((0.0, 0.0), (1.0, 1.0)):
        value, slope = jax.value_and_grad(longer)(p)
        np.testing.assert_allclose(value, expected, atol=1e-10)
        assert np.isfinite(slope)
