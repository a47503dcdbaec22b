"""The joint law of reported numbers: known correlations are found, disjoint patients stay uncorrelated."""

import numpy as np
import pytest
from mezikd.inference import joint_covariance as jc
from mezikd.inference.reported_trial import reported_by, wanted
from mezikd.inference.trial import simulated_trials


@pytest.fixture(scope="module")
def rows(target):
    return jc.rows_of_scores(target)


def test_disjoint(target):
    find = target.evidence.find
    asia, europe = (find("neutropenia_g34", "mezikd", r) for r in ("asia", "europe"))
    infections, hold, kd = (
        find("infection_g34", "mezikd", "asia"),
        find("hold_mezigdomide_neutropenia", "mezikd"),
        find("infection_g34", "kd"),
    )
    hazard_ratio = find("pfs_hr", "mezikd_vs_kd")
    assert jc.disjoint(asia, europe) and jc.disjoint(infections, europe) and jc.disjoint(asia, kd)
    assert not jc.disjoint(asia, infections) and not jc.disjoint(asia, hold) and not jc.disjoint(hazard_ratio, kd)


def test_known_covariance_is_found(rows):
    """From 4,000 normal scores: correlation, zeros of disjoint rows, unit variance of counts, spread of the others, mean."""
    rng = np.random.default_rng(1)
    m = len(rows)
    zero = np.array([[jc.disjoint(a, b) for b in rows] for a in rows])
    mixing = 0.25 * rng.standard_normal((m, 3))
    truth = np.where(zero, 0.0, mixing @ mixing.T) + 1.5 * np.eye(m)
    spread = np.sqrt(np.diag(truth))
    truth = truth / np.outer(spread, spread)
    counts = np.array([r.statistic == "count" for r in rows])
    scale = np.where(counts, 1.0, 1.3)
    x = 0.4 + rng.standard_normal((4000, m)) @ np.linalg.cholesky(truth).T * np.where(counts, 1.05, 1.3)
    joint = jc.joint_of(x, rows)
    root = np.asarray(joint.root)
    found = np.linalg.inv(root.T @ root)
    np.testing.assert_allclose(found, truth * np.outer(scale, scale), atol=0.09)
    assert np.abs(found[zero]).max() < 0.02
    np.testing.assert_allclose(joint.mean, 0.4, atol=0.08)
    assert joint.trials == 4000


def test_few_trials_are_pulled_towards_none():
    x = np.random.default_rng(2).standard_normal((60, 30))
    correlation, pull = jc.shrunk_correlation(x, np.zeros((30, 30), bool))
    assert pull > 0.8
    assert np.abs(correlation - np.eye(30)).max() < 0.15


def test_a_row_that_no_trial_reports(rows):
    x = np.random.default_rng(3).standard_normal((200, len(rows)))
    x[:, 5] = 0.0
    joint = jc.joint_of(x, rows)
    assert np.isfinite(joint.root).all()
    root = np.asarray(joint.root)
    found = np.linalg.inv(root.T @ root)
    np.testing.assert_allclose(np.delete(found[5], 5), 0.0, atol=1e-8)


@pytest.fixture(scope="module")
def simulated(target):
    """64 trials at the prior median, and their scores there."""
    z = np.zeros(sum(not p.fixed for p in target.parameters))
    function = jc.score_function(target)
    trials = [t for t, _ in simulated_trials(np.tile(z, (64, 1)), target.parameters, target.design, 3)]
    reports = [reported_by(t, target.evidence) for t in trials]
    return trials, reports, np.array([function(z, o) for o in reports])


def test_scores_of_simulated_trials_are_standard(target, simulated):
    """At their own parameters: mean within a standard error of the number, spread about 1, and clear correlations."""
    _, _, r = simulated
    assert np.abs(r.mean(axis=0)).max() < 1.2
    assert r.std(axis=0).min() > 0.6 and r.std(axis=0).max() < 1.5
    names = list(target.score_names)
    events, ratio = names.index("pfs_events/mezikd/all"), names.index("pfs_hr/mezikd_vs_kd/all")
    assert np.corrcoef(r[:, events], r[:, ratio])[0, 1] > 0.3


def test_reports_of_simulated_trials(target, simulated):
    """Numbers that no fit reads are missing, the others finite; regions add up to the arm."""
    _, reports, _ = simulated
    names = [row.name for row in target.evidence.rows]
    read = np.array([name in wanted(target.evidence) for name in names])
    for o in reports:
        assert all(np.isfinite(x).all() for x in o)
        assert (o.denominator[~read] == 0.0).all() and (o.denominator[read] > 0.0).all()
        parts = [
            o.value[names.index(f"neutropenia_g34/mezikd/{r}")] for r in ("usa", "europe", "asia", "rest_of_world")
        ]
        assert sum(parts) == o.value[names.index("neutropenia_g34/mezikd/all")]
        duration = names.index("neutropenia_duration/mezikd/all")
        assert o.low[duration] <= o.value[duration] <= o.high[duration]
        assert 0 < o.denominator[duration] <= sum(parts)
