"""Outcomes of simulated patients by hand; which of them are extrapolated."""

from dataclasses import replace

import numpy as np
import pytest
from mezikd.inference.extrapolation import is_extrapolated, is_fitted
from mezikd.inference.places import built_in_fit
from mezikd.inference.predict import fitted_of
from mezikd.inference.prediction import allocated, control_of, two_halves, weeks_of
from mezikd.inference.prediction_outcomes import (
    FEBRILE,
    HAZARD_RATIO,
    KINDS,
    NEUTROPENIA,
    PFS,
    PFS_MEAN,
    SEVERE,
    Key,
    Patients,
    exists,
    months_within,
    outcomes,
)
from mezikd.inference.problem import load_problem
from mezikd.inference.scenarios import Fitted, NamedScenario
from mezikd.model.exact import NEVER, History
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import DoseRules, Gcsf, Scenario

MONTH = DAYS_PER_MONTH


def history(patients: int = 4, **fields) -> History:
    """Return the history of one draw in which nothing happens but what ``fields`` say, in days."""
    nothing = dict.fromkeys(History._fields, np.full((1, patients), NEVER)) | {
        "cutoff": np.full((1, patients), 24 * MONTH),
        "given": np.full((1, patients), 50.0),
        "planned": np.full((1, patients), 100.0),
        "other_reduction": np.zeros((1, patients)),
        "nadir_cycle1": np.array([[1.0, 2.0, 3.0, 4.0]]),
        "anc_day28": np.array([[2.0, 2.0, 4.0, 4.0]]),
    }
    return History(**nothing | {k: np.array([v], float) for k, v in fields.items()})


def values(h: History, horizon: int = 24, control: History | None = None) -> dict[Key, float]:
    on_kd = None if control is None else Patients(control, horizon)
    return {k: float(v[0]) for k, v in outcomes(Patients(h, horizon), on_kd)}


def test_shares_by_month_are_cumulative():
    got = values(history(first_grade3=[10.0, 40.0, 200.0, NEVER]))
    shares = [got[Key(NEUTROPENIA, m)] for m in (1, 3, 6, 12, 18, 24)]
    assert shares == [25.0, 50.0, 50.0, 75.0, 75.0, 75.0]
    assert got[Key("time to first neutropenia, median", 24)] == 40.0
    assert got[Key("time to first neutropenia, quartile 1", 24)] == 25.0


def test_events_are_collected_up_to_28_days_after_treatment():
    """Infections on days 128 and 129 of patients who stopped on day 100; one after death; one after the horizon."""
    h = history(
        severe=[128.0, 128.5, 60.0, 25 * MONTH], stop=[100.0, 100.0, 50.0, NEVER], death=[NEVER, NEVER, 50.0, NEVER]
    )
    assert values(h)[Key(SEVERE, 24)] == 25.0
    assert values(h)[Key("death", 1)] == 0.0
    assert values(h)[Key("death", 3)] == 25.0


def test_progression_free_survival():
    h = history(progression=[5 * MONTH, 13 * MONTH, NEVER, NEVER], death=[6 * MONTH, NEVER, 7 * MONTH, NEVER])
    got = values(h)
    assert [got[Key(PFS, m)] for m in (6, 12, 18)] == [75.0, 50.0, 25.0]
    assert got[Key("PFS, median", 24)] == pytest.approx(7.0)
    assert got[Key(PFS_MEAN, 18)] == pytest.approx((5 + 13 + 7 + 18) / 4)
    assert values(history(progression=[5 * MONTH, NEVER, NEVER, NEVER]))[Key("PFS, median", 24)] == np.inf


def test_dosing_and_counts():
    h = history(
        given=[100.0, 80.0, 60.0, 20.0], first_hold=[30.0, NEVER, NEVER, NEVER], first_reduction=[NEVER, 40.0, 50.0, NEVER],
        other_reduction=[0.0, 1.0, 0.0, 0.0], stop=[NEVER, NEVER, 45.0, NEVER], first_grade3=[28.0, NEVER, NEVER, NEVER],
        episode_days=[9.0, 3.0, NEVER, NEVER],
    )  # fmt: skip
    got = values(h)
    assert got[Key("relative dose intensity, median", 24)] == 70.0
    assert got[Key("relative dose intensity, quartile 1", 24)] == 50.0
    assert got[Key("held for neutropenia", 24)] == 25.0
    assert got[Key("dose reduced", 24)] == 25.0  # the second; the third had stopped before
    assert got[Key("duration of first neutropenia, median", 24)] == 9.0  # of those who had it
    assert got[Key("ANC nadir of cycle 1, median patient", 1)] == 2.5
    assert got[Key("ANC on day 28, median patient", 1)] == 3.0


def test_nobody_with_the_event():
    got = values(history())
    assert np.isnan(got[Key("duration of first neutropenia, median", 24)])
    assert got[Key(FEBRILE, 24)] == 0.0


def test_hazard_ratio_is_against_the_control_patients():
    mine = history(progression=[10 * MONTH, 20 * MONTH, NEVER, NEVER])
    kd = history(progression=[5 * MONTH, 6 * MONTH, 12 * MONTH, NEVER])
    assert 0.0 < values(mine, control=kd)[Key(HAZARD_RATIO, 24)] < 1.0
    assert Key(HAZARD_RATIO, 24) not in values(kd)


@pytest.mark.parametrize(("horizon", "months"), [(2, (1, 2)), (12, (1, 3, 6, 12)), (30, (1, 3, 6, 12, 18, 24, 30))])
def test_months_within_a_horizon(horizon, months):
    assert months_within(horizon) == months
    got = values(history(cutoff=[horizon * MONTH] * 4), horizon)
    assert {k.month for k in got if k.outcome == SEVERE} == set(months)
    assert max(k.month for k in got) == horizon
    assert {k.outcome for k in got} | {HAZARD_RATIO} >= set(KINDS) - ({PFS} if horizon < 6 else set())


def test_parts_are_of_patients():
    patients = Patients(history(first_grade3=[10.0, 40.0, 200.0, NEVER]), 24)
    half = dict(outcomes(patients.part(slice(0, 2)), None))
    assert half[Key(NEUTROPENIA, 12)][0] == 100.0


def test_two_halves_of_one_composition():
    """Shares of the trial, the largest remainders rounded up, the same in both halves."""
    region = two_halves((27 / 288, 109 / 288, 88 / 288, 64 / 288), 512)
    assert len(region) == 512
    np.testing.assert_array_equal(region[:256], region[256:])
    np.testing.assert_array_equal(np.bincount(region[:256]), [24, 97, 78, 57])
    np.testing.assert_array_equal(allocated((0.5, 0.25, 0.25, 0.0), 7), [0, 0, 0, 1, 1, 2, 2])


def test_weeks_cover_the_months():
    assert [weeks_of(m) for m in (1, 12, 24)] == [5, 53, 105]


@pytest.fixture(scope="module")
def trial():
    """The built-in fit's evidence and what its mezigdomide arm received."""
    problem = load_problem(built_in_fit())
    return problem.evidence, fitted_of(problem)


def named(fitted: Fitted, scenario: Scenario | None = None, regions=None) -> NamedScenario:
    return NamedScenario("x", scenario or Scenario(regimen=fitted.regimen), regions or fitted.regions)


CONSTRAINED = {
    "mezikd": {
        Key(NEUTROPENIA, 12), Key(NEUTROPENIA, 18), Key(SEVERE, 3), Key("infection with neutropenia", 12),
        Key("death", 12), Key("duration of first neutropenia, median", 24), Key("held for neutropenia", 24),
        Key("dose reduced", 24), Key("relative dose intensity, median", 24), Key(PFS, 6), Key(PFS, 18),
        Key("PFS, median", 24), Key(PFS_MEAN, 18), Key(HAZARD_RATIO, 24),
    },
    "kd": {Key(NEUTROPENIA, 12), Key(SEVERE, 18), Key("death", 12), Key(PFS, 12), Key("PFS, median", 24)},
}  # fmt: skip
EXTRAPOLATED = {
    "mezikd": {
        Key(NEUTROPENIA, 24), Key("neutropenia grade 4", 12), Key(FEBRILE, 12), Key(PFS, 24), Key("PFS, median", 36),
        Key("ANC nadir of cycle 1, median patient", 1), Key("ANC on day 28, median patient", 1),
        Key("time to first neutropenia, median", 24),
    },
    "kd": {Key(FEBRILE, 12), Key("infection with neutropenia", 12), Key("duration of first neutropenia, median", 24)},
}  # fmt: skip


@pytest.mark.parametrize("arm", ["mezikd", "kd"])
def test_fitted_regimen_is_constrained_where_numbers_were_fitted(trial, arm):
    evidence, fitted = trial
    s = named(fitted) if arm == "mezikd" else control_of(named(fitted))
    assert not [k for k in CONSTRAINED[arm] if is_extrapolated(s, k, fitted, evidence)]
    assert not [k for k in EXTRAPOLATED[arm] if not is_extrapolated(s, k, fitted, evidence)]


OTHER = {
    "dose": lambda s: replace(s, regimen=replace(s.regimen, dose_mg=0.6, levels_mg=(0.6, 0.3))),
    "schedule": lambda s: replace(s, regimen=replace(s.regimen, days_on=14)),
    "levels": lambda s: replace(s, regimen=replace(s.regimen, levels_mg=(1.0, 0.3))),
    "set rdi": lambda s: replace(s, rdi=0.83),
    "no rules": lambda s: replace(s, rules=None),
    "rules": lambda s: replace(s, rules=DoseRules(hold_below=1.0)),
    "G-CSF": lambda s: replace(s, gcsf=Gcsf("reactive")),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_any_other_scenario_is_extrapolated(trial, change):
    evidence, fitted = trial
    s = named(fitted, change(Scenario(regimen=fitted.regimen)))
    assert not is_fitted(s, fitted)
    assert all(is_extrapolated(s, k, fitted, evidence) for k in CONSTRAINED["mezikd"])


def test_another_region_mix_is_extrapolated(trial):
    evidence, fitted = trial
    s = named(fitted, regions=(0.0, 0.0, 1.0, 0.0))
    assert is_extrapolated(s, Key(SEVERE, 12), fitted, evidence)
    assert is_extrapolated(control_of(s), Key(SEVERE, 12), fitted, evidence)


def test_what_exists():
    assert not exists(Key(HAZARD_RATIO, 24), mezigdomide=False, emergent=True)
    assert not exists(Key("held for neutropenia", 24), mezigdomide=True, emergent=False)
    assert exists(Key("relative dose intensity, median", 24), mezigdomide=True, emergent=False)
    assert exists(Key(SEVERE, 24), mezigdomide=False, emergent=False)
