"""Scenarios as arrays: equal shapes whatever the scenario, and each field as the scenario says."""

import jax
import numpy as np
import pytest
from mezikd.model.history import NEVER
from mezikd.model.plan import DRUG, DRUG_AND_GCSF, LEVELS, NO_DRUG, plan_of
from mezikd.model.regimen import Regimen
from mezikd.model.scenario import DoseRules, Gcsf, Scenario

WEEKS = 12
SCENARIOS = {
    "as fitted": Scenario(),
    "kd": Scenario(arm="kd"),
    "0.3 mg": Scenario(Regimen(dose_mg=0.3)),
    "14/21": Scenario(Regimen(days_on=14, cycle_days=21)),
    "5/7": Scenario(Regimen(days_on=5, cycle_days=7)),
    "rdi": Scenario(rdi=0.8),
    "no rules": Scenario(rules=None),
    "rules": Scenario(rules=DoseRules(0.7, 1.2, 2, 28, True)),
    "primary": Scenario(gcsf=Gcsf("primary", course_days=3, start_day=10)),
    "reactive, late": Scenario(gcsf=Gcsf("reactive", from_december_2024=True)),
}
PLANS = {name: plan_of(s, WEEKS) for name, s in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_plans_have_the_same_shapes_and_types(name):
    shapes = [jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype), PLANS[n]) for n in ("as fitted", name)]
    assert shapes[0] == shapes[1]


def test_doses_and_visits():
    day = np.arange(7 * WEEKS)
    np.testing.assert_array_equal(PLANS["as fitted"].planned.ravel(), 1.0 * (day % 28 < 21))
    np.testing.assert_array_equal(PLANS["14/21"].planned.ravel(), 1.0 * (day % 21 < 14))
    assert (PLANS["kd"].planned == 0.0).all() and not PLANS["kd"].due.any()
    assert (PLANS["kd"].visit == PLANS["as fitted"].visit).all()
    due = PLANS["as fitted"].due
    # Weekly in cycles 1 and 2 but for the week without doses, then days 1 and 15; day 1 of the study is no visit.
    np.testing.assert_array_equal(np.flatnonzero(due), [1, 2, 4, 5, 6, 8, 10])
    for name in ("rdi", "no rules"):
        assert not PLANS[name].due.any() and PLANS[name].visit.any()
    assert PLANS["rdi"].fixed_rdi and PLANS["rdi"].rdi == 0.8 and not PLANS["no rules"].fixed_rdi


def test_levels():
    np.testing.assert_allclose(PLANS["as fitted"].factors, [1.0, 0.6] + [0.3] * (LEVELS - 2))
    assert PLANS["as fitted"].lowest == 2
    np.testing.assert_allclose(PLANS["0.3 mg"].factors, 1.0)
    assert PLANS["0.3 mg"].lowest == 0
    with pytest.raises(ValueError, match=r"9 levels at or below 10\.0 mg; at most 8"):
        plan_of(Scenario(Regimen(dose_mg=10.0, levels_mg=tuple(range(1, 9)))), WEEKS)


def test_rules():
    fitted, explicit = PLANS["as fitted"].holds, PLANS["rules"].holds
    assert fitted.fitted_hold and fitted.fitted_reduction and not fitted.febrile
    np.testing.assert_allclose(np.exp([fitted.log_hold, fitted.log_resume]), [0.5, 1.0])
    assert fitted.maximum_delay == NEVER
    assert not explicit.fitted_hold and not explicit.fitted_reduction and explicit.febrile
    np.testing.assert_allclose(np.exp([explicit.log_hold, explicit.log_resume]), [0.7, 1.2])
    assert explicit.reduce_from == 2.0 and explicit.maximum_delay == 28.0
    never = plan_of(Scenario(rules=DoseRules(reduce_after_hold=0)), WEEKS).holds
    assert never.reduce_from == NEVER and not never.fitted_reduction
    ignored = plan_of(Scenario(rules=DoseRules(hold_febrile=True), rdi=0.8), WEEKS)
    assert not ignored.holds.febrile


def test_gcsf():
    assert [int(PLANS[n].mode) for n in ("kd", "as fitted", "primary", "reactive, late")] == [
        NO_DRUG, DRUG, DRUG_AND_GCSF, DRUG_AND_GCSF,
    ]  # fmt: skip
    day = np.arange(7 * WEEKS) % 28 + 1
    np.testing.assert_array_equal(PLANS["primary"].gcsf.primary.ravel(), np.isin(day, (10, 11, 12)))
    assert not PLANS["reactive, late"].gcsf.primary.any() and PLANS["reactive, late"].gcsf.reactive
    assert PLANS["primary"].gcsf.start_before_cutoff == NEVER
    assert PLANS["reactive, late"].gcsf.start_before_cutoff == pytest.approx(13.5 * 30.4375)
