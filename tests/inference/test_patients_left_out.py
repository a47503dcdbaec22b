"""Patients left out: their effects integrated out as an exact integral, elpd as that of a posterior without them."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.scipy.stats import norm as jnorm
from mezikd.inference.patients_left_out import POINTS, integrated, left_out, log_likelihood_group, loo_text, proposal
from scipy import stats
from scipy.special import logsumexp

OMEGA, SIGMA, PATIENTS, SEEN = 0.8, 0.3, 25, 4
CHAINS, LENGTH = 4, 500


def normal(rng: np.random.Generator, y: np.ndarray):
    """Patients y_ij ~ N(theta + eta_i, SIGMA), eta_i ~ N(0, OMEGA), theta ~ N(0, 1): a log-density and exact draws of it.

    Coordinates: theta, and two of each patient: u, in which eta is about standard normal given theta (not quite: shifted and
    wider), and one that does nothing.
    """
    n = len(y)
    within = SIGMA**2 / SEEN + OMEGA**2
    precision = 1.0 + n / within
    theta = y.mean(axis=1).sum() / within / precision + rng.standard_normal((CHAINS, LENGTH)) / np.sqrt(precision)
    shrunk = OMEGA**2 / within
    sd = OMEGA * np.sqrt(1.0 - shrunk)
    u = 0.5 + 1.3 * rng.standard_normal((*theta.shape, n))
    idle = rng.standard_normal(u.shape)
    z = np.concatenate([theta[..., None], np.stack([u, idle], axis=-1).reshape(*theta.shape, 2 * n)], axis=-1)

    def by_patient(xs, data):
        u = xs[:, 1:].reshape(len(xs), n, 2)
        eta = shrunk * (data.mean(axis=-1) - xs[:, :1]) + sd * (u[..., 0] - 0.5) / 1.3
        prior = jnorm.logpdf(eta, 0.0, OMEGA) + jnp.log(sd / 1.3) + jnorm.logpdf(u[..., 1])
        return jnorm.logpdf(data, (xs[:, :1] + eta)[..., None], SIGMA).sum(axis=-1) + prior

    return SimpleNamespace(patients=n, effects=("a", "b"), shared_size=1, by_patient=by_patient), z


def predictive(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return the exact log-likelihood of each patient given each theta, ``thetas patients``."""
    covariance = SIGMA**2 * np.eye(SEEN) + OMEGA**2
    return np.stack([stats.multivariate_normal(np.full(SEEN, t), covariance).logpdf(y) for t in theta])


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(2)
    y = 0.4 + OMEGA * rng.standard_normal((PATIENTS, 1)) + SIGMA * rng.standard_normal((PATIENTS, SEEN))
    target, z = normal(rng, y)
    return y, z, integrated(target, jnp.asarray(y), z, 3)


def tree_of(z: np.ndarray, found) -> xr.DataTree:
    coords = {"chain": np.arange(CHAINS), "draw": np.arange(LENGTH), "patient": [f"P{i}" for i in range(PATIENTS)]}
    posterior = xr.Dataset({"theta": (("chain", "draw"), z[..., 0])}, coords=coords)
    return xr.DataTree.from_dict({"posterior": posterior, "log_likelihood": log_likelihood_group(found, posterior)})


def test_the_integral_is_that_of_a_normal(example):
    y, z, found = example
    exact = predictive(y, z[:, :: found.every, 0].ravel()).reshape(found.log.shape)
    np.testing.assert_allclose(found.log, exact, atol=0.3)
    # Few points spread over a t distribution: errors are those told, and nearly the same under every theta.
    error = found.log - exact
    assert (np.abs(error) < 4.0 * found.error).all() and np.sqrt((error**2).mean()) < 0.05
    assert error.std(axis=(0, 1)).max() < 0.05
    assert found.log.shape[0] * found.log.shape[1] <= 400 and POINTS >= 32


def test_elpd_is_that_of_posteriors_without_the_patient(example):
    """Exact draws of theta without each patient; weights that hang on the patients' own effects as well would fail."""
    y, z, found = example
    loo = left_out(tree_of(z, found))
    covariance = SIGMA**2 * np.eye(SEEN) + OMEGA**2
    expected = []
    for i in range(PATIENTS):
        others = np.delete(y, i, axis=0)
        within = SIGMA**2 / SEEN + OMEGA**2
        variance = 1.0 / (1.0 + len(others) / within)
        mean = variance * others.mean(axis=1).sum() / within
        expected.append(stats.multivariate_normal(np.full(SEEN, mean), covariance + variance).logpdf(y[i]))
    np.testing.assert_allclose(loo["elpd"], expected, atol=0.1)
    assert abs(loo["elpd"].sum() - np.sum(expected)) < 0.5
    assert loo["trusted"].all() and loo["khat"].max() < 0.5
    assert list(loo["id"])[:2] == ["P0", "P1"] and loo["integration_error"].between(0.0, 0.15).all()


def test_what_cannot_be_trusted_is_loo_text(example):
    """A rough integral, and weights of a patient that decides the posterior alone."""
    _, z, found = example
    rough = found._replace(error=np.where(np.arange(PATIENTS) == 3, 0.5, found.error))
    loo = left_out(tree_of(z, rough))
    assert not loo["trusted"][3] and loo["trusted"].sum() == PATIENTS - 1
    assert "1 of 25 cannot be trusted" in loo_text(loo)
    heavy = np.random.default_rng(0).standard_cauchy(found.log.shape[:2])
    loo = left_out(tree_of(z, found._replace(log=found.log - np.log(np.abs(heavy))[..., None] * 3.0)))
    assert (loo["khat"] > 0.7).all() and not loo["trusted"].any()


def test_no_effects_no_integral():
    """Patients who differ in nothing: their likelihood itself."""

    def by_patient(xs, data):
        return jnorm.logpdf(data, xs[:, :1], SIGMA)

    target = SimpleNamespace(patients=3, effects=(), shared_size=1, by_patient=by_patient)
    z = np.linspace(-1.0, 1.0, 12).reshape(2, 6, 1)
    found = integrated(target, jnp.asarray([0.1, 0.5, -0.2]), z, 1)
    np.testing.assert_allclose(found.log, stats.norm.logpdf([0.1, 0.5, -0.2], z, SIGMA), rtol=1e-12)
    assert (found.error == 0.0).all()


def test_errors_of_the_integrals_do_not_add_up():
    """300 patients with standard normal effects: the mean error is that of independent ones, whatever the seed."""
    rng = np.random.default_rng(4)
    shared, u = rng.standard_normal((2000, 3)), rng.standard_normal((2000, 300, 4))
    mean = []
    for seed in range(6):
        about = proposal(shared, u, seed)
        log = stats.norm.logpdf(about.at(shared.mean(axis=0))).sum(axis=-1) - about.log_density
        error = logsumexp(log, axis=0) - np.log(len(log))
        mean.append(error.mean())
        assert 0.01 < error.std() < 0.15
    assert np.abs(mean).max() < 0.02


def test_points_follow_what_patients_share():
    """u moves with the shared coordinates by a known matrix: so do the points, and they spread by what is left of it."""
    rng = np.random.default_rng(5)
    shared, move = rng.standard_normal((4000, 2)), np.array([[3.0, 0.0], [-2.0, 1.0]])
    u = (shared @ move + 0.1 * rng.standard_normal((4000, 2)))[:, None, :]
    about = proposal(shared, u, 1)
    np.testing.assert_allclose(about.follow[:, 0], move, atol=0.1)
    there = np.array([1.5, -1.0])
    off = about.at(there)[:, 0] - there @ move
    assert np.abs(np.median(off, axis=0)).max() < 0.3 and np.median(np.abs(off)) < 0.3


def test_a_patient_without_data(example):
    """The same likelihood in every draw: no weights are needed; beside others, and alone."""
    _, z, found = example
    log = found.log.copy()
    log[..., 5] = 0.25
    loo = left_out(tree_of(z, found._replace(log=log)))
    assert loo["elpd"][5] == 0.25 and loo["khat"][5] == 0.0 and loo["trusted"].all()
    alone = left_out(tree_of(z, found._replace(log=np.zeros_like(log))))
    assert (alone["elpd"] == 0.0).all()
    log[0, 3, 7] = -np.inf
    broken = left_out(tree_of(z, found._replace(log=log)))
    assert not broken["trusted"][7] and "1 of 25 cannot be trusted" in loo_text(broken) and "nan" in loo_text(broken)
