"""The calibration finds what is right and what is wrong; its chains are right where the posterior is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import calibration
from mezikd.inference.calibration import (
    RANKED,
    THIN,
    VERSIONS,
    Calibrator,
    Fitted,
    TrialFit,
    drawn_truths,
    normal_prior,
    settings_of,
)
from mezikd.inference.calibration_tables import (
    UniformRanks,
    contraction,
    coverage_table,
    inside_interval,
    rank_table,
    with_rank_tests,
)
from mezikd.inference.commands import BAD_INPUT, run
from mezikd.inference.likelihood import KNOWN, Data, Joint, whitened, whitened_log_likelihood
from mezikd.inference.mode import laplace
from mezikd.inference.reported_trial import reported_by
from mezikd.inference.sampler import Geometry, Sampler
from mezikd.inference.trial import simulated_trials
from scipy.stats import binom, chi2

TRIALS = 100


def fits_of(width: float, shift: float = 0.0, seed: int = 1) -> list[TrialFit]:
    """Return trials of a normal mean with a standard normal prior and one observation; ``width`` 1 is the posterior."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(TRIALS):
        truth = rng.standard_normal()
        seen = truth + rng.standard_normal()
        draws = shift + seen / 2 + width * np.sqrt(0.5) * rng.standard_normal(RANKED)
        right = seen / 2 + np.sqrt(0.5) * rng.standard_normal(RANKED)
        fits = {"independent": Fitted({"mean": draws}, 0.8, 0), "covariance": Fitted({"mean": right}, 0.8, 0)}
        out.append(TrialFit({"mean": truth}, fits))
    return out


def result(width: float, shift: float = 0.0):
    """Return calibration.csv of ``fits_of``, by version and level."""
    ranks = rank_table(fits_of(width, shift), {"mean"})
    return with_rank_tests(coverage_table(ranks), ranks).set_index(["version", "level"]), ranks


def test_right_and_wrong_posteriors():
    for width, shift in ((0.5, 0.0), (2.0, 0.0), (1.0, 0.7)):
        table, _ = result(width, shift)
        wrong, right = table.loc["independent"], table.loc["covariance"]
        assert right["inside"].all() and (right["rank_p"] > 0.01).all()
        assert (wrong["rank_p"] < 0.01).all(), (width, shift)
    assert result(0.5)[0].loc[("independent", 0.9), "coverage"] < 0.8


def test_bands_are_those_of_the_binomial():
    table, ranks = result(1.0)
    ninety = table.loc[("covariance", 0.9)]
    assert (ninety["band_low"], ninety["band_high"]) == (0.82, 0.97)
    fifty = table.loc[("covariance", 0.5)]
    assert (fifty["band_low"], fifty["band_high"]) == (0.37, 0.63)
    assert 0.35 < contraction(ranks, "covariance")["mean"] < 0.65  # half of the prior's variance


def test_intervals_hold_their_nominal_share_of_ranks():
    ranks = np.arange(RANKED + 1)
    assert inside_interval(ranks, RANKED, 0.9).mean() == pytest.approx(0.9)
    assert inside_interval(ranks, RANKED, 0.5).mean() == pytest.approx(0.5)


def test_simultaneous_band():
    """One set of uniform ranks in a hundred leaves it, whatever its seed; the band holds each point of the others."""
    uniform = UniformRanks(60, seed=2)
    rng = np.random.default_rng(9)
    sets = rng.integers(0, RANKED + 1, (2000, 60))
    outside = np.array([uniform.p_value(x) < 0.01 for x in sets])
    assert binom.cdf(outside.sum(), 2000, 0.01) > 1e-3 and binom.sf(outside.sum() - 1, 2000, 0.01) > 1e-3
    low, high = uniform.band()
    for x, left in zip(sets[:200], outside[:200], strict=True):
        d = uniform.deviation(x)
        assert ((d < low - 1e-9) | (d > high + 1e-9)).any() == left


def test_widened_prior():
    """SDs times the factor, nowhere wider than the declared prior; truths follow it, the first ones whatever their number."""
    rng = np.random.default_rng(3)
    scale = np.array([0.1, 0.2, 0.9])
    prior = normal_prior(rng.standard_normal((4000, 3)) * scale + 1.0, 3.0)
    root = np.asarray(prior.root)
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(root.T @ root))), [0.3, 0.6, 1.0], rtol=0.05)
    truths = drawn_truths(prior, 3, 3000, 1)
    np.testing.assert_allclose(truths.mean(axis=0), prior.centre, atol=0.1)
    np.testing.assert_allclose(truths.std(axis=0), [0.3, 0.6, 1.0], rtol=0.08)
    np.testing.assert_array_equal(drawn_truths(prior, 3, 10, 1), truths[:10])
    np.testing.assert_allclose(drawn_truths(None, 3, 3000, 1).std(axis=0), 1.0, atol=0.05)


def test_chain_is_calibrated_where_the_posterior_is_known():
    """Three normal means with correlated observations: 60 trials of the chain in use give uniform ranks."""
    mixing = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.5, 0.9]])
    inverse = jnp.asarray(np.linalg.inv(mixing))

    def log_density(z, seen):
        return -0.5 * jnp.sum((inverse @ (seen - z)) ** 2) - 0.5 * jnp.sum(z**2)

    settings = settings_of(1, 0.8)
    function = jax.jit(jax.value_and_grad(log_density))
    names = [SimpleNamespace(name=n, from_standard=lambda x: x, fixed=False) for n in "abc"]
    problem = SimpleNamespace(free=names, parameters=tuple(names))
    sampler = Sampler(log_density, 3, np.zeros(3), settings)
    calibrator = Calibrator(problem, None, settings, 0, VERSIONS, function, sampler, None, lambda z: {})  # type: ignore[arg-type]
    rng = np.random.default_rng(4)
    fits = []
    for i in range(60):
        truth = rng.standard_normal(3)
        seen = jnp.asarray(truth + mixing @ rng.standard_normal(3))

        def slope(z, seen=seen):
            value, slope = function(z, seen)
            return float(value), np.asarray(slope)

        mode = laplace(slope, np.zeros((1, 3)))
        geometry = Geometry(jnp.asarray(mode.z), jnp.asarray(mode.whiten), seen)
        geometry, last, first = calibrator._chain(i, geometry, None)
        _, _, second = calibrator._chain(i, geometry, last)
        assert first.divergences == 0 and len(first.draws["a"]) == RANKED
        fits.append(TrialFit(calibrator.named(truth), dict(zip(VERSIONS, (first, second), strict=True))))
    ranks = rank_table(fits, set())
    table = with_rank_tests(coverage_table(ranks), ranks)
    assert (table["rank_p"] > 0.01).all() and table["inside"].all()
    assert settings.draws >= RANKED * THIN


def test_one_version_is_fitted_alone_as_beside_the_other(monkeypatch):
    mixing = np.array([[1.0, 0.0], [0.9, 0.4]])
    joint = Joint(jnp.zeros(2), jnp.asarray(np.linalg.inv(mixing)), jnp.asarray(KNOWN))
    monkeypatch.setattr(calibration, "joined", lambda target, data, *_: data._replace(joint=joint))

    def log_density(z, data):
        return whitened_log_likelihood(whitened(data.observed - z, data.joint), data.joint) - 0.5 * jnp.sum(z**2)

    settings = settings_of(1, 0.8)
    function = jax.jit(jax.value_and_grad(log_density))
    names = [SimpleNamespace(name=n, from_standard=lambda x: x, fixed=False) for n in "ab"]
    target = SimpleNamespace(score_names="ab")
    problem = SimpleNamespace(free=names, parameters=tuple(names), target=target)
    truth, seen = np.zeros(2), jnp.asarray([1.0, -1.0])
    sampler = Sampler(log_density, 2, Data(seen, joint), settings)

    def fits(versions):
        calibrator = Calibrator(problem, None, settings, 0, versions, function, sampler, None, lambda z: {})  # type: ignore[arg-type]
        return calibrator.fit(3, truth, seen, 1).fits  # type: ignore[arg-type]

    both, alone = fits(VERSIONS), fits(("covariance",))
    assert list(both) == list(VERSIONS) and list(alone) == ["covariance"]
    np.testing.assert_array_equal(both["covariance"].draws["a"], alone["covariance"].draws["a"])
    # The posterior's precision is I + root' root: a correlation of 0.78; none as if independent.
    correlation = {v: np.corrcoef(fit.draws["a"], fit.draws["b"])[0, 1] for v, fit in both.items()}
    assert correlation["covariance"] > 0.55 and abs(correlation["independent"]) < 0.4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "independent"], "--only: value 'independent' is not allowed; allowed: covariance"),
        (["--trials", "5"], "--trials: value 5 is not allowed; allowed: 20 to 100000"),
        (["--widen", "0.5"], "--widen"),
        (["--seed", "-1"], "--seed"),
        (["--virtual-patients", "100"], "power of two"),
        (["--covariance-trials", "10"], "--covariance-trials"),
        (["--around", "nowhere.nc"], "there is no such file"),
        (["nowhere"], "there is no such folder"),
    ],
)
def test_bad_options(arguments, said, tmp_path, capsys):
    assert run(["calibrate", *arguments, "--out", str(tmp_path / "out")]) == BAD_INPUT
    line = capsys.readouterr().err
    assert said in line and len(line.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0])
def test_counts_of_simulated_trials_vary_as_binomials(target, shift):
    """Patients of a trial are independent, so a count of all of them has a binomial's variance (99.9 % limits, 400 trials)."""
    z = np.zeros(sum(not p.fixed for p in target.parameters))
    z[[p.name for p in target.parameters if not p.fixed].index("ec50")] = shift
    trials = simulated_trials(np.tile(z, (400, 1)), target.parameters, target.design, seed=11)
    rows = [i for i, r in enumerate(target.evidence.rows) if r.name.startswith("neutropenia_g34/mezikd/")]
    rows = [i for i in rows if target.evidence.rows[i].role == "fit"]
    numbers = [reported_by(trial, target.evidence) for trial, _ in trials]
    count = np.array([np.asarray(o.value)[rows].sum() for o in numbers])
    n = np.asarray(numbers[0].denominator)[rows].sum()
    p = count.mean() / n
    ratio = count.var() / (n * p * (1.0 - p))
    print(f"probability {p:.3f}, variance over a binomial's {ratio:.2f}")
    assert chi2.ppf(0.0005, 399) < 399 * ratio < chi2.ppf(0.9995, 399)
