"""Infections of exact patients within a week, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model import infections
from mezikd.model.chance import Chance
from mezikd.model.history import NEVER, OTHER, SEVERE


def week(budget, hazard, below, ratio=3.0, now=70.0):
    """Return budgets and infections; every patient has the same hazard a day."""
    n = np.shape(budget)[1]
    spread = [jnp.broadcast_to(jnp.asarray(x)[:, None], (7, n)) for x in (hazard, below)]
    return infections.week(
        jnp.asarray(budget), *spread, now, infections.other_wait(ratio), Chance(jax.random.key(1), 3, n)
    )


def test_an_infection_comes_when_its_budget_is_spent():
    hazard = np.array([0.1, 0.0, 0.2, 0.0, 0.4, 0.1, 0.2])
    budget = np.array([[0.2, 1.0, 1.0 + 1e-9, -0.3], [0.5, 0.05, 9.0, 9.0]])
    left, found = week(budget, hazard, np.zeros(7))
    np.testing.assert_allclose(found.day[SEVERE], [72.5, 77.0, NEVER, 70.0])
    np.testing.assert_allclose(found.day[OTHER], [74.5, 70.5, NEVER, NEVER])
    fresh = infections.first_budgets(Chance(jax.random.key(1), 3, 4), 0.5)
    hit = np.asarray(found.day) < NEVER
    np.testing.assert_allclose(left, budget - 1.0 + np.where(hit, fresh, 0.0))


def test_it_is_concurrent_by_the_chance_of_its_own_day():
    budget = np.broadcast_to([[0.15], [0.45]], (2, 400))
    _, found = week(budget, np.full(7, 0.1), np.array([0.0, 1.0, 0.0, 0.0, 0.5, 0.0, 0.0]))
    assert found.concurrent[SEVERE].all()
    assert abs(found.concurrent[OTHER].mean() - 0.5) < 0.1
