"""Durations of exact episodes: one by hand, and the distribution against patients followed day by day."""

import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import episodes
from mezikd.model.history import NEVER
from mezikd.model.parameters import RECHECK_DELAY_DAYS

CERTAIN = 1.0 - 1e-15


def durations(below, recheck: float, luck, first_week: int = 0) -> np.ndarray:
    """Return the days from the first low count, on day 1 of ``first_week``, to recovery; NEVER where none is seen."""
    n = len(luck)
    begin = 7.0 * first_week
    episode = episodes.begin(episodes.none(n), jnp.ones(n, bool), begin, jnp.asarray(luck))
    out = np.full(n, NEVER)
    for week, p in enumerate(below, start=first_week):
        episode, end = episodes.week(episode, jnp.broadcast_to(p[:, None], (7, n)), 7.0 * week, recheck)
        out = np.minimum(out, end.duration)
        ended = np.asarray(end.duration) < NEVER
        np.testing.assert_allclose(np.asarray(end.day)[ended] - begin, np.asarray(end.duration)[ended])
    return out


@pytest.mark.parametrize("recovers_on", [4, 6, 7, 8, 13])
def test_an_episode_lasts_to_the_first_count_that_is_high(recovers_on):
    """With a count every day that is low for certain before ``recovers_on`` and high from then on."""
    below = (np.arange(21) < recovers_on).astype(float).reshape(3, 7)
    found = durations(below, CERTAIN, np.array([0.01, 0.5, 0.99]), first_week=2)
    np.testing.assert_array_equal(found, recovers_on)


def test_no_count_ends_an_episode_within_the_delay():
    """All counts high, one every day: the first repeated count is on the day after the delay."""
    found = durations(np.zeros((1, 7)), CERTAIN, np.array([0.01, 0.5, 0.99]))
    np.testing.assert_array_equal(found, RECHECK_DELAY_DAYS + 1)


def test_durations_against_patients_followed_day_by_day():
    rng, n, recheck = np.random.default_rng(8), 200_000, 0.4
    below = rng.random((3, 7)) ** 0.5
    ours = durations(below, recheck, rng.random(n))
    theirs = np.full(n, NEVER)
    for day in range(RECHECK_DELAY_DAYS + 1, 21):
        high = (rng.random(n) < recheck) & (rng.random(n) >= below.reshape(-1)[day])
        theirs[(theirs == NEVER) & high] = day
    for day in range(21):
        p = (theirs <= day).mean()
        assert abs((ours <= day).mean() - p) < 4.5 * np.sqrt(2.0 * max(p * (1.0 - p), 1e-4) / n), day
