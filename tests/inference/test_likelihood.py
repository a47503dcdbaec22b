"""The likelihood of reported numbers: against scipy or by hand, then all of the built-in evidence."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import likelihood
from mezikd.inference.likelihood import SURVIVAL_OUTCOMES, Z95, SurvivalBlock
from mezikd.inference.mode import find_mode
from mezikd.model.parameters import DECLARED, free
from scipy.stats import binom, multinomial, multivariate_normal

NAMES = [p.name for p in free(DECLARED)]


def at(**coordinates) -> np.ndarray:
    """Return the prior median with some standard-normal coordinates set."""
    z = np.zeros(len(NAMES))
    for name, value in coordinates.items():
        z[NAMES.index(name)] = value
    return z


@pytest.mark.parametrize(("count", "n"), [(0, 27), (50, 109), (88, 88)])
def test_binomial(count, n):
    """Up to the constant; certain failures of the model are finite."""
    p = np.linspace(0.02, 0.98, 25)
    constant = binom.logpmf(count, n, p) - likelihood.binomial(count, n, jnp.asarray(p))
    np.testing.assert_allclose(constant, binom.logpmf(count, n, 0.5) - n * np.log(0.5), rtol=1e-9, atol=1e-10)
    assert np.isfinite(likelihood.binomial(count, n, jnp.asarray([0.0, 1.0, -0.1, 1.1]))).all()


def test_quartiles():
    """A multinomial with n/4 patients in each interval, up to the constant; best at the quartiles."""
    rng = np.random.default_rng(1)
    n = 288
    best = float(likelihood.quartiles(n, jnp.asarray([0.25, 0.5, 0.75])))
    for cumulative in np.sort(rng.random((20, 3)), axis=1):
        p = np.diff(np.concatenate([[0.0], cumulative, [1.0]]))
        even = np.full(4, 0.25)
        theirs = multinomial.logpmf(4 * [n // 4], n, p) - multinomial.logpmf(4 * [n // 4], n, even)
        ours = float(likelihood.quartiles(n, jnp.asarray(cumulative)))
        np.testing.assert_allclose(ours - best, theirs, rtol=1e-8)
        assert ours <= best
    assert np.isfinite(likelihood.quartiles(n, jnp.asarray([0.5, 0.5, 1.0])))


@pytest.mark.parametrize(
    ("id", "p", "p_whole", "expected"),
    [
        # 111 of the 176 with grade >= 3 neutropenia were held.
        ("hold_mezigdomide_neutropenia", 0.4, 0.6, (111, 176, 0.4 / 0.6)),
        ("infection_worst_g4", 0.06, 0.3, (16, 98, 0.2)),
        ("infection_with_neutropenia", 0.2, 0.7, (66, 210, 0.2 / 0.7)),
        # Of 288 - 98 without a severe infection, 210 - 98 had a milder one.
        ("infection_any", 0.7, 0.3, (112, 190, 0.4 / 0.7)),
    ],
)
def test_conditional(target, id, p, p_whole, expected):
    row = target.evidence.find(id, "mezikd")
    whole = target.evidence.given(row)
    np.testing.assert_allclose(likelihood.conditional(row, whole, p, p_whole), expected, rtol=1e-9)


def test_given_rows_share_no_patient(target):
    """A chain of conditionals multiplies to the joint probability of nested counts."""
    find = target.evidence.find
    severe, any_grade = find("infection_g34", "mezikd"), find("infection_any", "mezikd")
    p, q = 0.33, 0.72
    count, n, conditional = likelihood.conditional(any_grade, severe, q, p)
    chain = likelihood.binomial(severe.value, severe.denominator, p) + likelihood.binomial(count, n, conditional)
    three = [severe.value, any_grade.value - severe.value, any_grade.denominator - any_grade.value]
    joint = np.dot(three, np.log([p, q - p, 1.0 - q]))
    np.testing.assert_allclose(chain, joint, rtol=1e-9)


def test_survival_scale(target):
    find = target.evidence.find
    median, hr, events = (
        find("pfs_median", "mezikd"),
        find("pfs_hr", "mezikd_vs_kd"),
        find("pfs_events", "kd"),
    )
    np.testing.assert_allclose(
        likelihood.survival_scale(median), (np.log(18.0), np.log(22.1 / 14.5) / (2 * 1.959964)), rtol=1e-6
    )
    np.testing.assert_allclose(
        likelihood.survival_scale(hr), (np.log(0.48), np.log(0.63 / 0.36) / (2 * 1.959964)), rtol=1e-6
    )
    p = 103 / 191
    np.testing.assert_allclose(
        likelihood.survival_scale(events), (np.log(p / (1 - p)), np.sqrt(1 / 103 + 1 / 88)), rtol=1e-10
    )
    not_reached = find("ttp_median", "mezikd")
    value, error = likelihood.survival_scale(not_reached)
    np.testing.assert_allclose((value, value - Z95 * error), (np.log(20.7), np.log(18.0)), rtol=1e-12)


def test_joint_normal(target, evaluate):
    """The survival term against scipy, up to the constant, with a covariance that is not diagonal."""
    rng = np.random.default_rng(2)
    rows = target.survival.rows
    sd = np.sqrt(np.diag(target.survival.covariance))
    mixing = rng.standard_normal((len(rows), len(rows)))
    covariance = sd[:, None] * (0.3 * mixing @ mixing.T + np.eye(len(rows))) * sd
    block = SurvivalBlock(rows, target.survival.observed, covariance)
    (_, parts), _ = evaluate(at(), block.precision_root)
    normal = multivariate_normal(parts["survival"], covariance)
    theirs = normal.logpdf(block.observed) - normal.logpdf(parts["survival"])
    np.testing.assert_allclose(parts["terms"]["survival"], theirs, rtol=1e-9)


def test_every_fitted_row_enters_exactly_one_term(target, evaluate):
    (value, parts), _ = evaluate(at())
    alone = set(parts["terms"]) - {"survival"}
    together = [r.name for r in target.survival.rows]
    fitted = [r.name for r in target.evidence.fit]
    assert len(fitted) == len(set(fitted)) == len(alone) + len(together) == 31
    assert alone | set(together) == set(fitted) and not alone & set(together)
    assert {r.outcome for r in target.survival.rows} == set(SURVIVAL_OUTCOMES)
    np.testing.assert_allclose(value, sum(parts["terms"].values()), rtol=1e-12)
    assert all(x < 0.0 for x in parts["terms"].values())


def test_count_terms_are_binomials_of_the_models_probabilities(target, evaluate):
    """Rows without a condition, again from the probability and the table's own numbers."""
    (_, parts), _ = evaluate(at(ec50=-0.5, infection_rate=0.5))
    seen = 0
    for row in target.evidence.fit:
        if row.statistic == "count" and not row.given and row.outcome not in SURVIVAL_OUTCOMES:
            p = parts["probability"][row.name]
            expected = row.value * np.log(p) + (row.denominator - row.value) * np.log(1.0 - p)
            np.testing.assert_allclose(parts["terms"][row.name], expected, rtol=1e-8, err_msg=row.name)
            seen += 1
    assert seen == 11


def test_prior_is_standard_normal(evaluate):
    z = np.random.default_rng(3).standard_normal(len(NAMES))
    (value, parts), _ = evaluate(z)
    np.testing.assert_allclose(value, sum(parts["terms"].values()) - 0.5 * z @ z, rtol=1e-12)


def test_not_a_number_is_rejected(evaluate):
    (value, _), _ = evaluate(np.full(len(NAMES), np.nan))
    assert value == -np.inf


def not_finite(evaluate, draws: int, seed: int) -> list[tuple[int, list[str]]]:
    """Return the draws (1.5 times the prior's spread) at which something is not finite, and where."""
    rng = np.random.default_rng(seed)
    bad = []
    for i in range(draws):
        (value, _), slope = evaluate(1.5 * rng.standard_normal(len(NAMES)))
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            bad.append((i, [NAMES[j] for j in np.flatnonzero(~np.isfinite(slope))]))
    return bad


def test_finite_at_wide_draws(evaluate):
    bad = not_finite(evaluate, 200, 0)
    assert not bad, f"{len(bad)} of 200 draws, the first {bad[0]}"


def test_finite_where_nobody_is_left(evaluate):
    """Progression so steep that survival on Kd underflows: the one of 10,000 wide draws whose gradient was NaN."""
    steep = at(progression_rate=0.4, progression_shape=6.5, progression_frailty_sd=-0.9, stop_rate_kd=3.0)
    (value, _), slope = evaluate(steep)
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.slow
def test_finite_at_10000_wide_draws(evaluate):
    bad = not_finite(evaluate, 10_000, 4)
    assert not bad, f"{len(bad)} of 10,000 draws, the first {bad[0]}"


def test_gradient_agrees_with_differences(evaluate):
    """In every coordinate, away from the median so that no slope is 0 by symmetry."""
    z = 0.5 * np.random.default_rng(5).standard_normal(len(NAMES))
    _, slope = evaluate(z)
    for i, name in enumerate(NAMES):
        step = np.zeros(len(NAMES))
        step[i] = 1e-4
        difference = (evaluate(z + step)[0][0] - evaluate(z - step)[0][0]) / 2e-4
        np.testing.assert_allclose(slope[i], difference, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def mode(evaluate):
    """The mode, and the parts of the log-density there."""

    def gradient(z):
        (value, _), slope = evaluate(z)
        return float(value), slope

    z, value, spent = find_mode(gradient, at()[None])
    assert spent < 400
    (again, parts), slope = evaluate(z)
    assert again == value and np.abs(slope).max() < 1.0
    return z, parts


def swapped(row, other):
    """Return ``row`` with the rate of ``other``."""
    return replace(row, value=row.denominator * other.value / other.denominator)


@pytest.mark.parametrize("id", ["neutropenia_g34", "infection_g34"])
def test_wrong_regions_fit_worse(target, mode, id):
    """Asia's rate given to Europe and the other way round loses likelihood at the mode, by construction."""
    asia, europe = (target.evidence.find(id, "mezikd", r) for r in ("asia", "europe"))
    _, parts = mode

    def log_likelihood(*rows):
        return sum(likelihood.binomial(r.value, r.denominator, parts["probability"][r.name]) for r in rows)

    right, wrong = log_likelihood(asia, europe), log_likelihood(swapped(asia, europe), swapped(europe, asia))
    assert right - wrong > 5.0


def test_an_inverted_hazard_ratio_fits_worse(target, mode):
    block, (_, parts) = target.survival, mode
    inverted = np.where([r.statistic == "hazard_ratio" for r in block.rows], -1.0, 1.0) * block.observed

    def log_likelihood(observed):
        return -0.5 * ((block.precision_root @ (observed - parts["survival"])) ** 2).sum()

    np.testing.assert_allclose(log_likelihood(block.observed), parts["terms"]["survival"], rtol=1e-9)
    assert log_likelihood(block.observed) - log_likelihood(inverted) > 5.0
