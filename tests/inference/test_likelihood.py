"""The likelihood of reported numbers: against scipy or by hand, then all of the built-in evidence."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import likelihood, scores
from mezikd.inference.likelihood import Joint, Prior
from mezikd.inference.mode import find_mode
from mezikd.model.parameters import DECLARED, free
from scipy.stats import multivariate_t

NAMES = [p.name for p in free(DECLARED)]


def at(**coordinates) -> np.ndarray:
    """Return the prior median with some standard-normal coordinates set."""
    z = np.zeros(len(NAMES))
    for name, value in coordinates.items():
        z[NAMES.index(name)] = value
    return z


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
    found = likelihood.conditional(row, row.value, whole.value, whole.denominator, p, p_whole)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def log_binomial(count, n, p):
    """Return the binomial log-likelihood without its constant."""
    return count * np.log(p) + (n - count) * np.log1p(-p)


def test_given_rows_share_no_patient(target):
    """A chain of conditionals multiplies to the joint probability of nested counts."""
    find = target.evidence.find
    severe, any_grade = find("infection_g34", "mezikd"), find("infection_any", "mezikd")
    p, q = 0.33, 0.72
    of = severe.value, severe.denominator
    count, n, conditional = likelihood.conditional(any_grade, any_grade.value, *of, q, p)
    chain = log_binomial(severe.value, severe.denominator, p) + log_binomial(count, n, float(conditional))
    three = [severe.value, any_grade.value - severe.value, any_grade.denominator - any_grade.value]
    joint = np.dot(three, np.log([p, q - p, 1.0 - q]))
    np.testing.assert_allclose(chain, joint, rtol=1e-9)


def test_joint_law(target, evaluate):
    """All scores together against scipy's multivariate t, up to the constant, with a full covariance and a mean."""
    rng = np.random.default_rng(2)
    m, trials = len(target.score_names), 300
    mixing = rng.standard_normal((m, m))
    covariance = 0.05 * mixing @ mixing.T + np.eye(m)
    mean = 0.3 * rng.standard_normal(m)
    joint = Joint(
        jnp.asarray(mean), jnp.asarray(np.linalg.inv(np.linalg.cholesky(covariance))), jnp.asarray(float(trials))
    )
    data = target.data._replace(joint=joint)
    (_, parts), _ = evaluate(at(), data)
    r = np.concatenate([parts["scores"][row.name] for row in target.evidence.fit])
    degrees = trials - m
    t = multivariate_t(mean, covariance * (trials - 1) / degrees, df=degrees)
    np.testing.assert_allclose(sum(parts["terms"].values()), t.logpdf(r) - t.logpdf(mean), rtol=1e-9)


def test_independent_scores_add_up(target, evaluate):
    (value, parts), _ = evaluate(at())
    assert abs(parts["terms"].pop("joint")) < 1e-6
    fitted = [r.name for r in target.evidence.fit]
    assert set(parts["terms"]) == set(fitted) and len(fitted) == len(set(fitted)) == 31
    assert sum(len(r) for r in parts["scores"].values()) == len(target.score_names) == 45
    np.testing.assert_allclose(value, sum(parts["terms"].values()), rtol=1e-9)
    assert all(x < 0.0 for x in parts["terms"].values())


def test_another_prior(target, evaluate):
    """A normal prior that is not standard: its log-density in place of the standard one."""
    rng = np.random.default_rng(6)
    z, centre = rng.standard_normal((2, len(NAMES)))
    root = np.eye(len(NAMES)) + 0.1 * rng.standard_normal((len(NAMES),) * 2)
    data = target.data._replace(prior=Prior(jnp.asarray(centre), jnp.asarray(root)))
    difference = float(target.log_density(jnp.asarray(z), data)) - evaluate(z)[0][0]
    np.testing.assert_allclose(difference, 0.5 * z @ z - 0.5 * np.square(root @ (z - centre)).sum(), rtol=1e-6)


def test_count_terms_are_binomials_of_the_models_probabilities(target, evaluate):
    """Rows without a condition, again from the probability and the table's own numbers."""
    (_, parts), _ = evaluate(at(ec50=-0.5, infection_rate=0.5))
    seen = 0
    for row in target.evidence.fit:
        if row.statistic == "count" and not row.given:
            p, x = parts["probability"][row.name], row.value / row.denominator
            # Less the largest value, at the reported share (none at 0 of 27).
            most = log_binomial(row.value, row.denominator, x) if row.value else 0.0
            expected = log_binomial(row.value, row.denominator, p) - most
            np.testing.assert_allclose(parts["terms"][row.name], expected, rtol=1e-7, err_msg=row.name)
            seen += 1
    assert seen == 15


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
        return -0.5 * sum(
            float(scores.binomial(r.value, r.denominator, parts["probability"][r.name])) ** 2 for r in rows
        )

    right, wrong = log_likelihood(asia, europe), log_likelihood(swapped(asia, europe), swapped(europe, asia))
    assert right - wrong > 5.0


def test_an_inverted_hazard_ratio_fits_worse(target, mode):
    z, parts = mode
    i = [r.name for r in target.evidence.rows].index("pfs_hr/mezikd_vs_kd/all")
    value = np.array(target.data.observed.value)
    value[i] = 1.0 / value[i]
    inverted = target.row_scores(target.compiled_expected(z), target.data.observed._replace(value=value))
    loss = parts["terms"]["pfs_hr/mezikd_vs_kd/all"] + 0.5 * float(inverted["pfs_hr/mezikd_vs_kd/all"][0]) ** 2
    assert loss > 5.0


def test_single_precision_follows_double(target, evaluate):
    """What trajectories follow: log-density and gradient over draws of the prior."""
    single = jax.jit(jax.value_and_grad(target.in_single().log_density))
    errors, angles = [], []
    for z in np.random.default_rng(3).standard_normal((30, len(NAMES))):
        (exact, _), exact_slope = evaluate(z)
        value, slope = single(z, target.data)
        errors.append(abs(float(value - exact)))
        angles.append(np.linalg.norm(slope - exact_slope) / np.linalg.norm(exact_slope))
    assert 0.0 < np.median(errors) < 1e-3
    assert np.quantile(errors, 0.9) < 0.01
    assert np.quantile(angles, 0.9) < 0.01
