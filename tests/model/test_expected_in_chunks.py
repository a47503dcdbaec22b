"""Virtual patients followed in chunks give the same expectations and gradient as all side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import expected as module
from mezikd.model.expected import Cuts, expected, in_chunks
from mezikd.model.parameters import REGIONS, free, natural
from mezikd.model.trial_design import ARMS, Arm, Design

ARM = Arm(288, 288, (27, 109, 88, 64))
DESIGN = Design(ARM, ARM, daily_weeks=8, horizon_weeks=40)


def test_each_chunk_is_a_cohort():
    cohort = DESIGN.cohort("mezikd", 64, 1)
    first, (z, weight) = in_chunks(cohort, 4)
    assert first.size == 16 and z.shape == (4, 5, 16)
    np.testing.assert_array_equal(first.region, np.repeat(np.arange(len(REGIONS)), 4))
    np.testing.assert_allclose(weight.sum(axis=1), 1.0)
    # Each point is in one chunk, with its region.
    for r in range(len(REGIONS)):
        inside = np.sort(np.asarray(z)[:, 0, 4 * r : 4 * r + 4].ravel())
        np.testing.assert_array_equal(inside, np.sort(cohort.z[0, cohort.region == r]))


def of_all_and_in_chunks(monkeypatch, made):
    """Return what ``made`` makes of the expectations' function, with all patients side by side and in chunks of 16."""
    cohorts = [DESIGN.cohort(a, n, 1) for a, n in zip(ARMS, (64, 32), strict=True)]

    def expectations(z):
        e = expected(natural(z), DESIGN, *cohorts, Cuts())
        return jnp.concatenate([x.ravel() for x in (*e.tally, e.rdi, e.neutropenia_duration, e.follow_up)])

    found = []
    for at_once in (64, 16):
        for limit in ("AT_ONCE", "OF_MORE"):
            monkeypatch.setattr(module, limit, at_once)
        found.append(jax.jit(lambda z: made(expectations, z))(jnp.full(len(free()), 0.1)))
    return found


def test_chunks_give_the_same_expectations(monkeypatch):
    whole, parts = of_all_and_in_chunks(monkeypatch, lambda expectations, z: expectations(z))
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_chunks_give_the_same_gradient(monkeypatch):
    def slope(expectations, z):
        value, back = jax.vjp(expectations, z)
        return back(jnp.cos(jnp.arange(value.size)))[0]

    whole, parts = of_all_and_in_chunks(monkeypatch, slope)
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-12)
