"""Survival of simulated patients, all draws at once, against the trial's estimators and lifelines."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from mezikd.inference import survival_by_draw as survival
from mezikd.inference.estimators import cox_log_hazard_ratio, kaplan_meier_median

HORIZON = 24.0


def times(seed: int, draws: int = 12, patients: int = 65, mean: float = 20.0) -> np.ndarray:
    """Return times to events, months, shape ``(draws, patients)``; rates differ between draws."""
    rng = np.random.default_rng(seed)
    return rng.exponential(mean * np.exp(0.4 * rng.standard_normal((draws, 1))), (draws, patients))


def followed(event_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(event_at, HORIZON), event_at <= HORIZON


@pytest.mark.parametrize("patients", [64, 65])
def test_survival_median_and_restricted_mean(patients):
    x = times(1, patients=patients, mean=25.0)
    medians = survival.median_time(x, HORIZON)
    assert np.isinf(medians).any() and np.isfinite(medians).any()
    for draw, median in zip(x, medians, strict=True):
        time, event = followed(draw)
        fitted = KaplanMeierFitter().fit(time, event)
        assert median == kaplan_meier_median(time, event)
        if patients % 2:  # lifelines misses a survival of exactly one half by rounding
            assert median == fitted.median_survival_time_
        for month in (6.0, 12.0, 18.0):
            assert survival.survival(draw, month) == pytest.approx(fitted.predict(month), abs=1e-12)
        area = restricted_mean_survival_time(fitted, 18.0)
        assert survival.restricted_mean(draw, 18.0) == pytest.approx(area, rel=1e-6)


def test_hazard_ratio_is_the_trials_estimator():
    treated, control = times(2, mean=30.0), times(3, mean=12.0)
    ours = survival.hazard_ratio(treated, control, HORIZON)
    for a, b, ratio in zip(treated, control, ours, strict=True):
        time, event = followed(np.concatenate([a, b]))
        arm = np.repeat([1, 0], [len(a), len(b)])
        assert np.log(ratio) == pytest.approx(cox_log_hazard_ratio(time, event, arm), abs=1e-8)
        data = pd.DataFrame({"time": time, "event": event, "arm": arm})
        fitted = CoxPHFitter().fit(data, "time", "event", fit_options={"precision": 1e-12})
        assert np.log(ratio) == pytest.approx(fitted.params_["arm"], abs=1e-6)
    assert np.median(ours) < 0.8


def test_hazard_ratio_of_the_same_patients_is_one():
    x = times(4)
    np.testing.assert_allclose(survival.hazard_ratio(x, x + 1e-9, HORIZON), 1.0, atol=0.05)


def test_hazard_ratio_without_events_in_a_group():
    x = times(5)
    never = np.full_like(x, 1e6)
    assert np.isnan(survival.hazard_ratio(x, never, HORIZON)).all()
    assert np.isnan(survival.hazard_ratio(never, x, HORIZON)).all()
