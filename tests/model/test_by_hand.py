"""Reverse passes written by hand against those that JAX makes of the same equations, and against difference quotients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import chain, neutrophils
from mezikd.model.by_lane import ByLane, by_lane
from mezikd.model.course import daily_constants, day, tumour_day
from mezikd.model.exposure import Block
from mezikd.model.individuals import Individuals
from mezikd.model.precision import in_single
from mezikd.model.structures import STRUCTURES

LANES = 40
HEALTHY, EMPTY, WASHED_OUT = "healthy", "pools at their guards", "months without a dose"


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def people(rng, shape=()):
    """Return patients; what the population shares has ``shape``."""

    def own(low, high):
        return jnp.asarray(rng.uniform(low, high, LANES))

    def shared(low, high):
        return jnp.asarray(rng.uniform(low, high, shape))

    marrow = neutrophils.Marrow(
        own(1.0, 3.0), shared(0.05, 0.2), shared(5.0, 15.0), shared(0.1, 0.5), shared(0.01, 0.1), shared(0.5, 0.9)
    )
    block = Block(shared(0.8, 1.0), own(-1.0, 1.0), shared(1.0, 4.0), shared(0.5, 4.0))
    rest = [own(0.1, 1.0) for _ in range(4)]
    return Individuals(own(-1.0, 1.0), block, own(-1.0, 1.0), shared(0.2, 0.8), marrow, *rest)


def state_of(rng, kind: str):
    """Return (amount, arrest, chain) of both paths of each lane."""

    def uniform(low, high):
        return jnp.asarray(rng.uniform(low, high, (2, LANES)))

    low = 1e-7 if kind == EMPTY else 0.2
    pools = [uniform(low, 1.5) for _ in range(3)]
    c = neutrophils.Chain(uniform(-0.3, 0.3), *pools, uniform(low, 10.0), uniform(low, 1.0))
    amount = {HEALTHY: uniform(0.0, 3.0), EMPTY: uniform(10.0, 1000.0), WASHED_OUT: jnp.zeros((2, LANES))}[kind]
    return amount, uniform(0.99, 1.0) if kind == EMPTY else uniform(0.0, 0.9), c


@functools.partial(jax.jit, static_argnames=("structure", "steps", "by_hand"))
def summed(ind, state, dose, weights, structure: str, steps: int, by_hand: bool):
    """Return a sum over all that a day leaves, each entry with a weight of its own."""
    s = STRUCTURES[structure]
    c = daily_constants(ind, s, steps)
    c = c.for_gradient(LANES) if by_hand else c
    found = day(state, dose, c, s, steps), tumour_day(state[0], 0.3 * dose, c)
    return sum((w * x).sum() for w, x in zip(weights, jax.tree.leaves(found), strict=True))


slopes = jax.grad(summed, argnums=(0, 1, 2))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", [HEALTHY, EMPTY, WASHED_OUT])
@pytest.mark.parametrize("shape", [(), (LANES,)], ids=["shared constants", "every lane its own"])
def test_a_day_by_hand(rng, steps, kind, shape):
    ind, state = people(rng, shape), state_of(rng, kind)
    dose = jnp.asarray(rng.uniform(0.0, 1.0, (2, LANES))) * (kind != WASHED_OUT)
    weights = [jnp.asarray(rng.uniform(-1.0, 1.0, (2, LANES))) for _ in range(11)]
    ours, theirs = (slopes(ind, state, dose, weights, "arrest", steps, x) for x in (True, False))
    for (name, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * np.abs(b).max(), err_msg=jax.tree_util.keystr(name))
    assert max(np.abs(x).max() for x in jax.tree.leaves(theirs)) > 0.1


def test_the_comparator_keeps_its_own_reverse_pass(rng):
    ind, state = people(rng), state_of(rng, HEALTHY)
    marrow = STRUCTURES["friberg"].rates({"mean_transit_hours": 120.0, "kill_feedback": 0.2}, ind.marrow.k_circ)
    ind = ind._replace(marrow=marrow)
    state = *state[:2], STRUCTURES["friberg"].baseline(marrow, (2, LANES))
    dose, weights = jnp.ones((2, LANES)), [jnp.asarray(rng.uniform(-1.0, 1.0, (2, LANES))) for _ in range(10)]
    ours, theirs = (slopes(ind, state, dose, weights, "friberg", 1, x) for x in (True, False))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", [HEALTHY, EMPTY])
def test_a_day_against_difference_quotients(rng, kind):
    ind, state = people(rng), state_of(rng, kind)
    dose = jnp.asarray(rng.uniform(0.1, 1.0, (2, LANES)))
    weights = [jnp.asarray(rng.uniform(-1.0, 1.0, (2, LANES))) for _ in range(11)]
    at = ind, state, dose
    direction = jax.tree.map(lambda x: jnp.asarray(rng.uniform(-0.5, 0.5, x.shape)) * x, at)
    pairs = zip(*map(jax.tree.leaves, (slopes(*at, weights, "arrest", 1, True), direction)), strict=True)
    slope = sum((a * b).sum() for a, b in pairs)

    def moved(h):
        return summed(*jax.tree.map(lambda x, d: x + h * d, at, direction), weights, "arrest", 1, True)

    h = 1e-4
    quotient = (8.0 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12.0 * h)
    np.testing.assert_allclose(slope, quotient, rtol=1e-5)


def test_values_are_those_without_it(rng):
    ind, state = people(rng), state_of(rng, HEALTHY)
    c = daily_constants(ind, neutrophils, 1)
    dose = jnp.ones((2, LANES))
    ours, theirs = (day(state, dose, x, neutrophils, 1) for x in (c.for_gradient(LANES), c))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cotangents_come_back_to_the_constants_that_others_are_derived_from(rng):
    marrow = people(rng).marrow
    c = chain.prepare(marrow, jnp.asarray(0.5), 1.0)
    wide = by_lane(c, LANES)
    assert isinstance(wide, ByLane)
    assert wide.values is c
    assert {x.shape for x in jax.tree.leaves(wide.own)} == {(LANES,)}
    assert wide.values.marrow.k_death.shape == ()


@pytest.mark.parametrize("kind", [HEALTHY, EMPTY])
def test_in_single_precision(rng, kind):
    """The reverse pass runs when the context that makes the numbers single is over (precision.in_single)."""
    ind, state = people(rng), state_of(rng, kind)
    weights = [jnp.asarray(rng.uniform(-1.0, 1.0, (2, LANES))) for _ in range(11)]
    dose = jnp.ones((2, LANES))

    def two_days(ind, state, dose, weights):
        c = daily_constants(ind, neutrophils, 1).for_gradient(LANES)
        end, tumour = jax.lax.scan(lambda s, mg: day(s, mg, c, neutrophils, 1), state, jnp.stack([dose, dose]))
        return sum((w * x).sum() for w, x in zip(weights, jax.tree.leaves((end, tumour.sum(axis=0))), strict=False))

    slope = jax.grad(two_days, argnums=(0, 1, 2))
    single = jax.grad(lambda *x: in_single(two_days, *x), argnums=(0, 1, 2))(ind, state, dose, weights)
    exact = slope(ind, state, dose, weights)
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3 * np.abs(b).max())
