"""Mean block of a day and of a cycle, against quadrature and against doses taken one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model.exposure import LN2, Block, day_mean_block, reference_tumour_block
from scipy.integrate import quad

BLOCKS = [  # Emax, EC50, Hill exponent, half-life in hours
    (0.9, 0.25, 2.0, 10.0),
    (0.5, 0.02, 1.0, 30.0),
    (1.0, 3.0, 4.0, 5.0),
    (0.9, 0.25, 2.0, 200.0),
]


def block_of(emax, ec50, hill, half_life_hours) -> Block:
    """Return the block with float fields."""
    return Block(emax, np.log(ec50), hill, LN2 / (half_life_hours / 24.0))


@pytest.mark.parametrize("days", [0.3, 1.0, 28.0])
@pytest.mark.parametrize("amount", [1e-3, 0.2, 1.0, 40.0])
@pytest.mark.parametrize("parameters", BLOCKS)
def test_day_mean_block_is_the_integral(parameters, amount, days):
    emax, ec50, hill, half_life_hours = parameters

    def at(t):
        left = amount * 0.5 ** (24.0 * t / half_life_hours)
        return emax * left**hill / (ec50**hill + left**hill)

    ours = day_mean_block(np.log(amount), block_of(*parameters), days)
    integral = quad(at, 0.0, days, epsabs=0.0, epsrel=1e-11, limit=500)[0]
    np.testing.assert_allclose(ours, integral / days, rtol=1e-9)


@pytest.mark.parametrize(("log_amount", "limit"), [(-800.0, 0.0), (800.0, 0.9)])
def test_day_mean_block_is_finite_at_the_ends(log_amount, limit):
    """No drug blocks nothing, any amount of it Emax; both with finite derivatives."""
    block = block_of(*BLOCKS[0])
    value, slope = jax.value_and_grad(lambda x: day_mean_block(x, block))(log_amount)
    np.testing.assert_allclose(value, limit, atol=1e-12)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("days_on", "cycle_days", "dose_mg"), [(21, 28, 1.0), (14, 28, 0.6), (5, 7, 1.0), (28, 28, 0.3)]
)
@pytest.mark.parametrize("half_life_hours", [10.0, 120.0])
def test_reference_tumour_block_is_the_long_run_mean(days_on, cycle_days, dose_mg, half_life_hours):
    """Doses one by one until the cycles repeat, amounts followed in 400 pieces a day."""
    ec50, hill, pieces = 0.3, 1.7, 400
    k = LN2 / (half_life_hours / 24.0)
    t = (np.arange(pieces) + 0.5) / pieces
    amount, means = 0.0, []
    for day in range(12 * cycle_days):
        amount += dose_mg if day % cycle_days < days_on else 0.0
        x = (amount * np.exp(-k * t) / ec50) ** hill
        means.append(np.mean(x / (1.0 + x)))
        amount *= np.exp(-k)
    ours = reference_tumour_block(jnp.log(ec50), hill, k, days_on, cycle_days, dose_mg)
    np.testing.assert_allclose(ours, np.mean(means[-cycle_days:]), rtol=1e-5)
