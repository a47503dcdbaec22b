"""Weights, power-scaling, learning and stacking where the answer is known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
from mezikd.inference.importance import TRUSTED, Normal, moved, smoothed
from mezikd.inference.learning import Sampled, moves, one_more_count
from mezikd.inference.likelihood import Joint, part_of
from mezikd.inference.power_scaling import (
    by_group,
    conditional_log_likelihood,
    log_likelihoods,
    sensitivity_table,
)
from mezikd.inference.sensitivity import prior_of
from mezikd.inference.structures import left_out
from scipy.stats import beta, betabinom, multivariate_t, norm


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(1)


def test_weights_turn_one_normal_into_another(rng):
    x = rng.standard_normal(4000)
    w = smoothed(norm.logpdf(x, 0.5, 0.9) - norm.logpdf(x))
    assert w.khat < TRUSTED and w.weights.sum() == pytest.approx(1.0)
    assert w.mean(x) == pytest.approx(0.5, abs=0.04) and w.sd(x) == pytest.approx(0.9, abs=0.04)
    assert w.quantile(x, 0.95) == pytest.approx(norm.ppf(0.95, 0.5, 0.9), abs=0.08)
    assert smoothed(norm.logpdf(x, 6.0, 1.0) - norm.logpdf(x)).khat > TRUSTED
    assert np.isfinite(smoothed(np.where(x > 2.0, np.nan, 0.0)).weights).all()


def test_moved_draws_need_no_weights(rng):
    """Draws of one normal mapped to another are draws of it: weights are even, moments right."""
    a, b = np.array([[1.0, 0.0], [0.5, 0.4]]), np.array([[0.3, 0.0], [-0.2, 2.0]])
    x = np.array([1.0, 2.0]) + rng.standard_normal((3000, 2)) @ a.T
    y = moved(x, Normal(np.array([1.0, 2.0]), a), Normal(np.array([-1.0, 0.0]), b))
    np.testing.assert_allclose(y.mean(axis=0), [-1.0, 0.0], atol=0.12)
    np.testing.assert_allclose(np.cov(y.T), b @ b.T, atol=0.2)


@pytest.fixture(scope="module")
def joint(rng):
    m = 6
    mixing = rng.standard_normal((m, m))
    covariance = 0.3 * mixing @ mixing.T + np.eye(m)
    mean = 0.2 * rng.standard_normal(m)
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    return Joint(mean, root, np.asarray(120.0)), covariance, mean


def t_of(joint_parts, keep):
    _, covariance, mean = joint_parts
    d, trials = len(keep), 120
    return multivariate_t(mean[keep], covariance[np.ix_(keep, keep)] * (trials - 1) / (trials - d), df=trials - d)


def test_conditional_log_likelihood(rng, joint):
    """log p(all) - log p(others), each as scipy's multivariate t up to a constant of no draw."""
    scores = rng.standard_normal((30, 6))
    members = np.array([False, True, False, False, True, False])
    ours = conditional_log_likelihood(scores, joint[0], members)
    theirs = t_of(joint, np.arange(6)).logpdf(scores)
    rest = np.flatnonzero(~members)
    # The others alone keep the trials as degrees: the exact marginal of the form in use has the same exponent.
    u = (scores[:, rest] - joint[2][rest]) @ np.linalg.inv(np.linalg.cholesky(joint[1][np.ix_(rest, rest)])).T
    theirs = theirs + 60.0 * np.log1p((u**2).sum(axis=1) / 119.0)
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-9, atol=1e-9)
    assert part_of(joint[0], ~members).trials == joint[0].trials


def test_groups_of_independent_scores_add_up(rng):
    scores = rng.standard_normal((50, 4))
    joint = Joint(np.zeros(4), np.eye(4), np.asarray(1e12))
    found = by_group(scores, joint, ("a", "a", "b", "b"))
    np.testing.assert_allclose(found["a"], -0.5 * (scores[:, :2] ** 2).sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(sum(found.values()), log_likelihoods(scores, joint), atol=1e-6)


def test_power_scaling_finds_what_decides(rng):
    """One quantity known from the prior alone, one from a number, one from both."""
    x = rng.standard_normal((4000, 3)) * np.array([1.0, 0.1, np.sqrt(0.5)]) + np.array([0.0, 0.0, 1.5])
    quantities = {"prior": x[:, 0], "number": x[:, 1], "both": x[:, 2]}
    priors = {"a": -0.5 * x[:, 0] ** 2, "b": -0.5 * x[:, 2] ** 2}
    numbers = {"c": -0.5 * (x[:, 1] / 0.1) ** 2, "d": -0.5 * (x[:, 2] - 3.0) ** 2}
    table = sensitivity_table(quantities, priors, numbers)
    driven = table.drop_duplicates("quantity").set_index("quantity")["driven_by"]
    assert driven.to_dict() == {"prior": "prior", "number": "numbers", "both": "both"}
    parts = {(x["quantity"], x["group"]): x["sensitivity"] for x in table.to_dict("records") if x["group"] != "all"}
    assert parts["prior", "a"] > 5 * parts["prior", "b"] and parts["number", "c"] > 5 * parts["number", "d"]


def test_a_number_left_out(rng):
    """Normal mean, two observations of it: without the second the posterior is that of the first."""
    first, second = 0.5, 1.5
    x = norm.rvs((first + second) / 3.0, np.sqrt(1.0 / 3.0), size=20_000, random_state=rng)
    scores = np.stack([first - x, second - x], axis=1)
    joint = Joint(np.zeros(2), np.eye(2), np.asarray(1e12))
    table = moves({"mean": x}, scores, joint, ("first", "second")).set_index("reported")
    without = np.array([second / 2.0, first / 2.0])
    np.testing.assert_allclose(table["shift"], ((first + second) / 3.0 - without) / np.sqrt(1.0 / 3.0), atol=0.06)
    np.testing.assert_allclose(table["narrowing"], 1.0 - np.sqrt(2.0 / 3.0), atol=0.04)
    assert table["trusted"].all()
    exact = norm.logpdf(second, first / 2.0, np.sqrt(1.5)) - norm.logpdf(0.0)
    found = left_out(scores, joint, np.array([False, True]))
    assert found.elpd == pytest.approx(exact, abs=0.02) and found.khat < TRUSTED


@pytest.mark.parametrize("rhat", [1.02, 1.3])
def test_a_number_whose_weights_cannot_be_trusted_is_sampled_without(rng, rhat):
    """The second observation contradicts the first: weights fail, draws of the posterior without it tell."""
    x = norm.rvs(4.0, np.sqrt(1.0 / 3.0), size=2000, random_state=rng)
    scores = np.stack([0.0 * x, 12.0 - x], axis=1)
    joint = Joint(np.zeros(2), np.diag([1.0, np.sqrt(2.0)]), np.asarray(1e12))
    asked = []

    def without(rows):
        asked.extend((row, list(members)) for row, members in rows.items())
        return {row: Sampled({"mean": norm.rvs(0.0, 1.0, size=4000, random_state=rng)}, rhat) for row in rows}

    plain = moves({"mean": x}, scores, joint, ("first", "second")).set_index("reported")
    table = moves({"mean": x}, scores, joint, ("first", "second"), without).set_index("reported")
    assert asked == [("second", [False, True])]
    assert plain["trusted"].to_dict() == {"first": True, "second": False} and plain["khat"]["second"] > TRUSTED
    assert table["trusted"].to_dict() == {"first": True, "second": rhat < 1.1}
    assert table["max_rhat"]["second"] == rhat and np.isnan(table["khat"]["second"])
    np.testing.assert_allclose(table["shift"], [0.0, 4.0 / np.sqrt(1.0 / 3.0)], atol=0.2)
    np.testing.assert_allclose(table["narrowing"], [0.0, 1.0 - np.sqrt(1.0 / 3.0)], atol=0.05)


def test_one_more_count_is_the_beta_binomial(rng):
    """Beta(4, 6) and 64 further patients: the expected posterior SD in closed form."""
    p = beta.rvs(4, 6, size=20_000, random_state=rng)
    table = one_more_count({"p": p, "other": rng.standard_normal(20_000)}, p, 64).set_index("value")
    counts = np.arange(65)
    expected = (betabinom.pmf(counts, 64, 4, 6) * beta.std(4 + counts, 6 + 64 - counts)).sum()
    assert table.loc["p", "sd_expected"] == pytest.approx(expected, rel=0.02)
    assert table.loc["p", "sd_now"] == pytest.approx(beta.std(4, 6), rel=0.02)
    assert abs(table.loc["other", "narrowing"]) < 0.02


def test_other_priors(target):
    free = tuple(p for p in target.parameters if not p.fixed)
    prior = prior_of(SimpleNamespace(free=free), {"hill": (3.0, 0.05)})  # type: ignore[arg-type]
    i = [p.name for p in free].index("hill")
    assert float(free[i].from_standard(np.asarray(prior.centre)[i])) == pytest.approx(3.0)
    assert np.asarray(prior.root)[i, i] == pytest.approx(free[i].spread / 0.05)
    others = np.arange(len(free)) != i
    assert (np.asarray(prior.centre)[others] == 0.0).all() and (np.diag(prior.root)[others] == 1.0).all()
