"""Monte Carlo noise taken out of intervals: against distributions whose population quantity is known."""

import numpy as np
import pytest
from mezikd.inference.monte_carlo import (
    QUANTILES,
    Estimates,
    centre_error,
    median_error,
    population_draws,
    probability_above_zero,
    quantiles,
    shrinkage,
)
from scipy.stats import beta, norm

A, B = 120.0, 80.0
"""A share that is Beta(120, 80) over posterior draws: SD 0.035, as that of 200 patients' share."""


def beta_binomial(seed: int, draws: int, patients: int, share: np.ndarray | None = None) -> Estimates:
    """Return shares of ``patients`` patients, in two halves, whose true share differs from draw to draw."""
    rng = np.random.default_rng(seed)
    p = rng.beta(A, B, draws) if share is None else share
    halves = [rng.binomial(patients // 2, p) / (patients // 2) for _ in range(2)]
    return Estimates((halves[0] + halves[1]) / 2.0, *halves)


def mass(low: float, high: float) -> float:
    """Return the true probability of an interval."""
    return float(beta.cdf(high, A, B) - beta.cdf(low, A, B))


@pytest.mark.parametrize("patients", [128, 512])
def test_interval_of_a_share_holds_its_probability(patients):
    """Beta-binomial: the deflated 50 and 90 % intervals hold 50 and 90 % of the true distribution, the raw ones more."""
    x = beta_binomial(1, 40_000, patients)
    low, q25, _, q75, high = quantiles(population_draws(x))
    assert mass(low, high) == pytest.approx(0.90, abs=0.01)
    assert mass(q25, q75) == pytest.approx(0.50, abs=0.02)
    raw = quantiles(x.full)
    assert mass(raw[0], raw[4]) > (0.97 if patients == 128 else 0.93)
    assert mass(raw[1], raw[3]) > (0.65 if patients == 128 else 0.54)


def test_variance_and_mean_are_the_populations():
    """Var(X*) = A B / ((A + B)^2 (A + B + 1)), and k^2 = Var(Q) / (Var(Q) + E[p (1 - p)] / n), written out."""
    n, x = 128, beta_binomial(2, 100_000, 128)
    variance = A * B / ((A + B) ** 2 * (A + B + 1.0))
    noise = A * B / ((A + B) * (A + B + 1.0)) / n
    _, k = shrinkage(x)
    assert k == pytest.approx(np.sqrt(variance / (variance + noise)), rel=0.02)
    star = population_draws(x)
    assert star.var() == pytest.approx(variance, rel=0.04)
    assert star.mean() == pytest.approx(x.full.mean(), abs=1e-12)


def test_400_draws_on_average():
    """With the default size, over 200 repetitions, the 90 % interval holds 90 % on average, or little more."""
    held = []
    for seed in range(200):
        low, *_, high = quantiles(population_draws(beta_binomial(seed, 400, 512)))
        held.append(mass(low, high))
    assert 0.895 < np.mean(held) < 0.915


def test_few_draws_do_not_collapse():
    """48 draws of 128 patients: never a point, and 90 % or more on average."""
    held = []
    for seed in range(200):
        low, *_, high = quantiles(population_draws(beta_binomial(seed, 48, 128)))
        held.append(mass(low, high))
    assert min(held) > 0.3
    assert 0.88 < np.mean(held) < 0.97


def test_all_noise_collapses_to_a_point():
    """One true share for every draw: the interval is (nearly) a point, the raw one is not."""
    x = beta_binomial(3, 20_000, 128, np.full(20_000, 0.4))
    low, *_, high = quantiles(population_draws(x))
    raw = quantiles(x.full)
    assert high - low < 0.25 * (raw[4] - raw[0])


def test_log_scale():
    """A log-normal time estimated with multiplicative noise: quantiles of the true one."""
    rng, n = np.random.default_rng(4), 60_000
    q = np.log(12.0) + 0.2 * rng.standard_normal(n)
    halves = [q + 0.2 * np.sqrt(2.0) * rng.standard_normal(n) for _ in range(2)]
    x = Estimates(*(np.exp(a) for a in ((halves[0] + halves[1]) / 2.0, *halves)))
    expected = 12.0 * np.exp(0.2 * norm.ppf(QUANTILES))
    np.testing.assert_allclose(quantiles(population_draws(x, log=True)), expected, rtol=0.015)
    assert quantiles(x.full)[4] > 1.1 * expected[4]


def test_medians_not_reached_stay_infinite():
    """Upper quantiles of a time cut at a horizon are infinite, lower ones those of the true time."""
    rng, n = np.random.default_rng(5), 60_000
    q = np.log(20.0) + 0.2 * rng.standard_normal(n)
    halves = [q + 0.15 * np.sqrt(2.0) * rng.standard_normal(n) for _ in range(2)]
    cut = [np.where(np.exp(a) > 24.0, np.inf, np.exp(a)) for a in ((halves[0] + halves[1]) / 2.0, *halves)]
    got = quantiles(population_draws(Estimates(*cut), log=True))
    expected = 20.0 * np.exp(0.2 * norm.ppf(QUANTILES))
    np.testing.assert_allclose(got[:3], expected[:3], rtol=0.03)
    assert got[4] == np.inf
    nothing = Estimates(*(np.full(10, np.inf) for _ in range(3)))
    assert (quantiles(population_draws(nothing, log=True)) == np.inf).all()


def test_quantiles_do_not_interpolate_to_infinity():
    x = np.array([1.0, 2.0, 3.0, np.inf])
    np.testing.assert_array_equal(quantiles(x, (0.25, 0.75, 0.76)), [1.0, 3.0, np.inf])


def test_difference_of_two_infinite_medians_is_unknown():
    """Unknown differences widen the interval to both sides; the median stays where they move it by less than its error."""
    one = Estimates(*(np.array([np.inf, 20.0, np.inf, 18.0]) for _ in range(3)))
    two = Estimates(*(np.array([np.inf, 18.0, 20.0, np.inf]) for _ in range(3)))
    difference = one.minus(two).full
    np.testing.assert_array_equal(difference, [np.nan, 2.0, np.inf, -np.inf])
    assert probability_above_zero(difference) == (0.5 + 1 + 1 + 0) / 4
    got = quantiles(np.array([np.nan, *np.linspace(1.0, 2.0, 9)]), (0.05, 0.5, 0.95))
    assert got[0] == -np.inf
    assert got[1] == (1.375 + 1.5) / 2, "between the fifth of all with the unknown one lowest, and with it highest"
    assert got[2] == np.inf
    many = np.array([np.nan] * 4 + [1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    assert np.isnan(quantiles(many, (0.5,))).all(), "more than the root of ten"
    assert quantiles(np.array([np.nan] * 4 + [1.0] * 6), (0.5,)) == 1.0, "they cannot move it"
    assert np.isnan(quantiles(np.full(3, np.nan))).all()


def test_paired_differences_are_narrower():
    """Two groups of the same patients share their luck: noise of the difference is that of the difference."""
    rng, draws, n = np.random.default_rng(6), 20_000, 64
    p = rng.beta(A, B, draws)
    u = rng.random((draws, n))
    one, two = (u < p[:, None]), (u < p[:, None] - 0.05)

    def shares(x):
        return Estimates(x.mean(1), x[:, : n // 2].mean(1), x[:, n // 2 :].mean(1))

    star = population_draws(shares(two).minus(shares(one)))
    assert star.mean() == pytest.approx(-0.05, abs=0.001)
    assert star.std() < 0.006  # the true difference does not vary
    unpaired = shares(two).full - shares(one).full[::-1]
    assert unpaired.std() > 0.1


def test_median_error():
    """The spread of the medians of many samples."""
    rng = np.random.default_rng(7)
    samples = rng.standard_normal((2000, 400))
    spread = np.median(samples, axis=1).std()
    assert np.mean([median_error(x) for x in samples]) == pytest.approx(spread, rel=0.1)
    with_infinite = [np.where(x > 1.0, np.inf, x) for x in samples]
    assert np.mean([median_error(x) for x in with_infinite]) == pytest.approx(spread, rel=0.15)
    assert np.isnan(median_error(np.full(5, np.inf)))
    assert np.isnan(median_error(np.array([1.0])))


def test_nothing_known():
    x = Estimates(*(np.full(5, np.nan) for _ in range(3)))
    assert np.isnan(population_draws(x)).all()
    assert np.isnan(quantiles(population_draws(x))).all()


def test_a_difference_within_the_monte_carlo_error_is_not_certain():
    """All draws above 0, by less than the error of their centre: P is that of a normal error, not 1."""
    rng, d, noise = np.random.default_rng(4), 400, 0.8
    half1, half2 = 0.03 + noise * np.sqrt(2.0) * rng.standard_normal((2, d))
    error = centre_error(Estimates(0.5 * (half1 + half2), half1, half2))
    assert error == pytest.approx(noise / np.sqrt(d), rel=0.15)
    tiny = np.full(d, error)
    assert probability_above_zero(tiny) == 1.0
    assert probability_above_zero(tiny, error) == pytest.approx(0.8413, abs=1e-3)
    assert probability_above_zero(np.array([np.nan, 0.0, np.inf, -np.inf]), error) == 0.5
    assert probability_above_zero(np.full(d, 9.0 * error), error) == 1.0
    assert centre_error(Estimates(tiny, np.full(d, np.inf), tiny)) == 0.0
