"""Leaving out the days of those who need none changes nothing that a trial collects."""

import jax
import jax.numpy as jnp
import numpy as np
from exact_cases import PATIENTS, POTENT, REGION, WEEKS, prior_median
from mezikd.model import lanes
from mezikd.model.exact import Batch, Form, simulate_batch
from mezikd.model.history import NEVER
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Gcsf, Scenario

DRAWS = 24


def test_draws_side_by_side_and_back():
    tree = {"a": jnp.arange(12.0).reshape(3, 4), "b": jnp.arange(24.0).reshape(3, 2, 4)}
    flat = lanes.flattened(tree)
    assert flat["a"].shape == (12,) and flat["b"].shape == (2, 12)
    np.testing.assert_array_equal(flat["b"][1, 4:8], tree["b"][1, 1])
    for x, y in zip(jax.tree.leaves(lanes.by_draw(flat, 3)), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(x, y)


def test_those_in_need_come_first_in_their_order():
    order = lanes.sorted_first(jnp.asarray([False, True, False, True, True]))
    np.testing.assert_array_equal(order, [1, 3, 4, 0, 2])


def some_draws(changes) -> Batch:
    """Return draws of the prior median with ``changes``."""
    leaves = prior_median() | {k: jnp.asarray(v) for k, v in changes.items()}
    theta = {k: jnp.full(DRAWS, v) for k, v in leaves.items()}
    z = np.random.default_rng(9).standard_normal((DRAWS, len(EFFECTS), PATIENTS))
    return Batch(theta, z, REGION, jax.random.split(jax.random.key(3), DRAWS))


def test_the_history_is_the_same_with_and_without_a_record():
    """Many stop early, so that whole chunks go the short way; the record follows everybody, and every draw alone."""
    changes = POTENT | {"stop_rate_mezikd": 0.5, "progression_rate": 0.1, "infection_rate": 0.2, "death_rate": 0.05}
    batch = some_draws(changes)
    plan = plan_of(Scenario(gcsf=Gcsf("reactive")), WEEKS)
    assert DRAWS * PATIENTS > lanes.CHUNK and WEEKS > lanes.SEGMENT
    ours = simulate_batch(batch, plan)
    theirs, record = simulate_batch(batch, plan, Form(record=True))
    sorted_again = 2 * lanes.SEGMENT
    assert 0.05 < np.asarray(record.on[:, sorted_again]).mean() < 0.3
    late = (np.asarray(ours.progression) < NEVER) & (np.asarray(ours.progression) > 7 * sorted_again + 35)
    assert late.sum() > 20, "what happens to those who need no days is still drawn"
    for name, x in ours._asdict().items():
        np.testing.assert_allclose(x, getattr(theirs, name), rtol=1e-10, err_msg=name)


def test_a_program_without_gcsf_gives_the_same_where_none_is_given():
    batch, plan = some_draws(POTENT), plan_of(Scenario(), WEEKS)
    theirs = simulate_batch(batch, plan)
    ours = simulate_batch(batch, plan, Form(gcsf=False))
    assert (np.asarray(ours.first_grade3) < NEVER).mean() > 0.3
    for name, x in ours._asdict().items():
        np.testing.assert_array_equal(x, getattr(theirs, name), err_msg=name)
