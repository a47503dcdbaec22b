"""Predictive checks of fits to patients' own data: known distributions, limits of quantification, competing events."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit
from mezikd.inference import event_check as check
from mezikd.inference.estimators import at_times, cumulative_incidence
from mezikd.inference.figures_checks import draw_events, draw_pit, draw_vpc
from mezikd.inference.patient_data import EVENT_COLUMNS, EXPOSURE_COLUMNS, OBSERVATION_COLUMNS, PatientData, empty
from mezikd.inference.predictive_checks import GRID, Seen, pit_distributions, pit_table, seen, vpc_table
from mezikd.inference.recorded_events import BEYOND
from mezikd.model.delivered import Ledger
from mezikd.model.regimen import DAYS_PER_MONTH

LIMIT = 0.5


def tree_of(
    value: np.ndarray, new: np.ndarray, day: np.ndarray, lloq: float = np.nan
) -> tuple[xr.DataTree, PatientData]:
    """Return what of a fit the checks read; every array ends in ``patients counts``; below ``lloq`` the limit is seen."""
    n, m = value.shape
    below = value < lloq
    where = [(i, str(i), 24.0 * day[i, j], "anc", 0.0, below[i, j], lloq, 0) for i in range(n) for j in range(m)]
    ids = tuple(map(str, range(n)))
    tables = PatientData(
        ids, [], pd.DataFrame.from_records(where, columns=list(OBSERVATION_COLUMNS)), empty(EVENT_COLUMNS),
        pd.DataFrame(index=pd.Index(ids, name="id")), empty(EXPOSURE_COLUMNS),
    )  # fmt: skip
    dims = ("patient", "anc_number")
    observed = {"anc": (dims, np.where(below, lloq, value)), "anc_below": (dims, below)}
    groups = {
        "observed_data": xr.Dataset(observed),
        "population_predictive": xr.Dataset({"anc": (("draw", *dims), new)}),
    }
    return xr.DataTree.from_dict(groups), tables


def made(rng, patients: int, counts: int, between: float, draws: int = 200):
    """Return counts of patients who differ by ``between`` (log SD), and those of new ones: the same law."""
    x = rng.normal(size=(draws + 1, patients, counts)) + between * rng.normal(size=(draws + 1, patients, 1))
    return np.exp(0.5 * x[0]), np.exp(0.5 * x[1:])


def test_band_of_pit_of_independent_observations():
    """That of arviz (Saeilynoja, Buerkner and Vehtari 2022), which is for these."""
    rng = np.random.default_rng(3)
    tree, tables = tree_of(*made(rng, 150, 1, 1.0, 1000), np.zeros((150, 1)))
    table = pit_table(tree, tables, 1)
    points, _, low, high = ecdf_pit(rng.uniform(size=150), 0.95, 1000)
    theirs = np.interp(GRID, points, high - low)[4:-4]
    ours = (table["band95_high"] - table["band95_low"]).to_numpy()[4:-4]
    np.testing.assert_allclose(ours, theirs, rtol=0.15)
    assert abs(ours.mean() / theirs.mean() - 1.0) < 0.1


def test_pit_of_patients_counts():
    """p-values of data of the law are not too small although counts of a patient depend; of other data they are small."""
    rng = np.random.default_rng(5)
    p, outside = [], 0
    for _ in range(40):
        value, new = made(rng, 20, 15, 1.0)
        tree, tables = tree_of(value, new, np.zeros((20, 15)))
        table = pit_table(tree, tables, 1)
        p.append(table["p_value"].iloc[0])
        _, own, low, high = ecdf_pit(np.mean(new < value, axis=0).ravel(), 0.95, 200)
        outside += bool(((own < low) | (own > high)).any())
    assert np.mean(np.array(p) < 0.05) < 0.16 and 0.3 < np.mean(p) < 0.7
    assert outside > 20  # of the band for independent observations, which should leave out 2
    for wrong in (np.multiply(value, 2.0), np.square(value)):
        tree, tables = tree_of(wrong, new, np.zeros((20, 15)))
        assert pit_table(tree, tables, 1)["p_value"].iloc[0] < 0.02


def test_pit_below_the_limit_is_uniform_there():
    rng = np.random.default_rng(7)
    value, new = made(rng, 2000, 1, 0.0)
    s = seen(*tree_of(value, new, np.zeros((2000, 1)), 1.0), "anc")
    assert 0.4 < s.below.mean() < 0.6
    own, _ = pit_distributions(s, rng)
    whole, _ = pit_distributions(seen(*tree_of(value, new, np.zeros((2000, 1))), "anc"), rng)
    np.testing.assert_allclose(own, whole, atol=0.045)
    # As if they had been seen at the limit, half would have a PIT value of a half.
    stacked, _ = pit_distributions(s._replace(below=np.zeros_like(s.below)), rng)
    assert np.abs(stacked - GRID).max() > 0.3


def test_vpc_with_values_below_the_limit():
    """Quantiles and shares by hand; a quantile below the limit is missing; predictions below it count as such."""
    value = np.tile([[0.4, 0.6, 0.8, 1.0, 3.0]], (2, 1)).T
    day = np.tile([[0.0, 7.0]], (5, 1))
    new = np.stack([value, value + 0.2])
    table = vpc_table(*tree_of(value, new, day, LIMIT), False)
    assert table["day"].unique().tolist() == [0.0, 7.0] and (table["observations"] == 5).all()
    first = table[table["day"] == 7.0].set_index("quantity")
    assert first.loc["q50", "observed"] == 0.8 and first.loc["q95", "observed"] == 3.0
    assert np.isnan(first.loc["q05", "observed"]) and np.isnan(first.loc["q05", "pi90_low"])
    assert first.loc["q05", "pi90_high"] == pytest.approx(0.6)
    assert first.loc["below_limit", ["observed", "pi90_low", "pi90_high"]].tolist() == [0.2, 0.0, 0.2]
    assert "below_limit" not in set(vpc_table(*tree_of(value, new, day), False)["quantity"])


def test_prediction_correction_takes_out_what_the_design_explains():
    """Two doses whose counts differ tenfold: corrected, all have the spread of one dose."""
    rng = np.random.default_rng(9)
    scale = np.repeat([1.0, 10.0], 100)[:, None]
    value, new = (scale * x for x in made(rng, 200, 1, 0.0))
    table = vpc_table(*tree_of(value, new, np.zeros((200, 1))), True).set_index(["prediction_corrected", "quantity"])
    plain, corrected = (table.loc[c, "observed"] for c in (False, True))
    assert plain["q95"] / plain["q05"] > 30.0
    assert corrected["q95"] / corrected["q05"] == pytest.approx(np.exp(0.5 * 2 * 1.645), rel=0.25)
    assert corrected["q50"] == pytest.approx(np.sqrt(10.0), rel=0.9)  # between the medians of both doses
    inside = (table["observed"] >= table["pi90_low"]) & (table["observed"] <= table["pi90_high"])
    assert inside[True].sum() >= 2


def law(patients: int, trials: int, rates: tuple[float, float], variance: float, death: float):
    """Return constant hazards a day of infection and progression, as trials of patients, and their times."""
    at = np.append(np.arange(0.0, 400.0, 14.0), 400.0)
    of = [np.broadcast_to((r * at)[:, None], (trials, len(at), patients)) for r in rates]
    one = np.ones(trials)
    return check.Hazards(of[0], of[1], variance * one, 0.0 * one, death * DAYS_PER_MONTH * one, 0.05 * one), at


def ledger_of(stop: np.ndarray, days: int = 8 * 7) -> Ledger:
    zero = np.zeros(len(stop))
    return Ledger(np.ones((days // 7, 7, len(stop))), stop, zero, zero, zero, zero)


def test_new_patients_by_closed_forms():
    """Progression or death: exp(-(l + d) t). Infection: frailty; competing: death, or treatment that ends and four weeks more."""
    rng = np.random.default_rng(11)
    n, trials = 400, 20
    until = np.full((trials, n), 400.0)
    for stop in (BEYOND, 100.0):
        h, at = law(n, trials, (0.004, 0.002), 1.5, 0.001)
        o = check.simulated(h, at, np.full((trials, n), stop), until, (True, True), rng)
        grid = np.array([50.0, 127.0, 200.0, 390.0])
        free = np.mean(
            [check.curves(check.Outcomes(*(v[t] for v in o)), grid, np.arange(n), (True, True)) for t in range(trials)],
            axis=0,
        )
        np.testing.assert_allclose(free[0], np.exp(-0.003 * grid), atol=0.015)
        # At risk at t: no death before t, no progression before t - 28, treatment ended at most 28 days ago.
        t = np.arange(0.5, 400.0)
        hazard = 0.004 * (1.0 + 1.5 * 0.004 * t) ** (-1.0 / 1.5 - 1.0)
        # A death after progression has a rate of its own.
        lag, d, d2, p = np.minimum(t, 28.0), 0.001, 0.05 / DAYS_PER_MONTH, 0.002
        u = np.linspace(0.0, 1.0, 201)[:, None] * lag
        later = np.trapezoid(p * np.exp(-(p + d) * (t - u)) * np.exp(-d2 * u), u, axis=0)
        at_risk = (np.exp(-(p + d) * t) + later) * (t < stop + 28.0)
        expected = [(hazard * at_risk)[t < g].sum() for g in grid]
        np.testing.assert_allclose(free[1], expected, atol=0.015)


def test_without_deaths_and_infections():
    h, at = law(50, 3, (0.01, 0.002), 1.0, 10.0)
    until = np.full((3, 50), 400.0)
    rng = np.random.default_rng(1)
    none = check.simulated(h, at, np.full((3, 50), BEYOND), until, (False, False), rng)
    assert not (none.cause == check.EVENT).any() and 0.3 < none.failed.mean() < 0.8
    everyone = check.simulated(h, at, np.full((3, 50), BEYOND), until, (True, True), rng)
    assert everyone.failed.all() and everyone.free.max() < 3.0


def test_follow_up_of_those_with_an_event_is_that_of_the_others():
    free = np.array([0.0, 10.0, 20.0, 30.0, 40.0, 25.0])
    failed = np.array([True, False, False, False, False, True])
    drawn = check.followed_until(check.Outcomes(free, failed, free, failed), 20_000, np.random.default_rng(2))
    assert (drawn[:, 1:5] == free[1:5]).all() and (drawn[:, 5] >= 30.0).all()
    np.testing.assert_allclose([(drawn[:, 0] > t).mean() for t in (5, 15, 25, 35)], [1.0, 0.8, 0.6, 0.3], atol=0.015)
    np.testing.assert_allclose((drawn[:, 5] > 35.0).mean(), 0.5, atol=0.015)


def test_treatment_goes_on_where_an_event_ended_it():
    """One stopped at progression, one long before it, one not at all; doses of the last four weeks are repeated."""
    stop = np.array([50.0, 30.0, BEYOND])
    ledger = ledger_of(stop, 98)
    dose = ledger.dose.reshape(98, 3)
    dose[:, :] = (np.arange(98) % 28 < 21)[:, None]
    dose[50:, 0] = dose[30:, 1] = 0.0
    free, failed = np.array([50.0, 70.0, 98.0]), np.array([True, True, False])
    new, caused = check.continued(ledger, check.Outcomes(free, failed, free, failed))
    np.testing.assert_array_equal(new.dose.reshape(98, 3)[:, 0], np.arange(98) % 28 < 21)
    np.testing.assert_array_equal(new.dose.reshape(98, 3)[:, 1:], dose[:, 1:])
    assert caused.tolist() == [True, False, False] and new.going_on is None
    # What counts for the tumour effect goes on with the doses; where treatment ended for other reasons it stays.
    given = ledger._replace(going_on=2.0 * ledger.dose)
    new, _ = check.continued(given, check.Outcomes(free, failed, free, failed))
    np.testing.assert_array_equal(new.going_on[..., 0], new.dose[..., 0])
    np.testing.assert_array_equal(new.going_on[..., 1:], 2.0 * new.dose[..., 1:])


def test_treatment_ends_for_other_reasons_as_in_the_others():
    """Of 3,000 patients whose treatment ends at the first of progression and another reason: the latter's law is found again."""
    rng = np.random.default_rng(3)
    n, cutoff = 3000, 300.0
    progression, other = rng.exponential(150.0, n), rng.exponential(200.0, n)
    free, failed = np.minimum(progression, cutoff), progression <= cutoff
    stop = np.minimum(progression, other)
    ledger = ledger_of(np.where(stop <= cutoff, stop, BEYOND))
    caused = failed & (progression <= other)
    drawn = check.other_ends(ledger, caused, check.Outcomes(free, failed, free, failed), np.ones(n), 3, rng)
    assert (drawn[:, ~caused] == ledger.stop[~caused]).all() and (drawn[:, caused] >= free[caused]).all()
    for t in (30.0, 100.0, 200.0):
        np.testing.assert_allclose((drawn > t).mean(axis=1), np.exp(-t / 200.0), atol=0.03)
    assert (drawn[:, ledger.stop >= BEYOND] == BEYOND).any()
    # Without such ends treatment goes on.
    never = check.other_ends(ledger, np.ones(n, bool), check.Outcomes(free, failed, free, failed), np.zeros(n), 1, rng)
    assert (never == BEYOND).all()


def test_doses_end_with_treatment():
    """On the day of the end; those that would have gone on, with its week."""
    ledger = ledger_of(np.full(2, BEYOND), 28)
    new = check.cut(ledger._replace(going_on=2.0 * ledger.dose), np.array([10.0, BEYOND]))
    day = np.arange(28)
    np.testing.assert_array_equal(np.asarray(new.dose).reshape(28, 2), np.stack([day < 10, day >= 0], axis=1))
    np.testing.assert_array_equal(np.asarray(new.going_on).reshape(28, 2)[:, 0], 2.0 * (day < 14))


def test_crossed():
    at, cumulative = np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 1.5])
    found = check.crossed(at, np.tile(cumulative[None, :, None], (1, 1, 4)), np.array([[0.25, 1.0, 1.25, 1.6]]))
    np.testing.assert_allclose(found, [[2.5, 10.0, 15.0, np.inf]])


def test_step_functions():
    times, share = cumulative_incidence(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 2, 0, 1]))
    np.testing.assert_allclose(share, [0.25, 0.75])
    np.testing.assert_allclose(at_times(np.array([0.5, 1.0, 3.9, 9.0]), times, share, 0.0), [0.0, 0.25, 0.25, 0.75])


def test_figures(tmp_path):
    """They are drawn with and without a limit, one arm or two."""
    rng = np.random.default_rng(1)
    value, new = made(rng, 30, 4, 0.5, 50)
    tree, tables = tree_of(value, new, np.tile(np.arange(4.0), (30, 1)), LIMIT)
    table = vpc_table(tree, tables, True)
    points: dict[str, Seen] = {"anc": seen(tree, tables, "anc")}
    draw_vpc(table, points, tmp_path)
    draw_pit(pit_table(tree, tables, 1), tmp_path / "pit.png")
    lines = [
        dict(outcome=o, arm=a, estimator=e, day=d, at_risk=9, events=2, observed=0.5, median=0.5, pi90_low=0.2, pi90_high=0.7)
        for o, e in (("progression", "kaplan_meier"), ("severe infection", "aalen_johansen"))
        for a in check.ARMS.values() for d in (0.0, 30.0)
    ]  # fmt: skip
    draw_events(pd.DataFrame(lines), tmp_path / "events.png")
    assert {p.name for p in tmp_path.iterdir()} == {"vpc.png", "vpc_corrected.png", "pit.png", "events.png"}
