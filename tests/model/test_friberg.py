"""The Friberg-Karlsson comparator against a continuous-time solution, and its place behind the interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from mezikd.model import friberg
from mezikd.model.structures import STRUCTURES


def cases(draws: int, patients: int) -> reference.Case:
    """Return cases with kill marrows: mean transit 110 h, gamma 0.17 (log-SDs 0.3), EC50 fourfold."""
    drug = reference.prior_cases(21, draws, patients).drug
    z = jax.random.normal(jax.random.key(22), (2, draws, patients))
    marrow = friberg.Marrow(4.0 * 24.0 / 110.0 * jnp.exp(0.3 * z[0]), 0.17 * jnp.exp(0.3 * z[1]))
    return reference.Case(drug._replace(ec50=4.0 * drug.ec50), marrow)


def kill_model(t, y, args):
    """Friberg 2002, with the within-day block as the kill; time in days."""
    (drug, marrow), after_dose = args
    today = jnp.clip(jnp.floor(t).astype(int), 0, after_dose.shape[0] - 1)
    e = reference.block(drug, after_dose[today] * jnp.exp(-drug.k * (t - today)))
    p, t1, t2, t3, c = y
    proliferation = p * ((1.0 - e) * c**-marrow.feedback - 1.0)
    return marrow.k_transit * jnp.stack([proliferation, p - t1, t1 - t2, t2 - t3, t3 - c])


def test_accuracy_and_order():
    """Median, worst and gain per halving over 4 cycles of 21/28, in patients whose nadir is above 5 %.

    A kill without a floor takes others to a millionth of baseline, where a relative error says nothing.
    """
    many, doses = cases(10, 16), reference.regimen(4)
    solve = jax.jit(reference.solve, static_argnums=(0, 3))
    exact = []
    for i in range(10):
        case = reference.take(many, i)
        args = (case, reference.amounts(case.drug, doses))
        exact.append(solve(kill_model, jnp.ones((5, 16)), args, 112)[:, 4])
    exact = np.stack(exact)
    scored = exact.min(axis=1) > 0.05
    assert scored.mean() > 0.4
    median, worst = {}, {}
    for n in (1, 2, 8):
        run = jax.jit(jax.vmap(lambda c, n=n: reference.stepped_course(c, doses, n, chain=friberg)))
        error = np.abs(np.log(run(many) / exact)).max(axis=1)[scored]
        median[n], worst[n] = float(np.median(error)), float(error.max())
    told = f"by steps per day: median over patients of the worst day {median}, worst {worst}"
    assert median[1] < 0.02 and worst[1] < 0.10, told
    assert min(median[1] / median[2], worst[1] / worst[2]) > 3.0 and worst[8] < 1e-3, told


def test_finite_positive_and_at_rest():
    """Gradients are finite under an extreme kill, pools stay positive, and nothing moves without drug."""
    marrow = friberg.Marrow(jnp.full(4, 0.9), jnp.full(4, 0.17))
    start = friberg.baseline(marrow, (4,))
    still = friberg.step(start, jnp.zeros(4), jnp.zeros(4), 0.7, marrow, 1.0)
    np.testing.assert_allclose(np.stack(still), np.stack(start), atol=1e-14)

    def last(kill):
        chain = start
        for _ in range(60):
            chain = friberg.step(chain, kill, kill, 0.7, marrow, 1.0)
        return jnp.log(friberg.blood(chain, marrow)).sum(), chain

    (value, chain), slope = jax.value_and_grad(last, has_aux=True)(jnp.full(4, 0.999))
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert all(bool((x > 0.0).all()) for x in chain[1:])


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_share_one_interface(name):
    """Either structure runs in the same place: rates from parameters, baseline, a step, blood that falls."""
    structure = STRUCTURES[name]
    theta = {"blood_half_life_hours": 30.0, "cell_death": 0.024, "reserve_ratio": 2.5, "saturation": 0.25}
    theta |= {"feedback": 0.012, "theta": 0.97, "mean_transit_hours": 110.0, "kill_feedback": 0.17}
    marrow = structure.rates(theta, jnp.ones(3))
    chain = structure.baseline(marrow, (3,))
    k, block, arrest = jnp.full(3, 0.77), jnp.full(3, 0.6), jnp.zeros(3)
    for _ in range(21):
        chain = structure.step(chain, arrest, block, k, marrow, 1.0)
        arrest = reference.arrest_after(arrest, block, k, 1.0)
    assert bool((structure.blood(chain, marrow) < 0.7).all())
