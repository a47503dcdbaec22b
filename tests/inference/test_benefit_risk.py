"""Utility, paired differences and P(best), by hand and against known probabilities."""

import numpy as np
import pytest
from mezikd.inference.benefit_risk import benefit_risk_table, probability_best, utilities, weights
from mezikd.inference.monte_carlo import Estimates
from mezikd.inference.prediction import Predicted
from mezikd.inference.prediction_outcomes import FEBRILE, PFS_MEAN, SEVERE, Key
from mezikd.inference.prediction_summary import shown_probability
from mezikd.inference.prediction_tables import csv_text, difference_table, prediction_table
from mezikd.inference.scenario_settings import Utility
from mezikd.inference.scenarios import NamedScenario
from mezikd.model.scenario import Scenario
from scipy.stats import norm

RNG = np.random.default_rng(1)
D = 4000


def estimates(true: np.ndarray, noise: float = 0.0, luck: np.ndarray | None = None) -> Estimates:
    """Return estimates of ``true`` with Monte Carlo noise in two halves, which ``luck`` may share between scenarios."""
    luck = RNG.standard_normal((2, len(true))) if luck is None else luck
    halves = true + noise * np.sqrt(2.0) * luck
    return Estimates(halves.mean(axis=0), *halves)


def outcomes_of(pfs: Estimates, severe: Estimates, febrile: Estimates) -> dict:
    return {Key(PFS_MEAN, 18): pfs, Key(SEVERE, 18): severe, Key(FEBRILE, 18): febrile}


def three_scenarios() -> Predicted:
    """'b' has 1 month more PFS than 'a' in every draw, 'c' a varying difference; all share noise of 2 months."""
    base, luck = 12.0 + RNG.standard_normal(D), RNG.standard_normal((2, D))
    zero, severe = estimates(np.zeros(D)), estimates(np.full(D, 30.0))
    change = {"a": 0.0, "b": 1.0, "c": 0.5 + 0.5 * RNG.standard_normal(D)}
    outcomes = {name: outcomes_of(estimates(base + x, 2.0, luck), severe, zero) for name, x in change.items()}
    scenarios = tuple(NamedScenario(n, Scenario(), (0.25,) * 4) for n in change)
    return Predicted(scenarios, outcomes)


def never(*_) -> bool:
    return False


def test_utility_by_hand():
    one = outcomes_of(*(estimates(np.array([x, x])) for x in (10.0, 30.0, 12.0)))
    w = weights(Utility(pfs_month=2.0, severe_infection=-3.0, febrile_neutropenia=-1.5), 24)
    np.testing.assert_allclose(utilities(one, w).full, 2.0 * 10.0 - 3.0 * 0.30 - 1.5 * 0.12)


def test_weights_look_as_far_as_the_horizon():
    assert {k.month for k in weights(Utility(), 12)} == {12}
    assert {k.month for k in weights(Utility(), 36)} == {18}


def test_table():
    table = benefit_risk_table(three_scenarios(), "a", Utility(), 24, never).set_index("scenario")
    assert table.loc["a", "difference"] == 0.0
    assert np.isnan(table.loc["a", "p_better"])
    assert table.loc["b", "difference"] == pytest.approx(1.0, abs=1e-9)
    assert table.loc["b", "p_better"] == 1.0
    assert table.loc["c", "p_better"] == pytest.approx(norm.cdf(1.0), abs=0.02)
    # c beats b where its difference is above 1, which is one standard deviation
    assert table.loc["c", "p_best"] == pytest.approx(1.0 - norm.cdf(1.0), abs=0.02)
    assert table["p_best"].sum() == pytest.approx(1.0)
    assert table.loc["b", "utility"] == pytest.approx(13.0 - 0.9, abs=0.1)
    assert not table["extrapolated"].any()


def test_extrapolated_where_a_weighted_outcome_is():
    def febrile(_, key):
        return key.outcome == FEBRILE

    flagged = benefit_risk_table(three_scenarios(), "a", Utility(), 24, febrile)
    assert flagged["extrapolated"].all()
    without = benefit_risk_table(three_scenarios(), "a", Utility(febrile_neutropenia=0.0), 24, febrile)
    assert not without["extrapolated"].any()


def test_shared_noise_does_not_decide_who_is_best():
    """Noise common to all scenarios leaves P(best) alone; noise of each one's own is taken out as far as it goes."""
    true = [np.full(D, 12.0), 12.0 + 0.2 * RNG.standard_normal(D) - 0.2]
    luck = RNG.standard_normal((2, D))
    shared = probability_best([estimates(t, 3.0, luck) for t in true])
    assert shared[1] == pytest.approx(1.0 - norm.cdf(1.0), abs=0.02)
    noisy = [estimates(t, 0.2) for t in true]
    raw = np.mean(noisy[1].full > noisy[0].full)
    assert abs(probability_best(noisy)[1] - (1.0 - norm.cdf(1.0))) < 0.02
    assert raw > 1.0 - norm.cdf(1.0) + 0.05


def test_ties_share():
    same = estimates(np.full(10, 5.0))
    np.testing.assert_allclose(probability_best([same, same]), [0.5, 0.5])


def test_differences_are_paired_and_have_a_direction():
    table = difference_table(three_scenarios(), "a", never)
    b = table[(table["scenario"] == "b") & (table["outcome"] == PFS_MEAN)].iloc[0]
    assert (b["median"], b["p_better"], b["better_if"]) == (pytest.approx(1.0), 1.0, "higher")
    assert b["pi90_high"] - b["pi90_low"] < 1e-9
    severe = table[(table["scenario"] == "b") & (table["outcome"] == SEVERE)].iloc[0]
    assert (severe["p_better"], severe["better_if"], severe["unit"]) == (0.5, "lower", "percentage points")
    assert list(table.columns[:8]) == [
        "scenario", "reference", "outcome", "month", "unit", "median", "pi90_low", "pi90_high",
    ]  # fmt: skip
    assert "a" not in set(table["scenario"])


def test_a_lower_number_is_better_where_it_is():
    predicted = three_scenarios()
    predicted.outcomes["b"][Key(SEVERE, 18)] = estimates(np.full(D, 20.0))
    table = difference_table(predicted, "a", never)
    severe = table[(table["scenario"] == "b") & (table["outcome"] == SEVERE)].iloc[0]
    assert (severe["median"], severe["p_better"]) == (-10.0, 1.0)


def test_csv_has_the_contract_columns_first_and_inf():
    predicted = three_scenarios()
    predicted.outcomes["a"][Key("PFS, median", 24)] = Estimates(*(np.full(D, np.inf) for _ in range(3)))
    text = csv_text(prediction_table(predicted, never))
    assert text.startswith("scenario,arm,outcome,month,unit,median,pi90_low,pi90_high,extrapolated,")
    line = next(x for x in text.splitlines() if x.startswith('a,mezikd,"PFS, median"'))
    assert line == 'a,mezikd,"PFS, median",24,months,inf,inf,inf,False,inf,inf,'


def test_no_probability_is_shown_as_certain():
    shown = [shown_probability(p) for p in (0.0, 0.004, 0.5, 0.994, 0.996, 1.0)]
    assert shown == ["<0.01", "<0.01", "0.50", "0.99", ">0.99", ">0.99"]
