"""The sampler's coordinates: a shear that can be undone, and flat where they are meant to be."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from mezikd.inference.commands import built_in_fit
from mezikd.inference.coordinates import SHARE_OF_DAY, prior_scaled, straightened
from mezikd.model.parameters import DECLARED, free, natural

NAMES = [p.name for p in free(DECLARED)]


def test_round_trip_and_unit_jacobian():
    x = 1.5 * np.random.default_rng(1).standard_normal((20, len(NAMES)))
    z = prior_scaled(x, DECLARED)
    np.testing.assert_allclose(straightened(z, DECLARED), x, atol=1e-12)
    jacobian = jax.vmap(jax.jacobian(lambda y: prior_scaled(y, DECLARED)))(jnp.asarray(x))
    np.testing.assert_allclose(np.linalg.det(jacobian), 1.0, rtol=1e-10)
    assert np.abs(z - x).max() > 0.5


def test_only_ec50_moves_and_the_centre_stays():
    x = np.random.default_rng(2).standard_normal(len(NAMES))
    moved = np.flatnonzero(np.asarray(prior_scaled(x, DECLARED)) != x)
    assert [NAMES[i] for i in moved] == ["ec50"]
    np.testing.assert_allclose(prior_scaled(np.zeros(len(NAMES)), DECLARED), 0.0, atol=1e-12)


def test_along_the_half_life_ec50_follows_the_amount_after_a_dose():
    """Amount at 0.65 of a day at steady state, from the sum over past doses."""
    x = np.zeros((2, len(NAMES)))
    x[:, NAMES.index("half_life_hours")] = -1.0, 1.5
    theta = jax.vmap(lambda z: natural(z, DECLARED))(prior_scaled(x, DECLARED))
    k = np.log(2.0) * 24.0 / np.asarray(theta["half_life_hours"])
    amount = np.exp(-k[:, None] * (SHARE_OF_DAY + np.arange(200))).sum(axis=1)
    np.testing.assert_allclose(np.diff(np.log(theta["ec50"])), np.diff(np.log(amount)), rtol=1e-10)


def test_the_ridge_of_the_shipped_posterior_is_straighter():
    """Residual SD of log EC50 after a straight line in all other parameters, before and after the shear."""
    with xr.open_datatree(built_in_fit() / "posterior.nc") as tree:
        z = tree["unconstrained_posterior"]["z"].values.reshape(-1, len(NAMES))

    def residual(z):
        others = np.delete(z, NAMES.index("ec50"), axis=1)
        design = np.column_stack([np.ones(len(z)), others])
        ec50 = z[:, NAMES.index("ec50")]
        return np.std(ec50 - design @ np.linalg.lstsq(design, ec50)[0])

    assert residual(np.asarray(straightened(z, DECLARED))) < 0.95 * residual(z)
