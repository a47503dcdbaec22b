"""The paper's estimators against lifelines, and their limits by hand."""

import numpy as np
import pandas as pd
import pytest
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter
from lifelines.utils import median_survival_times
from mezikd.inference.estimators import (
    cox,
    cox_log_hazard_ratio,
    cumulative_incidence,
    kaplan_meier,
    kaplan_meier_median,
    kaplan_meier_median_interval,
    quartiles,
)
from scipy.optimize import minimize_scalar


def trial(seed: int, n: int = 200, log_hr: float = -0.6):
    """Return (time, event, treated, stratum) of a random trial without ties."""
    rng = np.random.default_rng(seed)
    treated, stratum = rng.integers(0, 2, n), rng.integers(0, 3, n)
    hazard = 0.08 * np.exp(log_hr * treated + 0.7 * stratum)
    event_at, end = rng.exponential(1.0 / hazard), 30.0 * rng.random(n)
    return np.minimum(event_at, end), event_at <= end, treated, stratum


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("unit", [None, 1.0])
def test_kaplan_meier(seed, unit):
    """With ``unit`` times are rounded, so that events and censorings tie."""
    time, event, _, _ = trial(seed, 40 + 30 * seed)
    time = time if unit is None else np.ceil(time / unit) * unit
    fitted = KaplanMeierFitter().fit(time, event)
    times, survival = kaplan_meier(time, event)
    np.testing.assert_allclose(survival, fitted.survival_function_at_times(times), rtol=1e-10)
    assert kaplan_meier_median(time, event) == fitted.median_survival_time_


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("unit", [None, 1.0])
def test_kaplan_meier_median_interval(seed, unit):
    time, event, _, _ = trial(seed, 40 + 30 * seed)
    time = time if unit is None else np.ceil(time / unit) * unit
    theirs = median_survival_times(KaplanMeierFitter().fit(time, event).confidence_interval_).to_numpy()[0]
    np.testing.assert_allclose(kaplan_meier_median_interval(time, event), theirs, rtol=1e-12)


def test_kaplan_meier_median_is_the_middle_event():
    """Without censoring n/2 events leave exactly one half, whatever the rounding of the product."""
    sizes = range(2, 400, 2)
    late = [n for n in sizes if kaplan_meier_median(np.arange(1.0, n + 1), np.ones(n, bool)) != n / 2]
    assert not late, f"one event too late for {len(late)} of 199 sizes, the first {late[:5]}"


def test_kaplan_meier_median_not_reached():
    assert kaplan_meier_median(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 0])) == np.inf
    assert kaplan_meier_median(np.array([1.0, 2.0]), np.array([False, False])) == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_cox(seed):
    time, event, treated, _ = trial(seed)
    data = pd.DataFrame({"time": time, "event": event, "treated": treated})
    fitted = CoxPHFitter().fit(data, "time", "event", fit_options={"precision": 1e-12})
    ours, error = cox(time, event, treated)
    np.testing.assert_allclose(ours, fitted.params_["treated"], atol=1e-6)
    np.testing.assert_allclose(error, fitted.standard_errors_["treated"], rtol=1e-5)
    assert cox_log_hazard_ratio(time, event, treated) == ours


@pytest.mark.parametrize("seed", range(4))
def test_stratified_cox(seed):
    time, event, treated, stratum = trial(seed)
    data = pd.DataFrame({"time": time, "event": event, "treated": treated, "stratum": stratum})
    fitted = CoxPHFitter(strata=["stratum"]).fit(data, "time", "event", fit_options={"precision": 1e-12})
    ours = cox_log_hazard_ratio(time, event, treated, stratum)
    np.testing.assert_allclose(ours, fitted.params_["treated"], atol=1e-6)
    assert abs(ours - cox_log_hazard_ratio(time, event, treated)) > 1e-4


def test_cox_ties_are_breslow():
    """Against the maximum of Breslow's partial likelihood, written out."""
    time, event, treated, _ = trial(11)
    time = np.ceil(time / 3.0)

    def negative(beta):
        risk = np.exp(beta * treated)
        return -sum(beta * treated[i] - np.log(risk[time >= time[i]].sum()) for i in np.flatnonzero(event))

    best = minimize_scalar(negative, (-2.0, 2.0), options={"xtol": 1e-10}).x
    np.testing.assert_allclose(cox_log_hazard_ratio(time, event, treated), best, atol=1e-6)


def test_cox_sign_and_no_events():
    """Fewer events on treatment is a negative log hazard ratio; an arm without events gives NaN."""
    time, event, treated, _ = trial(12, n=2000)
    ours = cox_log_hazard_ratio(time, event, treated)
    assert -0.8 < ours < -0.35
    np.testing.assert_allclose(cox_log_hazard_ratio(time, event, 1 - treated), -ours, atol=1e-9)
    for arm in (0, 1):
        assert np.isnan(cox_log_hazard_ratio(time, event & (treated == arm), treated))


def test_quartiles():
    assert quartiles(np.array([4.0, 1.0, 3.0, 2.0, 5.0])) == (2.0, 3.0, 4.0)
    assert quartiles(np.array([1.0, 2.0])) == (1.25, 1.5, 1.75)
    assert quartiles(np.array([7.0])) == (7.0, 7.0, 7.0)
    assert np.isnan(quartiles(np.array([]))).all()


@pytest.mark.parametrize("seed", range(4))
def test_cumulative_incidence(seed):
    time, event, treated, _ = trial(seed, 60 + 40 * seed)
    cause = np.where(event, 1 + treated, 0)
    fitted = AalenJohansenFitter(calculate_variance=False).fit(time, cause, event_of_interest=1).cumulative_density_
    times, share = cumulative_incidence(time, cause)
    theirs = fitted.iloc[:, 0].to_numpy()[np.searchsorted(fitted.index, times, side="right") - 1]
    np.testing.assert_allclose(share, theirs, rtol=1e-10)


def test_cumulative_incidence_with_ties():
    """Who has the event, or is censored, at a time is at risk there."""
    times, share = cumulative_incidence(np.array([1.0, 1.0, 1.0, 2.0, 2.0]), np.array([1, 2, 0, 1, 2]))
    np.testing.assert_allclose(times, [1.0, 2.0])
    np.testing.assert_allclose(share, [0.2, 0.2 + 0.6 / 2])
