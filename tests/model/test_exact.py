"""Exact patients under scenarios: rules by hand, replay of the ledger, limits, and what the record must add up to."""

import functools

import numpy as np
import pytest
from exact_cases import PATIENTS, POTENT, TREATED, WEEKS, by_day, run
from mezikd.model.exact import simulate_batch
from mezikd.model.history import NEVER, OTHER, SEVERE, WINDOW_DAYS
from mezikd.model.regimen import Regimen
from mezikd.model.scenario import DoseRules, Gcsf, Scenario

RULES = {
    "0.5, resume at 1.0, always lower": DoseRules(hold_below=0.5, resume_at=1.0, reduce_after_hold=1),
    "1.0, resume at 1.5, lower from the second": DoseRules(hold_below=1.0, resume_at=1.5, reduce_after_hold=2),
    "0.8, delay at most 14 days": DoseRules(0.8, 2.0, reduce_after_hold=0, maximum_delay_days=14),
    "febrile neutropenia holds": DoseRules(0.5, 1.0, reduce_after_hold=1, maximum_delay_days=28, hold_febrile=True),
}


@functools.cache
def course(scenario: Scenario, changes: tuple = (), key: int = 0):
    """Return history and record, computed once."""
    return run(scenario, dict(changes), key=key)


def fixed(**changes) -> tuple:
    return tuple((POTENT | TREATED | changes).items())


def dosing_by_hand(record, i: int, rules: DoseRules, regimen: Regimen) -> tuple[list, list]:
    """Return (dose level or None where no drug is taken, by week) and the days on which holds begin, from the counts."""
    visit, due = regimen.is_visit(WEEKS), regimen.is_dosing(WEEKS)
    level, since, holds, ended, out, begun = 0, None, 0, False, [], []
    for week in range(WEEKS):
        count = record.count[week, i]
        if since is not None and rules.maximum_delay_days is not None and 7 * week - since > rules.maximum_delay_days:
            ended, since = True, None
        if ended:
            out.append(None)
            continue
        if since is not None:
            assert np.isfinite(count), "a count is taken every week on hold"
            if count >= rules.resume_at:
                since = None
                if rules.reduce_after_hold and holds >= rules.reduce_after_hold:
                    level = min(level + 1, 2)
        elif visit[week]:
            low = due[week] and count < rules.hold_below
            if low or (rules.hold_febrile and record.febrile[week, i]):
                since, holds = 7 * week, holds + 1
                begun.append(7 * week)
        out.append(None if since is not None else level)
    return out, begun


@pytest.mark.parametrize("name", RULES)
def test_dosing_follows_from_the_counts_by_hand(name):
    rules, regimen = RULES[name], Regimen()
    history, record = course(Scenario(rules=rules), fixed(febrile_share=0.3))
    planned, factors = regimen.planned(WEEKS), [1.0, 0.6, 0.3]
    full = record.dose[0, 0]  # the first dose of each patient: full, times their intensity
    levels_seen, ended = set(), 0
    for i in range(PATIENTS):
        levels, begun = dosing_by_hand(record, i, rules, regimen)
        expected = [planned[w] * full[i] * (0.0 if x is None else factors[x]) for w, x in enumerate(levels)]
        np.testing.assert_allclose(record.dose[:, :, i], expected, rtol=1e-12)
        assert history.holds[i] == len(begun)
        assert history.first_hold[i] == (begun[0] if begun else NEVER)
        levels_seen |= {x for x in levels if x is not None}
        ended += history.drug_stop[i] < history.stop[i]
    assert (history.holds > 0).sum() > PATIENTS / 5 and history.holds.max() >= (1 if "delay at" in name else 2)
    assert levels_seen == ({0} if rules.reduce_after_hold == 0 else {0, 1, 2})
    if rules.maximum_delay_days == 14:
        assert ended > 3 and record.on.all(), "Kd goes on"


def test_febrile_neutropenia_holds_only_under_its_rule():
    rules, changes = DoseRules(hold_below=1e-6, reduce_after_hold=0), fixed(febrile_share=0.5)
    without, _ = course(Scenario(rules=rules), changes)
    with_it, record = course(Scenario(rules=DoseRules(1e-6, reduce_after_hold=0, hold_febrile=True)), changes)
    assert without.holds.sum() == 0 and (without.first_febrile < NEVER).sum() > 10
    np.testing.assert_array_equal(with_it.first_hold, with_it.first_febrile)
    assert not record.febrile[~record.episode_start].any()
    share = record.febrile.sum() / record.episode_start.sum()
    assert abs(share - 0.5) < 4.0 * 0.5 / np.sqrt(record.episode_start.sum())


def test_counts_below_half_hold_at_the_first_visit_for_good():
    low = {"anc0": 0.4, "anc0_sd": 1e-6, "sigma_anc": 1e-3, "anc0_region_usa": 0.0}
    history, record = course(Scenario(), tuple((TREATED | low).items()))
    np.testing.assert_array_equal(history.first_hold, 7.0)
    np.testing.assert_array_equal(history.first_grade4, 7.0)
    assert (record.dose[0] > 0.0).all() and (record.dose[1:] == 0.0).all()
    assert record.held[1:].all() and record.unscheduled.sum() == PATIENTS * (~Regimen().is_visit(WEEKS)[1:]).sum()


def test_fitted_chances_of_one_or_none_are_explicit_rules():
    for p, rules in ((1.0, DoseRules(1.0, reduce_after_hold=1)), (0.0, DoseRules(0.5, reduce_after_hold=0))):
        ours = course(Scenario(rules=rules), fixed())
        fitted = course(Scenario(), fixed(hold_grade3=p, reduce_after_hold=p))
        for x, y in zip((*ours[0], *ours[1]), (*fitted[0], *fitted[1]), strict=True):
            np.testing.assert_array_equal(x, y)


def test_replaying_the_realised_doses_gives_the_same_course():
    """Adaptive rules and reactive G-CSF against the fixed plan that they became."""
    scenario = Scenario(gcsf=Gcsf("reactive"))
    history, record = course(scenario, fixed())
    assert (history.holds > 0).any() and (history.gcsf_days > 0).any()
    _, replayed = run(scenario, dict(fixed()), realised=(record.dose, record.gcsf))
    np.testing.assert_allclose(replayed.anc, record.anc, rtol=1e-10)
    np.testing.assert_allclose(replayed.arrest, record.arrest, atol=1e-10)
    np.testing.assert_array_equal(replayed.infection, record.infection)
    other = np.where(np.arange(WEEKS)[:, None, None] == 2, 0.0, record.dose)
    _, changed = run(scenario, dict(fixed()), realised=(other, record.gcsf))
    assert np.abs(changed.anc - record.anc).max() > 0.1


def test_without_rules_patients_are_at_least_as_neutropenic():
    """Patient by patient in their nadir, together in their days; day by day not, because counts rebound after a hold."""
    emergent, _ = course(Scenario(), fixed())
    full, _ = course(Scenario(rdi=1.0), fixed())
    assert (full.nadir <= emergent.nadir * (1.0 + 1e-9)).all()
    assert (full.nadir_cycle1 <= emergent.nadir_cycle1 * (1.0 + 1e-9)).all()
    assert full.days_below_1.sum() > 1.2 * emergent.days_below_1.sum()
    np.testing.assert_allclose(full.given, full.planned)
    assert (full.other_reduction == 0.0).all() and emergent.other_reduction.any()


def test_a_set_intensity_is_everybodys():
    history, record = course(Scenario(rdi=0.8, rules=RULES["0.8, delay at most 14 days"]), fixed())
    planned = Regimen().planned(WEEKS)
    np.testing.assert_allclose(record.dose, np.broadcast_to(0.8 * planned[..., None], record.dose.shape))
    assert history.holds.sum() == 0


def test_no_rules_keep_each_patients_intensity():
    history, record = course(Scenario(rules=None), fixed())
    taken = record.dose.sum(axis=(0, 1))
    np.testing.assert_allclose(taken, history.given)
    assert history.holds.sum() == 0 and (history.first_grade4 < NEVER).any()
    assert (taken / history.planned).std() > 0.05 and (taken <= history.planned).all()


def test_dose_zero_is_kd():
    """But for what only one arm has: its rates."""
    same = {"infection_early_kd": 2.0, "stop_rate_kd": 0.02, "infection_grade4_kd": 0.12, "dropout_kd": 0.012}
    changes = tuple((POTENT | same).items())
    nothing, kd = course(Scenario(rdi=0.0), changes), course(Scenario(arm="kd"), changes)
    for name in nothing[0]._fields:
        if name not in ("planned", "drug_stop", "first_hold"):
            np.testing.assert_allclose(getattr(nothing[0], name), getattr(kd[0], name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(nothing[1].anc, kd[1].anc, rtol=1e-9)
    drug = course(Scenario(), changes)
    assert drug[0].nadir.mean() < 0.7 * kd[0].nadir.mean()


@pytest.mark.parametrize("dose", [1.0, 0.3])
def test_the_break_of_a_week_brings_recovery_and_no_break_none(dose):
    baseline = course(Scenario(arm="kd"), fixed())[1].anc[0, 0]

    def recovered(days_on):
        """Return the highest ANC of each patient in cycles 2 to 6 over baseline, the first week of each left out."""
        anc = course(Scenario(Regimen(dose_mg=dose, days_on=days_on), rdi=1.0), fixed())[1].anc / baseline
        return by_day(anc).reshape(6, 28, PATIENTS)[1:, 14:].max(axis=(0, 1))

    held = recovered(28)
    broken = recovered(21)
    assert (broken > held + 0.05).mean() > 0.9
    if dose == 1.0:
        assert np.median(broken) > 0.8 and np.median(held) < 0.5


def test_the_nadir_falls_with_the_dose():
    nadirs = [course(Scenario(Regimen(dose_mg=d), rdi=1.0), fixed())[0].nadir for d in (0.1, 0.3, 0.6, 1.0)]
    assert (np.diff(nadirs, axis=0) < 0.0).all()


@pytest.mark.parametrize(("days_on", "cycle_days"), [(14, 28), (7, 14), (5, 7), (28, 28), (14, 21)])
def test_doses_fall_on_the_planned_days(days_on, cycle_days):
    _, record = course(Scenario(Regimen(days_on=days_on, cycle_days=cycle_days), rdi=1.0), fixed())
    day = np.arange(7 * WEEKS) % cycle_days
    np.testing.assert_array_equal(by_day(record.dose)[:, 0] > 0.0, day < days_on)


def test_scenarios_share_one_program():
    course(Scenario(), fixed())
    before = simulate_batch._cache_size()
    for scenario in (
        Scenario(arm="kd"), Scenario(Regimen(0.6, 14, 21), gcsf=Gcsf("primary")), Scenario(rdi=0.7),
        Scenario(rules=None), Scenario(rules=DoseRules(0.7, 1.1, 2, 21, True), gcsf=Gcsf("reactive", 7, 3, True)),
    ):  # fmt: skip
        run(scenario, dict(fixed()))
    assert simulate_batch._cache_size() == before


def test_same_key_same_patients_other_key_others():
    first, again = course(Scenario(), fixed()), run(Scenario(), dict(fixed()))
    for x, y in zip((*first[0], *first[1]), (*again[0], *again[1]), strict=True):
        np.testing.assert_array_equal(x, y)
    other = course(Scenario(), fixed(), key=1)
    assert (other[0].severe != first[0].severe).any() and not np.allclose(other[1].dose, first[1].dose)


def test_the_history_adds_up_to_the_record():
    history, record = course(Scenario(gcsf=Gcsf("reactive")), tuple(POTENT.items()))
    now = 7.0 * np.arange(WEEKS)[:, None]

    def first(happened):
        return np.where(happened, now, NEVER).min(axis=0)

    visit = Regimen().is_visit(WEEKS)[:, None]
    counts = np.where(record.on, record.count, np.inf)
    counts = np.where(np.isnan(counts), np.inf, counts)
    np.testing.assert_array_equal(history.first_grade4, first(counts < 0.5))
    np.testing.assert_array_equal(history.first_grade3, first((counts < 1.0) & visit))
    np.testing.assert_array_equal(history.first_grade2, first((counts < 1.5) & visit))
    np.testing.assert_array_equal(history.first_febrile, first(record.febrile))
    np.testing.assert_array_equal(history.first_hold, first(record.held))
    np.testing.assert_array_equal(history.first_reduction, first((record.level > 0) & record.on))
    dosed = np.arange(7 * WEEKS)[:, None] < np.minimum(history.drug_stop, history.cutoff)
    np.testing.assert_allclose(history.given, (by_day(record.dose) * dosed).sum(axis=0))
    np.testing.assert_array_equal(history.planned, (Regimen().planned(WEEKS).reshape(-1, 1) * dosed).sum(axis=0))
    np.testing.assert_array_equal(history.gcsf_days, record.gcsf.sum(axis=(0, 1)))
    np.testing.assert_array_equal(record.on, (now < history.stop + 1e-9) & (now < history.cutoff))
    assert (record.dose.sum(axis=1)[~record.on] == 0.0).all()

    anc, day = by_day(record.anc), np.arange(7 * WEEKS)[:, None]
    # Weeks that begin within 28 days of the end of treatment.
    collected = np.repeat(now < np.minimum(history.stop + 28.0, history.cutoff), 7, axis=0)
    np.testing.assert_allclose(history.anc_day28, anc[27])
    np.testing.assert_allclose(history.nadir, np.where(collected, anc, np.inf).min(axis=0))
    np.testing.assert_allclose(history.nadir_cycle1, np.where(collected[:28], anc[:28], np.inf).min(axis=0))
    window = collected & (day < WINDOW_DAYS)
    np.testing.assert_array_equal(history.days_counted, window.sum(axis=0))
    np.testing.assert_array_equal(history.days_below_1, (window & (anc < 1.0)).sum(axis=0))
    np.testing.assert_array_equal(history.days_below_half, (window & (anc < 0.5)).sum(axis=0))

    safe = np.minimum(np.minimum(history.stop + 28.0, history.cutoff), history.death)
    for ours, kinds in ((history.severe, [SEVERE]), (history.any_infection, [SEVERE, OTHER])):
        recorded = record.infection[:, kinds].min(axis=(0, 1))
        np.testing.assert_allclose(np.where(ours <= safe, ours, NEVER), recorded)
    assert ((record.infection_grade > 0) == (record.infection < NEVER)).all()
    assert ((record.infection_days > 0) == ((record.infection < NEVER) & (record.infection_grade < 5))).all()


def test_episodes_begin_and_end_in_turn():
    history, record = course(Scenario(), fixed())
    begun = []
    for i in range(PATIENTS):
        running = None
        for week in range(WEEKS):
            if record.episode_start[week, i]:
                assert running is None and record.count[week, i] < 1.0
                running = 7.0 * week
                begun.append(i)
            if record.episode_end[week, i] < NEVER:
                assert running is not None and 7.0 * week <= record.episode_end[week, i] < 7.0 * week + 7.0
                duration = record.episode_end[week, i] - running
                assert duration > 3.0
                if begun.count(i) == 1:
                    assert history.episode_days[i] == duration
                running = None
    assert len(begun) > len(set(begun)) > PATIENTS / 3, "several in one patient"


def test_infections_come_again_at_their_rate():
    """Constant hazards: counts are Poisson, severe and other ones; marks are in their shares."""
    rate, ratio = 0.5, 3.0
    constant = {
        "infection_rate": rate, "infection_any_ratio": ratio, "infection_drug": 0.0, "infection_neutropenia": 1e-9,
        "infection_early_mezikd": 1e-9, "infection_frailty_sd": 1e-3, "infection_grade4_mezikd": 0.3,
    } | {f"infection_region_{r}": 0.0 for r in ("usa", "europe", "asia", "rest_of_world")}  # fmt: skip
    history, record = course(Scenario(), fixed(**constant))
    months = PATIENTS * 7 * WEEKS / 30.4375
    happened = (record.infection < NEVER).sum(axis=(0, 2))
    for n, expected in zip(happened, (rate * months, (ratio - 1.0) * rate * months), strict=True):
        assert abs(n - expected) < 4.0 * np.sqrt(expected), f"{n} infections, expected {expected:.0f}"
    grade = record.infection_grade[:, SEVERE]
    severe = (grade > 0).sum()
    assert abs((grade == 4).sum() - 0.3 * severe) < 4.0 * np.sqrt(0.21 * severe)
    assert set(np.unique(record.infection_grade[:, OTHER])) == {0, 2}
    of_first = np.take_along_axis(grade, record.infection[:, SEVERE].argmin(axis=0)[None], axis=0)[0]
    had = history.severe < NEVER
    np.testing.assert_array_equal((of_first == 4)[had], (history.grade4 > 0.5)[had])


def test_concurrent_infections_are_those_in_low_counts():
    history, record = course(Scenario(), fixed(anc0=0.2, sigma_anc=1e-3, hold_grade3=0.0))
    np.testing.assert_array_equal(record.infection_concurrent, record.infection < NEVER)
    np.testing.assert_array_equal(history.concurrent, history.any_infection)
    history, record = course(Scenario(arm="kd"), fixed(anc0=50.0))
    assert not record.infection_concurrent.any() and (history.concurrent == NEVER).all()
    assert (history.any_infection < NEVER).any()


def test_a_fatal_infection_is_a_death_that_ends_treatment():
    changes = POTENT | {k: v for k, v in TREATED.items() if k != "infection_fatal"}
    history, record = course(
        Scenario(), tuple((changes | {"infection_fatal": 1.0 - 1e-9, "infection_rate": 0.1}).items())
    )
    dead = history.death < NEVER
    assert dead.sum() > 5
    np.testing.assert_array_equal(history.death[dead], history.severe[dead])
    np.testing.assert_array_equal(history.stop[dead], history.death[dead])
    assert ((record.infection_grade == 5).sum(axis=(0, 1)) == dead).all()
    assert (record.infection[:, :, dead].max(axis=(0, 1), where=record.infection[:, :, dead] < NEVER, initial=0.0)
            <= history.death[dead]).all()  # fmt: skip


def test_dose_intensity_ends_on_the_day_the_drug_ends():
    """By hand: a dose for every dosing day that begins before the end, the first week without one of them included."""
    changes = tuple((POTENT | {"stop_rate_mezikd": 1.0, "followup_months": 3.0}).items())
    history, record = course(Scenario(Regimen(dose_mg=1.0, days_on=5, cycle_days=7), rdi=0.5), changes)
    early = history.stop < 42.0
    assert early.sum() > 20
    whole = np.floor(history.stop[early] / 7.0)
    days = 5.0 * whole + np.minimum(5.0, np.ceil(history.stop[early] - 7.0 * whole))
    np.testing.assert_allclose(history.planned[early], days)
    np.testing.assert_allclose(history.given[early], 0.5 * days)
    assert (record.dose.sum(axis=(0, 1))[early] > history.given[early]).sum() > 5, "the record has the whole week"


def test_an_infection_is_fatal_only_as_the_death_of_the_patient():
    """All first severe infections would kill: those after progression or after another death do not."""
    changes = POTENT | {
        "infection_fatal": 1.0 - 1e-9, "infection_rate": 0.2, "progression_rate": 0.3, "post_progression_death": 0.3,
        "death_rate": 0.1,
    }  # fmt: skip
    history, record = course(Scenario(), tuple(changes.items()))
    had, fatal = history.severe < NEVER, history.fatal > 0.5
    np.testing.assert_array_equal(fatal, had & (history.death == history.severe) & (history.progression >= NEVER))
    np.testing.assert_array_equal((record.infection_grade == 5).sum(axis=(0, 1)), fatal)
    collected = had & (history.severe <= history.death)
    survived = collected & (history.progression < history.severe)
    assert fatal.sum() > 5 and survived.sum() > 2
    assert not fatal[survived].any() and (record.infection_grade[:, SEVERE][:, survived] > 0).any()


def test_without_tumour_memory_its_length_plays_no_part():
    """The flag turns the filter off, patient by patient; with it, a longer memory moves progressions."""

    def progression(memory, days):
        changes = {
            "tumour_memory": memory,
            "tumour_memory_days": days,
            "progression_rate": 0.2,
            "stop_rate_mezikd": 0.1,
        }
        return run(Scenario(), changes)[0].progression

    np.testing.assert_array_equal(progression(0.0, 14.0), progression(0.0, 200.0))
    assert (progression(1.0, 14.0) != progression(1.0, 200.0)).any()
