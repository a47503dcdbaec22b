"""Chains side by side: right moments of a normal and of a funnel, tuning, and the same draws when resumed."""

from pathlib import Path

import arviz as az
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from mezikd.inference import side_by_side_run
from mezikd.inference.sampler import BLOCK, SamplerSettings
from mezikd.inference.sampling import Sampled
from mezikd.inference.side_by_side import Block, Scale, SideBySide
from mezikd.inference.side_by_side_run import JITTER, Tuning, jitter, rescaled, sample_side_by_side, steps_of
from rich.console import Console
from scipy import stats

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[2.0, 0.9, 0.0], [0.9, 0.5, 0.1], [0.0, 0.1, 0.3]])
CHAINS = 8
SILENT = Console(quiet=True)


def log_densities(z, on):
    """A correlated normal of the first three coordinates; x ~ N(0, 1) and y ~ N(0, e^x), a funnel, of the others."""
    r = z[:, :3] - MEAN
    normal = -0.5 * jnp.einsum("pi,ij,pj->p", r, jnp.asarray(np.linalg.inv(COVARIANCE)), r)
    x, y = z[:, 3], z[:, 4]
    return on * (normal - 0.5 * x * x - 0.5 * y * y * jnp.exp(-x) - 0.5 * x)


SCALE = Scale(np.zeros(5), np.eye(4), np.ones(1), np.zeros((1, 4)))
ON = jnp.asarray(1.0)


@pytest.fixture(scope="module")
def sampler() -> SideBySide:
    return SideBySide(log_densities, CHAINS, 5, 4, ON)


def settings(**more) -> SamplerSettings:
    return SamplerSettings(**({"chains": CHAINS, "warmup": 300, "draws": 1000, "seed": 3, "target_accept": 0.9} | more))


@pytest.fixture(scope="module")
def sampled(sampler, tmp_path_factory) -> Sampled:
    return sample_side_by_side(sampler, settings(), SCALE, ON, tmp_path_factory.mktemp("work"), SILENT)


def test_draws_are_of_the_target(sampled):
    """Means, covariance and quantiles within four Monte Carlo errors, of the funnel's neck and mouth too."""
    z = sampled.draws.z
    assert z.shape == (CHAINS, 1000, 5)
    data = xr.Dataset({"z": (("chain", "draw", "i"), z)})
    assert float(az.rhat(data)["z"].max()) < 1.02
    assert float(az.ess(data)["z"].min()) > 300.0
    error = az.mcse(data)["z"].to_numpy()
    flat = z.reshape(-1, 5)
    assert (np.abs(flat.mean(axis=0)[:4] - [*MEAN, 0.0]) < 4.0 * error[:4]).all()
    np.testing.assert_allclose(np.cov(flat[:, :3].T), COVARIANCE, atol=0.15)
    shares = [0.02, 0.1, 0.5, 0.9, 0.98]
    found = np.quantile(flat[:, 3], shares)
    np.testing.assert_allclose(stats.norm.cdf(found), shares, atol=0.03)
    # e^(-x/2) y is standard normal whatever x is.
    assert stats.kstest((flat[:, 4] * np.exp(-0.5 * flat[:, 3]))[::20], "norm").pvalue > 1e-3
    assert sampled.draws.diverging.mean() < 0.01


def rough_densities(z, on):
    """Another density: shifted by a fifth of an SD and wavy."""
    return log_densities(z - jnp.asarray([0.3, 0.15, 0.1, 0.0, 0.0]), on) + 0.1 * jnp.sin(3.0 * z[:, 0])


def test_draws_are_of_the_density_wanted_along_trajectories_of_another(tmp_path):
    """The other one's means lie at least ten Monte Carlo errors away."""
    corrected = SideBySide(log_densities, CHAINS, 5, 4, ON, rough_densities)
    draws = sample_side_by_side(corrected, settings(), SCALE, ON, tmp_path, SILENT).draws
    error = az.mcse(xr.Dataset({"z": (("chain", "draw", "i"), draws.z)}))["z"].to_numpy()
    off = np.abs(draws.z.reshape(-1, 5).mean(axis=0)[:4] - [*MEAN, 0.0])
    assert (off < 4.0 * error[:4]).all() and (error[:3] < [0.03, 0.015, 0.01]).all()
    np.testing.assert_allclose(draws.log_density[0], log_densities(draws.z[0], 1.0), rtol=1e-9, atol=1e-9)
    assert 0.5 < draws.accept.mean() < 0.95


def test_energy_is_kept_to_second_order_in_the_step(sampler):
    """One trajectory time, three steps: the acceptance error falls as the step's square, as only leapfrog's does."""
    u = np.random.default_rng(5).standard_normal((CHAINS, 5)) * 0.3
    lost = []
    for steps in (20, 40, 80):
        place = sampler.at(np.array([[0, 7], [0, 8]], np.uint32), u, SCALE, ON)
        block = sampler.advance(place, np.full(BLOCK, steps), 1.0 / steps, SCALE, ON)[1]
        lost.append(1.0 - block.accept.mean())
    assert lost[0] < 0.02 and lost[1] < 0.4 * lost[0] and lost[2] < 0.4 * lost[1]


def test_acceptance_is_what_was_asked_for(sampled):
    assert 0.75 < sampled.draws.accept.mean() < 0.97
    assert len(np.unique(sampled.draws.step_size)) == 1


def test_the_slope_kept_is_that_of_the_log_density(sampled):
    """Energy is potential plus momentum, so above minus the log-density; steps are those counted."""
    assert (sampled.draws.energy >= -sampled.draws.log_density).all()
    assert sampled.gradients >= sampled.draws.steps.sum()


def test_resumed_draws_are_the_same(sampler, sampled, tmp_path, monkeypatch):
    """Killed in the middle of the warm-up and again among the kept draws."""

    class Killed(Exception):
        pass

    calls = 0
    save = side_by_side_run.save_pickle

    def save_and_die(path: Path, value) -> None:
        nonlocal calls
        save(path, value)
        calls += 1
        if calls in (5, 20):
            raise Killed

    monkeypatch.setattr(side_by_side_run, "save_pickle", save_and_die)
    for _ in range(2):
        with pytest.raises(Killed):
            sample_side_by_side(sampler, settings(), SCALE, ON, tmp_path, SILENT)
    again = sample_side_by_side(sampler, settings(), SCALE, ON, tmp_path, SILENT)
    np.testing.assert_array_equal(again.draws.z, sampled.draws.z)
    assert again.gradients == sampled.gradients


@pytest.mark.parametrize(("mixes", "told"), [(False, False), (True, False), (False, True), (True, True)])
def test_resumed_draws_are_as_many(sampler, mixes, told, tmp_path, monkeypatch):
    """While chains go on for the gate (their own, or one that is told), whether or not they pass it after 75 draws.

    A run that is resumed adds nothing.
    """

    def enough(z):
        return mixes and z.shape[1] >= 75

    monkeypatch.setattr(side_by_side_run, "mixed", (lambda _: not mixes) if told else enough)
    asked, gate = settings(warmup=75, draws=25, more_draws=100), enough if told else None
    whole = sample_side_by_side(sampler, asked, SCALE, ON, tmp_path, SILENT, enough=gate)
    assert whole.draws.z.shape[1] == (75 if mixes else 125)
    again = sample_side_by_side(sampler, asked, SCALE, ON, tmp_path, SILENT, enough=gate)
    np.testing.assert_array_equal(again.draws.z, whole.draws.z)
    assert again.gradients == whole.gradients


def narrow_densities(z, on):
    """A funnel whose neck is far narrower than steps that suit its mouth."""
    x, y = 3.0 * z[:, 3], z[:, :3]
    return on * (-0.5 * z[:, 3] ** 2 - 0.5 * (y * y).sum(axis=1) * jnp.exp(-x) - 1.5 * x - 0.5 * z[:, 4] ** 2)


def test_steps_grow_shorter_where_trajectories_diverge(tmp_path, monkeypatch):
    """As often as there is room for the draws asked for; draws of longer steps are not kept; resumed, the same draws."""
    sampler = SideBySide(narrow_densities, CHAINS, 5, 4, ON)
    asked = {"warmup": 75, "draws": 200, "target_accept": 0.6}

    def run(folder, more):
        (tmp_path / folder).mkdir(exist_ok=True)
        return sample_side_by_side(sampler, settings(**asked, more_draws=more), SCALE, ON, tmp_path / folder, SILENT,
                                   enough=lambda _: True)  # fmt: skip

    first, twice = run("none", 0).draws, run("two", 400).draws
    assert first.diverging.mean() > side_by_side_run.MAX_DIVERGENT
    assert twice.z.shape == first.z.shape
    shorter = np.unique(twice.step_size / first.step_size[0, 0])
    np.testing.assert_allclose(shorter, side_by_side_run.SHORTER**2)
    assert twice.diverging.mean() < first.diverging.mean() and twice.accept.mean() > first.accept.mean()
    save, calls = side_by_side_run.save_pickle, 0

    class Killed(Exception):
        pass

    def save_and_die(path: Path, value) -> None:
        nonlocal calls
        save(path, value)
        calls += 1
        if calls in (3, 12, 16):
            raise Killed

    monkeypatch.setattr(side_by_side_run, "save_pickle", save_and_die)
    for _ in range(3):
        with pytest.raises(Killed):
            run("again", 400)
    np.testing.assert_array_equal(run("again", 400).draws.z, twice.z)


def test_trajectories_may_follow_another_density(tmp_path):
    """A slope 0.8 times the right one, with an error besides: the same moments, fewer acceptances."""

    def other(z, on):
        return 0.8 * log_densities(z, on) + 0.2 * jnp.sin(3.0 * z).sum(axis=1)

    sampler = SideBySide(log_densities, CHAINS, 5, 4, ON, other)
    z = sample_side_by_side(sampler, settings(), SCALE, ON, tmp_path, SILENT).draws.z
    error = az.mcse(xr.Dataset({"z": (("chain", "draw", "i"), z)}))["z"].to_numpy()
    flat = z.reshape(-1, 5)
    assert (np.abs(flat.mean(axis=0)[:4] - [*MEAN, 0.0]) < 4.0 * error[:4]).all()
    np.testing.assert_allclose(np.cov(flat[:, :3].T), COVARIANCE, atol=0.15)


def test_coordinates_whiten_patients_and_what_they_share():
    """A normal in which 30 patients' own coordinates hang on two shared ones and on nothing else: u is standard normal."""
    rng = np.random.default_rng(4)
    shared, own = 2, 30
    follow, sd = rng.normal(size=(own, shared)), rng.uniform(0.1, 3.0, own)
    whiten = np.linalg.cholesky(COVARIANCE[:2, :2])
    scale = Scale(rng.normal(size=shared + own), whiten, sd, follow)
    root = np.block([[whiten, np.zeros((shared, own))], [follow @ whiten, np.diag(sd)]])
    u = rng.normal(size=(7, shared + own))
    z = np.asarray(scale.to_z(jnp.asarray(u)))
    np.testing.assert_allclose(z, scale.centre + u @ root.T, rtol=1e-10)
    np.testing.assert_allclose(scale.to_u(z), u, atol=1e-9)


def test_the_scale_is_found_from_few_draws():
    """75 draws of a normal in which 40 patients' coordinates hang on 3 shared ones, and its slopes: nearly the right scale."""
    rng = np.random.default_rng(6)
    shared, own = 3, 40
    follow, sd = 0.5 * rng.normal(size=(own, shared)), rng.uniform(0.7, 1.4, own)
    right = Scale(rng.normal(size=shared + own), np.linalg.cholesky(COVARIANCE), sd, follow)
    root = np.block([[right.whiten, np.zeros((shared, own))], [follow @ right.whiten, np.diag(sd)]])
    z = right.centre + rng.normal(size=(2 * BLOCK, CHAINS, shared + own)) @ root.T
    start = Scale(np.zeros(shared + own), np.eye(shared), np.ones(own), np.zeros((own, shared)))
    slope = -(z - right.centre) @ np.linalg.inv(root @ root.T)  # in u of the start, which is z
    blocks = [Block(z[i::2], slope[i::2], *[None] * 7) for i in range(2)]  # type: ignore[arg-type]
    found = start
    for _ in range(2):
        blocks = [b._replace(slope=slope[i::2] @ _jacobian(found)) for i, b in enumerate(blocks)]
        found = rescaled(found, blocks)
    ideal = np.linalg.inv(root) @ _jacobian(found)
    spread = np.linalg.svd(ideal, compute_uv=False)
    before = np.linalg.svd(np.linalg.inv(root), compute_uv=False)
    assert before[0] / before[-1] > 10.0 and spread[0] / spread[-1] < 1.7, spread[[0, -1]]
    assert np.abs(found.follow - follow).max() < 0.1


def test_along_a_bent_ridge_positions_decide():
    """h ~ N(0, 1) and 50 patients' coordinates about q (h^2 - 1): slopes spread thrice as much as those of a normal along h.

    In the coordinates found h spreads by 1; slopes and positions alike would leave it at the root of 3.
    """
    rng = np.random.default_rng(12)
    shared, own = 2, 50
    q = np.full(own, np.sqrt(2.0 / own))
    first = rng.normal(size=(8 * BLOCK, CHAINS, shared))
    h = first[..., :1]
    r = rng.normal(size=(8 * BLOCK, CHAINS, own))
    z = np.concatenate([first, q * (h**2 - 1.0) + r], axis=2)
    slope = np.concatenate([-h + 2.0 * h * (r @ q)[..., None], -first[..., 1:], -r], axis=2)
    assert 2.7 < slope[..., 0].std() < 3.3
    start = Scale(np.zeros(shared + own), np.eye(shared), np.ones(own), np.zeros((own, shared)))
    blocks = [Block(z[i::2], slope[i::2], *[None] * 7) for i in range(2)]  # type: ignore[arg-type]
    found = rescaled(start, blocks)
    spread = found.to_u(z.reshape(-1, shared + own))[:, :shared].std(axis=0)
    np.testing.assert_allclose(spread, 1.0, atol=0.1)


def pit_densities(z, on):
    """A standard normal below 1 in the first coordinate; beyond, a valley that is far too narrow for the steps of the rest."""
    first, rest = z[:, 0], z[:, 1:]
    return on * (
        jnp.where(first > 1.0, -50.0 - 0.5e8 * (first - 2.0) ** 2, -0.5 * first**2) - 0.5 * (rest * rest).sum(axis=1)
    )


def test_a_chain_that_stands_still_goes_on_from_another(tmp_path, monkeypatch):
    """Some chains begin in the valley: they would never leave it, and its mass is below 1e-20."""
    sampler = SideBySide(pit_densities, CHAINS, 3, 2, ON)
    scale, short = Scale(np.array([1.0, 0.0, 0.0]), np.eye(2), np.ones(1), np.zeros((1, 2))), settings(draws=200)

    def still(place) -> np.ndarray:
        place.mkdir()
        draws = sample_side_by_side(sampler, short, scale, ON, place, SILENT).draws.z
        return draws[..., 0].std(axis=1) < 0.1

    assert not still(tmp_path / "with").any()
    monkeypatch.setattr(side_by_side_run, "STILL", -1.0)
    assert still(tmp_path / "without").sum() in range(1, CHAINS)


def _jacobian(scale: Scale) -> np.ndarray:
    """Return dz/du."""
    return np.asarray(scale.to_z(jnp.eye(len(scale.centre)))).T - np.asarray(scale.centre)[:, None]


def test_where_the_density_is_not_finite_is_rejected(sampler):
    """Chains stay where they are, and what they did counts as divergent."""
    place = sampler.at(np.array([[0, 1], [0, 2]], np.uint32), np.ones((CHAINS, 5)), SCALE, ON)
    moved, block = sampler.advance(place, np.full(BLOCK, 3), 1e200, SCALE, ON)
    np.testing.assert_array_equal(moved.u, place.u)
    assert block.diverging.all() and np.isfinite(block.log_density).all()


def test_jitter_fills_the_interval_and_steps_have_the_mean_length():
    x = jitter(np.arange(255))
    np.testing.assert_allclose(np.sort(x), np.arange(1, 256) / 256.0, rtol=1e-12)
    steps = np.concatenate([steps_of(Tuning(0.01, 1.5), BLOCK * i, 10_000) for i in range(40)])
    assert 0.01 * steps.mean() == pytest.approx(1.5, rel=0.01)
    assert 0.01 * steps.min() == pytest.approx(1.5 * (1.0 - JITTER), rel=0.01)
    assert 0.01 * steps.max() == pytest.approx(1.5 * (1.0 + JITTER), rel=0.01)
    assert steps_of(Tuning(0.01, 1.5), 0, 16).max() == 16
