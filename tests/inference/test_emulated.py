"""Along an emulator: exact where it is exact, and exact draws where it is wrong; the built-in fit as NUTS has it (slow)."""

from dataclasses import dataclass

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from mezikd.inference import emulated, gauss_newton
from mezikd.inference.commands import DONE, built_in_fit, run
from mezikd.inference.diagnostics import mixed
from mezikd.inference.emulated import EmulatedSampler, emulated_log_density, given_by
from mezikd.inference.emulator import Emulator, distance, doubt_of, emulated_log_likelihood, fitted
from mezikd.inference.errors import InputError
from mezikd.inference.files import load_pickle
from mezikd.inference.gauss_newton import normal_approximation, slopes
from mezikd.inference.importance import Normal
from mezikd.inference.likelihood import Data, Joint, independent, whitened_log_likelihood
from mezikd.inference.pipeline import run_fit
from mezikd.inference.posterior_file import opened
from mezikd.inference.sampler import SamplerSettings
from mezikd.model.parameters import DECLARED
from rich.console import Console

TWO = tuple(p for p in DECLARED if p.name in ("hill", "half_life_hours"))
QUIET = Console(quiet=True)
TWO_NUMBERS = Data(jnp.zeros(()), independent(2))  # type: ignore[arg-type]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(autouse=True)
def no_simulator(monkeypatch):
    """Bent densities have no trial to simulate."""
    monkeypatch.setattr(emulated, "compile_simulator", lambda *_: None)


@dataclass(frozen=True)
class Bent:
    """Standard normal prior of (x, y); scores x - 0.5 and 2 (y - 0.4 x^2 - ``wave`` sin 3x), of which the second is bent."""

    wave: float = 0.0
    parameters: tuple = TWO
    data: Data = TWO_NUMBERS
    kept: tuple = (0, 1)
    over: None = None
    design: None = None

    def in_single(self):
        return self

    def expected(self, z, observed):
        return z + observed

    def compiled_expected(self, z):
        return self.expected(z, self.data.observed)

    def compiled_given(self, e, z, data):
        return whitened_log_likelihood(self.whitened_scores(e, data), data.joint) + self.log_prior(z, data), {}

    def whitened_scores(self, z, data):
        raw = jnp.stack([z[0] - 0.5, 2.0 * (z[1] - 0.4 * z[0] ** 2 - self.wave * jnp.sin(3.0 * z[0]))])
        return raw - data.joint.mean

    def log_prior(self, z, data):
        return -0.5 * (z**2).sum()

    def sampled_log_density(self, x, data):
        return whitened_log_likelihood(self.whitened_scores(x, data), data.joint) + self.log_prior(x, data)


def moments(target, power: float = 1.0) -> np.ndarray:
    """Return the means of x, y, x^2, y^2 by sums over a grid, of the density to the ``power``."""
    g = np.linspace(-6.0, 6.0, 601)
    points = np.stack(np.meshgrid(g, g, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.asarray(jax.vmap(lambda p: target.sampled_log_density(p, target.data))(jnp.asarray(points)))
    weight = np.exp(power * (density - density.max()))
    return weight @ np.hstack([points, points**2]) / weight.sum()


def test_a_quadratic_is_emulated_exactly(rng):
    """Where scores are polynomials of second order, at points far outside too; what is not finite is left out."""
    constant, linear = rng.standard_normal(3), rng.standard_normal((3, 4))
    quadratic = rng.standard_normal((3, 4, 4))
    u = rng.standard_normal((400, 4))
    w = constant + u @ linear.T + np.einsum("sij,bi,bj->bs", quadratic, u, u)
    spoilt = w.copy()
    spoilt[7, 1] = np.nan
    emulator = fitted(u, spoilt, np.zeros(3))
    far = 3.0 * rng.standard_normal(4)
    exact = constant + linear @ far + np.einsum("sij,i,j->s", quadratic, far, far)
    np.testing.assert_allclose(emulator.scores(far), exact, rtol=0.01)
    np.testing.assert_array_equal(emulator.quadratic, np.swapaxes(emulator.quadratic, 1, 2))
    assert (np.asarray(doubt_of(emulator, u, spoilt)) < 1e-3).all()


def test_the_likelihood_is_the_mean_over_the_emulators_errors(rng):
    """Against draws of the errors, one score and its covariance known: normal."""
    zero = jnp.zeros((1, 2))
    emulator = Emulator(jnp.asarray([1.5]), zero, jnp.zeros((1, 2, 2)), jnp.asarray([0.3]))
    u = jnp.asarray([1.2, -0.9])
    error = np.sqrt(0.3 * float(distance(u))) * rng.standard_normal(400_000)
    mean = np.log(np.exp(-0.5 * (1.5 + error) ** 2).mean())
    assert float(emulated_log_likelihood(emulator, u, independent(1))) == pytest.approx(mean, abs=0.005)
    points = np.asarray([[1.2, -0.9], [0.1, 0.2]])
    errors = np.sqrt(0.3 * np.asarray(distance(points)))[:, None]
    assert float(doubt_of(emulator, points, 1.5 + errors)[0]) == pytest.approx(0.3)


def test_mode_and_curvature_from_scores_alone():
    """The mode of the bent density by a grid; slopes and, without the bend, the covariance in closed form."""
    target = Bent()

    def scores(x, data):
        return np.asarray(target.whitened_scores(jnp.asarray(x), data))

    found, computed = normal_approximation(scores, target, target.data, np.array([2.0, -2.0]))  # type: ignore[arg-type]
    g = np.linspace(-1.0, 1.0, 401)
    points = np.stack(np.meshgrid(g, g, indexing="ij"), axis=-1).reshape(-1, 2)
    best = points[np.argmax(jax.vmap(lambda p: target.sampled_log_density(p, target.data))(jnp.asarray(points)))]
    assert np.abs(found.centre - best).max() < 0.02 and computed < 400

    def steep(x, data):  # a whole step from 1.5 leads to where the density is lower
        return np.array([20.0 * np.arctan(x[0]), x[1]])

    damped, _ = normal_approximation(steep, target, target.data, np.array([1.5, 1.0]))  # type: ignore[arg-type]
    np.testing.assert_allclose(damped.centre, [0.0, 0.0], atol=0.01)
    np.testing.assert_allclose(slopes(scores, np.array([1.0, 0.0]), target.data), [[1.0, 0.0], [-1.6, 2.0]], atol=1e-6)

    def straight(x, data):
        return np.array([x[0] - 0.5, 2.0 * x[1]])

    plain, _ = normal_approximation(straight, target, target.data, np.zeros(2))  # type: ignore[arg-type]
    np.testing.assert_allclose(plain.centre, [0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(plain.root @ plain.root.T, np.diag([0.5, 0.2]), atol=1e-6)


@pytest.mark.parametrize("wave", [0.0, 0.3])
def test_draws_are_of_the_exact_posterior(wave, monkeypatch, tmp_path):
    """Also where the emulator cannot follow: moments by sums over a grid; a second run goes on from what is kept."""
    monkeypatch.setattr(emulated, "FIRST_POINTS", 60)
    monkeypatch.setattr(emulated, "POINTS", 400)
    target = Bent(wave)
    sampler = EmulatedSampler(target, SamplerSettings(4, 75, 1500, seed=3))  # type: ignore[arg-type]
    geometry, computed = sampler.geometry(None)
    assert computed > 1 and sampler.at_once >= 1
    sampler.wait()
    found = sampler.draws(geometry, tmp_path, lambda z: z, QUIET, mixed)
    assert found.draws.z.shape == (4, 1500, 2) and found.gradients > 6000
    agreed = found.draws.agreed.mean()
    assert agreed > 0.95 if wave == 0.0 else 0.3 < agreed < 0.9
    x = np.concatenate([found.draws.z, found.draws.z**2], axis=-1)
    error = az.mcse(xr.Dataset({"x": (("chain", "draw", "i"), x)}))["x"].to_numpy()
    assert (np.abs(x.mean(axis=(0, 1)) - moments(target)) < 4.0 * error).all() and (error < 0.05).all()
    monkeypatch.setattr(emulated, "as_rows", None)
    again = sampler.draws(geometry, tmp_path, lambda z: z, QUIET, mixed)
    np.testing.assert_array_equal(again.draws.z, found.draws.z)


def test_trials_are_simulated_at_the_mode_and_scored_there(monkeypatch):
    """In prior-scaled coordinates, here twice the sampler's; the geometry is that of the joint law that they give."""
    for module in (emulated, gauss_newton):
        monkeypatch.setattr(module, "prior_scaled", lambda x, _: 2.0 * jnp.asarray(x))
    target, asked = Bent(), []

    def stand_in(_, data, scores, at, trials, seed):
        asked.append((at, scores(at, jnp.asarray(0.7)), trials, seed))
        return data._replace(joint=Joint(jnp.asarray([3.0, 0.0]), jnp.eye(2), jnp.asarray(1e12)))

    monkeypatch.setattr(emulated, "joined", stand_in)
    sampler = EmulatedSampler(target, SamplerSettings(4, 75, 25, seed=3))  # type: ignore[arg-type]
    (plain, few), (joint, more) = sampler.geometry(None), sampler.geometry(120)
    ((at, scores, trials, seed),) = asked
    np.testing.assert_allclose(at, 2.0 * np.asarray(plain.centre), atol=1e-9)
    np.testing.assert_allclose(scores, target.whitened_scores(jnp.asarray(at) + 0.7, target.data), atol=1e-6)
    assert (trials, seed) == (120, 3) and more > few + 120
    assert float(joint.data.joint.mean[0]) == 3.0 and joint.centre[0] > plain.centre[0] + 0.3


def test_what_the_emulator_is_fitted_to(monkeypatch, tmp_path):
    """Its doubt is what its errors are where it was not fitted; points are of a power of the posterior."""
    monkeypatch.setattr(emulated, "POWER", 0.4)
    monkeypatch.setattr(emulated, "FIRST_POINTS", 60)
    monkeypatch.setattr(emulated, "POINTS", 400)
    target = Bent(0.3)
    sampler = EmulatedSampler(target, SamplerSettings(4, 75, 25, seed=3))  # type: ignore[arg-type]
    assert sampler.settings.target_accept == 0.95  # of HMC along the emulator, whose steps cost little
    at = sampler.draws(sampler.geometry(None)[0], tmp_path, lambda z: z, QUIET, mixed).draws
    there = sampler.trained(sampler.geometry(None)[0], tmp_path, QUIET)[0]  # from what is kept
    given = there.data
    x = at.z.reshape(-1, 2)
    scores = np.asarray(jax.vmap(lambda row: target.whitened_scores(row, target.data))(jnp.asarray(x)))
    u = (x - np.asarray(given.centre)) @ np.asarray(given.root).T
    found, true = np.asarray(given.emulator.doubt), np.asarray(doubt_of(given.emulator, u, scores))
    assert found[0] < 1e-3 and 0.3 < found[1] / true[1] < 3.0
    points = [load_pickle(tmp_path / f"points{k}.pickle").x for k in (1, 2)]
    means = moments(target, 0.4)
    np.testing.assert_allclose(points[0].std(axis=0), np.sqrt(means[2:] - means[:2] ** 2), rtol=0.12)
    assert [len(x) for x in points] == [400, 400]
    means = moments(target)
    ratio = np.sqrt(np.diag(there.whiten @ there.whiten.T) / (means[2:] - means[:2] ** 2))
    assert (ratio > 0.6).all() and (ratio < 1.7).all()  # chains move in coordinates of the posterior, not of its power


def test_the_emulated_density_is_that_of_its_scores(rng):
    """In coordinates about which the emulator was fitted, with the exact prior."""
    target = Bent()
    x = rng.standard_normal((50, 2))
    points = emulated.Points(x, np.array([target.whitened_scores(jnp.asarray(row), target.data) for row in x]))
    at = Normal(np.array([0.3, -0.2]), np.array([[0.8, 0.0], [0.2, 0.5]]))
    given = given_by(points, target.data, at, np.zeros(2))
    density = emulated_log_density(target)  # type: ignore[arg-type]
    for row in x[:5]:
        exact = float(target.sampled_log_density(jnp.asarray(row), target.data))
        assert float(density(jnp.asarray(row), given)) == pytest.approx(exact, abs=0.02)
    doubtful = given_by(points, target.data, at, np.full(2, 3.0))
    gap = [
        float(target.sampled_log_density(jnp.asarray(row), target.data) - density(jnp.asarray(row), doubtful))
        for row in x
    ]
    assert (
        np.median(gap) == pytest.approx(0.0, abs=1e-6) and np.ptp(gap) > 1.0
    )  # 0 is usual, so that far gaps are known


def test_more_devices_than_one_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--device: 2 devices .* give --method nuts"):
        run_fit(built_in_fit(), tmp_path / "out", {"method": "emulated"}, False, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_built_in_fit_is_that_of_nuts(tmp_path):
    """Means and squares of all parameters against the shipped draws, in their Monte Carlo errors; the gate is passed.

    With their seed: the trials that give the joint law are the seed's too.
    """
    out = tmp_path / "fit"
    assert run(["fit", "--method", "emulated", "--draws", "900", "--out", str(out)]) == DONE

    def told(file):
        z = np.asarray(opened(file)["unconstrained_posterior"]["z"])
        x = np.concatenate([z, z**2], axis=-1)
        return x.mean(axis=(0, 1)), az.mcse(xr.Dataset({"x": (("chain", "draw", "i"), x)}))["x"].to_numpy()

    (a, error_a), (b, error_b) = told(out / "posterior.nc"), told(built_in_fit() / "posterior.nc")
    z = (a - b) / np.hypot(error_a, error_b)
    print(f"z-scores of {z.size} means: SD {z.std():.2f}, largest {np.abs(z).max():.2f}")
    assert np.abs(z).max() < 4.5 and z.std() < 1.5
