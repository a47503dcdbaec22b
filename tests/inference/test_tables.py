"""Simulated tables analysed anew with pandas and lifelines: the numbers of the simulator, by another route."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from mezikd.inference import posterior_file
from mezikd.inference.commands import built_in_fit
from mezikd.inference.finding_tables import cut, grade
from mezikd.inference.table_columns import TABLES, names
from mezikd.inference.trial import ArmData, reduce, simulated_trials
from mezikd.inference.virtual_tables import ordered_scenario, tables_of
from mezikd.inference.virtual_trial import Order, apportioned, simulate_virtual_trial
from mezikd.model.history import NEVER

MONTH = 30.4375


@pytest.fixture(scope="module")
def fit():
    tree, problem = posterior_file.load(built_in_fit() / "posterior.nc")
    return np.asarray(tree["unconstrained_posterior"]["z"]), problem


def ordered(fit, arms=("mezikd", "kd"), seed=3, draw="posterior-mean", region=None, rdi=None, **regimen):
    z, problem = fit
    order = Order(288, arms, ordered_scenario(problem, regimen, rdi), region, draw, seed)
    trial = simulate_virtual_trial(z, problem, order)
    return trial, tables_of(trial, problem.settings.study.name)


@pytest.fixture(scope="module")
def made(fit):
    """The fitted trial's regimen in both arms: (trial, tables)."""
    return ordered(fit)


@pytest.fixture(scope="module")
def tables(made):
    return made[1]


@pytest.fixture(scope="module")
def as_reported(fit, made):
    """What the check's own estimators find in the same histories, by row."""
    _, problem = fit
    arms = {
        arm.name: ArmData(problem.target.design.arm(arm.name), arm.region, arm.treated, arm.history)
        for arm in made[0].arms
    }
    return {row.name: reduce(arms, row) for row in problem.evidence.rows}


def subjects_with(table: pd.DataFrame, which) -> set[str]:
    return set(table.loc[which, "USUBJID"])


def counted(t: dict[str, pd.DataFrame], adsl: pd.DataFrame) -> dict[str, set[str]]:
    """Return the subjects of each reported count."""
    lb, ae, ex = t["adlb"], t["adae"], t["adex"]
    after = (lb["ABLFL"] == "") & (lb["UNSCHFL"] == "")
    infection = ae["AEDECOD"] == "INFECTION"
    treated = adsl["SAFFL"] == "Y"
    first = ae[infection & (ae["AETOXGR"] >= 3)].groupby("USUBJID")["AETOXGR"].first()
    return {
        "neutropenia_g34": subjects_with(lb, after & (lb["AVAL"] < 1.0)),
        "neutropenia_any": subjects_with(lb, after & (lb["AVAL"] < 1.5)),
        "febrile_neutropenia_g34": subjects_with(ae, ae["AEDECOD"] == "FEBRILE NEUTROPENIA"),
        "hold_mezigdomide_neutropenia": subjects_with(ex, ex["EXADJ"] == "HELD"),
        "reduction_mezigdomide": subjects_with(adsl, (adsl["REDNEUFL"] == "Y") | (adsl["REDOTHFL"] == "Y")),
        "infection_g34": subjects_with(ae, infection & (ae["AETOXGR"] >= 3)),
        "infection_any": subjects_with(ae, infection),
        "infection_worst_g3": set(first[first == 3].index),
        "infection_worst_g4": set(first[first == 4].index),
        "infection_with_neutropenia": subjects_with(ae, infection & (ae["CONCNEFL"] == "Y")),
        "infection_fatal": subjects_with(ae, infection & (ae["AETOXGR"] == 5)),
        "treated_one_year": subjects_with(adsl, treated & (adsl["TRTDURM"] >= 12.0)),
        "still_on_treatment": subjects_with(adsl, treated & (adsl["EOTSTT"] == "ONGOING")),
        "discontinued_progression": subjects_with(adsl, treated & (adsl["DCTREAS"] == "PROGRESSIVE DISEASE")),
        "pfs_events": subjects_with(t["adtte"], (t["adtte"]["PARAMCD"] == "PFS") & (t["adtte"]["CNSR"] == 0)),
        "deaths": subjects_with(adsl, adsl["DTHFL"] == "Y"),
        "deaths_progression": subjects_with(adsl, adsl["DTHCAUS"] == "PROGRESSIVE DISEASE"),
        "deaths_ae_or_other": subjects_with(adsl, adsl["DTHCAUS"].isin(["INFECTION", "OTHER"])),
    }


REGION = {"usa": "USA", "europe": "EUROPE", "asia": "ASIA", "rest_of_world": "REST OF WORLD"}


def members(adsl: pd.DataFrame, arm: str, subgroup: str) -> set[str]:
    inside = adsl["ARMCD"].eq(arm.upper()) | (arm == "both")
    return set(adsl.loc[inside & (adsl["REGION"].eq(REGION.get(subgroup, "")) | (subgroup == "all")), "USUBJID"])


def test_every_reported_count(fit, tables, as_reported):
    adsl = tables["adsl"]
    found = counted(tables, adsl)
    seen = 0
    for row in fit[1].evidence.rows:
        if row.statistic != "count":
            continue
        ours = len(found[row.id] & members(adsl, row.arm, row.subgroup))
        theirs = as_reported[row.name][1]
        if row.id in ("infection_worst_g3", "infection_worst_g4"):
            # A fatal infection has grade 5 in the table, and its grade before death in the check.
            assert abs(ours - theirs) <= len(found["infection_fatal"]) + 2, row.name
        else:
            assert ours == theirs, row.name
        seen += ours > 0
    assert seen > 30
    both = [sum(as_reported[f"infection_worst_g{g}/mezikd/all"][1] for g in (3, 4))]
    assert both == [len(found["infection_g34"] & members(adsl, "mezikd", "all"))]


def test_every_reported_quartile(tables, as_reported):
    adsl, te = tables["adsl"], tables["adtte"]
    for arm in ("mezikd", "kd"):
        inside = adsl[adsl["ARMCD"] == arm.upper()]
        durations = inside.loc[inside["SAFFL"] == "Y", "TRTDURM"]
        np.testing.assert_allclose(
            durations.quantile([0.25, 0.5, 0.75]), as_reported[f"treatment_duration/{arm}/all"], atol=1e-5
        )
        onset = te[(te["ARMCD"] == arm.upper()) & (te["PARAMCD"] == "TTINF3") & (te["CNSR"] == 0)]["AVAL"] * MONTH
        np.testing.assert_allclose(
            onset.quantile([0.25, 0.5, 0.75]), as_reported[f"infection_g34_onset/{arm}/all"], atol=1e-3
        )
        ae = tables["adae"].merge(inside[["USUBJID"]])
        over = ae[(ae["AEDECOD"] == "NEUTROPENIA") & ae["ADURN"].notna()].groupby("USUBJID")["ADURN"].first()
        # Episodes still on at death or data cutoff are open in the table.
        np.testing.assert_allclose(
            over.astype(float).quantile([0.25, 0.5, 0.75]), as_reported[f"neutropenia_duration/{arm}/all"], atol=1.0
        )
    np.testing.assert_allclose(adsl["FUPMON"].quantile([0.25, 0.5, 0.75]), as_reported["followup/both/all"], atol=1e-5)
    np.testing.assert_allclose(
        adsl["RDI"].quantile([0.25, 0.5, 0.75]), as_reported["rdi_mezigdomide/mezikd/all"], atol=1e-3
    )


@pytest.mark.parametrize(("code", "name"), [("PFS", "pfs"), ("TTP", "ttp")])
@pytest.mark.parametrize("arm", ["mezikd", "kd"])
def test_kaplan_meier_median(tables, as_reported, code, name, arm):
    te = tables["adtte"]
    te = te[(te["PARAMCD"] == code) & (te["ARMCD"] == arm.upper())]
    median = KaplanMeierFitter().fit(te["AVAL"], te["CNSR"] == 0).median_survival_time_
    np.testing.assert_allclose(median, as_reported[f"{name}_median/{arm}/all"][1], atol=1e-5)


@pytest.mark.parametrize(("code", "name"), [("PFS", "pfs"), ("TTP", "ttp"), ("OS", "os")])
def test_cox_hazard_ratio(tables, as_reported, code, name):
    te = tables["adtte"]
    te = te[te["PARAMCD"] == code]
    data = pd.DataFrame({"time": te["AVAL"], "event": te["CNSR"] == 0, "drug": te["ARMCD"] == "MEZIKD"}).astype(float)
    ratio = np.exp(CoxPHFitter().fit(data, "time", "event", fit_options={"precision": 1e-12}).params_["drug"])
    np.testing.assert_allclose(ratio, as_reported[f"{name}_hr/mezikd_vs_kd/all"][1], rtol=1e-5)


def test_rates_of_the_model_within_monte_carlo_error(fit, made, as_reported):
    """Against other trials of the same parameters, from the simulator behind `mezikd check`."""
    z, problem = fit
    mean = z.reshape(-1, z.shape[-1]).mean(axis=0)
    rows = [r for r in problem.evidence.rows if r.statistic == "count"]
    trials = simulated_trials(np.tile(mean, (16, 1)), problem.parameters, problem.target.design, 9)
    others = np.array([[reduce(trial, row)[1] for row in rows] for trial, _ in trials])
    ours = np.array([as_reported[r.name][1] for r in rows])
    spread = others.std(axis=0, ddof=1) * np.sqrt(1 + 1 / 16)
    off = (ours - others.mean(axis=0)) / np.maximum(spread, 1.0)
    assert np.abs(off).max() < 4.5, [(r.name, o) for r, o in zip(rows, off, strict=True) if abs(o) > 3.0]
    assert np.abs(off).mean() < 1.5


def test_dose_intensity_ends_on_the_day_the_drug_ends(made, tables):
    """adex is cut day by day from the record; the simulator counts as it goes."""
    arm, adsl = made[0].arms[0], tables["adsl"].set_index("USUBJID")
    treated = adsl[(adsl["ARMCD"] == "MEZIKD") & (adsl["SAFFL"] == "Y")]
    h = arm.history
    np.testing.assert_allclose(h.planned[arm.treated], treated["PLANMG"], atol=1e-5)
    np.testing.assert_allclose(h.given[arm.treated], treated["ACTUALMG"], rtol=1e-4, atol=1e-4)
    within = arm.drug_end % 7.0
    assert ((within > 0.0) & (within < 6.0)).mean() > 0.3, "many end within a week"


def test_columns_and_keys(tables):
    assert list(tables) == list(TABLES)
    for name, table in tables.items():
        assert list(table.columns) == names(name) and len(set(table.columns)) == len(table.columns)
        assert all(len(c) <= 8 for c in table.columns) and len(table)
    adsl = tables["adsl"]
    assert adsl["USUBJID"].is_unique and len(adsl) == 288 + 191 and set(adsl["SIMFL"]) == {"Y"}
    assert adsl.groupby(["ARMCD", "REGION"]).size()["MEZIKD"].to_dict() == {
        "USA": 27, "EUROPE": 109, "ASIA": 88, "REST OF WORLD": 64,
    }  # fmt: skip
    assert (adsl["SAFFL"] == "Y").groupby(adsl["ARMCD"]).sum().to_dict() == {"MEZIKD": 288, "KD": 186}
    treated = set(adsl.loc[adsl["SAFFL"] == "Y", "USUBJID"])
    for name, key in (("adex", "EXSEQ"), ("adae", "AESEQ")):
        assert set(tables[name]["USUBJID"]) <= treated
        assert not tables[name].duplicated(["USUBJID", key]).any()
        assert (tables[name].groupby("USUBJID")[key].max() == tables[name].groupby("USUBJID").size()).all()
    assert set(tables["adlb"]["USUBJID"]) == treated and not tables["adlb"].duplicated(["USUBJID", "ADY"]).any()
    for name in ("adsl", "adex", "adlb", "adae", "adtte"):
        assert tables[name]["STUDYID"].str.startswith("SIMULATED ").all()
    assert not tables["adtte"].duplicated(["USUBJID", "PARAMCD"]).any()
    assert tables["adtte"].groupby("PARAMCD").size().to_dict() == {"OS": 479, "PFS": 479, "TTINF3": 474, "TTP": 479}


def test_every_day_lies_within_follow_up(tables):
    adsl = tables["adsl"].set_index("USUBJID")
    assert not (adsl["TRTEDY"] > adsl["LSTFUDY"]).fillna(False).any() and (adsl["LSTFUDY"] <= adsl["CUTOFFDY"]).all()
    assert (adsl["DTHDY"].dropna() == adsl.loc[adsl["DTHDY"].notna(), "LSTFUDY"]).all()
    ex, lb, ae, te = (
        tables[n].join(adsl[["TRTEDY", "LSTFUDY"]], on="USUBJID") for n in ("adex", "adlb", "adae", "adtte")
    )
    assert (ex["ASTDY"] >= 1).all() and (ex["AENDY"] <= ex["TRTEDY"]).all()
    assert (lb["ADY"] >= 1).all() and (lb["ADY"] <= lb["TRTEDY"]).all()
    assert (ae["ASTDY"] >= 1).all() and (ae["ASTDY"] <= np.minimum(ae["TRTEDY"] + 28, ae["LSTFUDY"])).all()
    over = ae[ae["AENDY"].notna()]
    assert (over["AENDY"] >= over["ASTDY"]).all() and (over["AENDY"] <= over["LSTFUDY"]).all()
    assert (te["ADY"] <= te["LSTFUDY"]).all() and (te["AVAL"] > 0.0).all()


def test_censoring_convention(tables):
    te = tables["adtte"]
    assert set(te["CNSR"]) == {0, 1, 2, 3, 4}
    event = te["CNSR"] == 0
    assert (event == (te["EVNTDESC"] != "")).all() and (event == (te["CNSDTDSC"] == "")).all()
    texts = te[~event].groupby("CNSR")["CNSDTDSC"].unique().map(list).to_dict()
    assert texts == {1: ["DATA CUTOFF"], 2: ["LOST TO FOLLOW-UP"], 3: ["DEATH"], 4: ["END OF SAFETY FOLLOW-UP"]}
    # AVAL has four decimals: a hundredth of a day at most, across midnight in one row of a thousand.
    assert (te["ADY"] == np.floor(te["AVAL"] * MONTH + 1e-4) + 1).mean() > 0.99
    by = te.set_index(["USUBJID", "PARAMCD"])["CNSR"].unstack()  # noqa: PD010
    assert (by.loc[by["TTP"] == 0, "PFS"] == 0).all() and (by["OS"].isin([0, 1])).all()
    died = set(tables["adsl"].loc[tables["adsl"]["DTHFL"] == "Y", "USUBJID"])
    assert set(by.index[by["OS"] == 0]) == died
    assert set(te.loc[te["PARAMCD"] == "TTP", "EVNTDESC"]) == {"", "PROGRESSIVE DISEASE"}


def test_grades_agree_with_counts(made, tables):
    lb = tables["adlb"]
    expected = np.select([lb["AVAL"] < 0.5, lb["AVAL"] < 1.0, lb["AVAL"] < 1.5, lb["AVAL"] < 2.0], [4, 3, 2, 1], 0)
    assert (lb["ATOXGR"] == expected).all() and set(lb["ATOXGR"]) == {0, 1, 2, 3, 4}
    assert grade([0.499, 0.5, 0.999, 1.0, 1.499, 1.5, 1.999, 2.0, 9.0]).tolist() == [4, 3, 3, 2, 2, 1, 1, 0, 0]
    assert cut([0.9996, 1.0, 1.0004, 0.4999999, 1.5, 0.0004]).tolist() == [0.999, 1.0, 1.0, 0.499, 1.5, 0.001]
    base = lb[lb["ABLFL"] == "Y"]
    assert (base["ADY"] == 1).all() and base["USUBJID"].is_unique and (base["CHG"] == 0).all()
    np.testing.assert_allclose(lb["AVAL"] - lb["BASE"], lb["CHG"], atol=1e-9)
    unscheduled = lb["UNSCHFL"] == "Y"
    assert unscheduled.any() and (lb["AVISIT"].eq("UNSCHEDULED") == unscheduled).all()
    expected_error = np.log(base["AVAL"].to_numpy()) - np.log(
        tables["adsl"].set_index("USUBJID").loc[base["USUBJID"], "NEUT0"]
    )
    assert abs(expected_error.std() / made[0].theta["sigma_anc"] - 1.0) < 0.15


def test_doses(made, tables):
    """adex, day by day, is what the simulator gave until the drug ended; planned days off have no record."""
    arm, ex, adsl = made[0].arms[0], tables["adex"], tables["adsl"].set_index("USUBJID")
    assert (ex["NDAYS"] == ex["AENDY"] - ex["ASTDY"] + 1).all() and (ex["NDAYS"] <= 21).all()
    assert ((ex["ASTDY"] - 1) % 28 + ex["NDAYS"] <= 21).all() and (ex["CYCLE"] == (ex["ASTDY"] - 1) // 28 + 1).all()
    days = ex.loc[ex.index.repeat(ex["NDAYS"])].reset_index(drop=True)
    days["day"] = days["ASTDY"] + days.groupby(["USUBJID", "EXSEQ"]).cumcount()
    assert not days.duplicated(["USUBJID", "day"]).any()
    taken = days.pivot_table(index="USUBJID", columns="day", values="EXDOSE").fillna(0.0)
    t = np.arange(7 * arm.record.dose.shape[0])
    exact = arm.record.dose.reshape(len(t), -1).T * (t < arm.drug_end[:, None])
    shown = np.zeros_like(exact)
    shown[np.searchsorted(adsl.index[:288], taken.index)[:, None], taken.columns.to_numpy(int) - 1] = taken
    np.testing.assert_allclose(shown, exact, atol=1e-6)
    sums = ex.assign(p=ex["PLANDOSE"] * ex["NDAYS"], a=ex["EXDOSE"] * ex["NDAYS"]).groupby("USUBJID")[["p", "a"]].sum()
    np.testing.assert_allclose(100.0 * sums["a"] / sums["p"], adsl.loc[sums.index, "RDI"], atol=1e-5)
    held, reduced = ex["EXADJ"] == "HELD", ex["EXADJ"] == "REDUCED"
    assert held.any() and reduced.any()
    assert (ex.loc[held, ["LVLDOSE", "EXDOSE"]] == 0).all(axis=None) and (ex.loc[~held, "EXDOSE"] > 0).all()
    assert set(ex.loc[reduced, "LVLDOSE"]) <= {0.6, 0.3} and (ex.loc[~held & ~reduced, "LVLDOSE"] == 1.0).all()
    np.testing.assert_allclose(
        ex.loc[~held, "EXDOSE"] / ex.loc[~held, "LVLDOSE"], adsl.loc[ex.loc[~held, "USUBJID"], "INTENSTY"], atol=1e-5
    )


def test_adverse_events(made, tables):
    ae, lb, adsl = tables["adae"], tables["adlb"], tables["adsl"].set_index("USUBJID")
    assert (ae["AESDTH"].eq("Y") == (ae["AEOUT"] == "FATAL")).all() and (
        ae["AESDTH"].eq("Y") == (ae["AETOXGR"] == 5)
    ).all()
    fatal = ae[ae["AESDTH"] == "Y"]
    assert set(fatal["USUBJID"]) == set(adsl.index[adsl["DTHCAUS"] == "INFECTION"]) and len(fatal)
    assert (fatal["AENDY"].to_numpy() == adsl.loc[fatal["USUBJID"], "DTHDY"].to_numpy()).all()
    assert (ae["AENDY"].isna() == (ae["AEOUT"] == "NOT RECOVERED")).all()
    infection = ae["AEDECOD"] == "INFECTION"
    assert (ae["CONCNEFL"].ne("") == infection).all() and set(ae.loc[infection, "AETOXGR"]) == {2, 3, 4, 5}
    assert (
        ae.sort_values(["USUBJID", "AESEQ"])
        .groupby("USUBJID")["ASTDY"]
        .apply(lambda x: x.is_monotonic_increasing)
        .all()
    )
    episodes = ae[ae["AEDECOD"] == "NEUTROPENIA"]
    counts = episodes.merge(lb[["USUBJID", "ADY", "AVAL", "ATOXGR", "UNSCHFL"]], on="USUBJID")
    first = counts[counts["ADY"] == counts["ASTDY"]]
    assert len(first) == len(episodes) and (first["AVAL"] < 1.0).all() and (first["UNSCHFL"] == "").all()
    inside = counts[(counts["ADY"] >= counts["ASTDY"]) & ~(counts["ADY"] > counts["AENDY"]).fillna(False).astype(bool)]
    worst = inside.groupby(["USUBJID", "AESEQ"])["ATOXGR"].max()
    told = episodes.set_index(["USUBJID", "AESEQ"])["AETOXGR"]
    assert (worst.reindex(told.index) == told).all() and set(worst) == {3, 4}
    febrile = ae[ae["AEDECOD"] == "FEBRILE NEUTROPENIA"]
    same = febrile.merge(episodes, on=["USUBJID", "ASTDY"])
    assert len(same) == len(febrile) and (same["AENDY_x"].fillna(0) == same["AENDY_y"].fillna(0)).all()
    held = tables["adex"][tables["adex"]["EXADJ"] == "HELD"]["USUBJID"]
    assert set(episodes.loc[episodes["AEACN"] != "", "USUBJID"]) <= set(held) and (episodes["AEACN"] != "").any()
    # Medians of the assumed durations.
    spells = ae[infection & (ae["AEOUT"] == "RECOVERED")]
    assert abs(spells.loc[spells["AETOXGR"] == 2, "ADURN"].median() - 8) <= 1.5
    assert abs(spells.loc[spells["AETOXGR"] >= 3, "ADURN"].median() - 14) <= 3
    assert made[0].arms[0].record.infection.min() < NEVER


def test_nonmem_holds_the_doses_and_counts_of_the_other_tables(tables):
    nm, adsl = tables["nonmem"], tables["adsl"]
    ids = pd.Series(np.arange(1, len(adsl) + 1), index=adsl["USUBJID"])
    doses = nm[nm["EVID"] == 1].astype({"AMT": float, "ADDL": int, "II": int})
    given = tables["adex"][tables["adex"]["EXDOSE"] > 0]
    assert len(doses) == len(given)
    assert (doses["ID"].to_numpy() == given["USUBJID"].map(ids).to_numpy()).all()
    assert (doses["TIME"].to_numpy() == given["ASTDY"].to_numpy() - 1).all()
    assert (doses["AMT"].to_numpy() == given["EXDOSE"].to_numpy()).all()
    total = (doses["AMT"] * (doses["ADDL"] + 1)).groupby(doses["ID"]).sum()
    np.testing.assert_allclose(total, adsl["ACTUALMG"].dropna()[: len(total)], atol=1e-4)
    assert (doses["II"] == (doses["ADDL"] > 0)).all()
    assert (doses[["DV", "DVID", "CENS"]] == ".").all(axis=None) and (doses["MDV"] == 1).all()
    seen = nm[nm["EVID"] == 0]
    assert (seen["DV"].astype(float).to_numpy() == tables["adlb"]["AVAL"].to_numpy()).all()
    assert (seen[["AMT", "RATE", "II", "ADDL", "SS"]] == ".").all(axis=None) and (seen["MDV"] == 0).all()
    assert (nm.groupby("ID")["TIME"].apply(lambda t: t.is_monotonic_increasing)).all() and nm[
        "ID"
    ].is_monotonic_increasing
    tied = nm[nm.duplicated(["ID", "TIME"], keep=False)]
    assert len(tied) and tied.groupby(["ID", "TIME"])["EVID"].apply(list).map(lambda x: x == [0, 1]).all()


def test_other_regimens(fit):
    trial, t = ordered(fit, ("mezikd",), dose_mg=0.6, days_on=14)
    assert trial.extrapolated and set(t["adsl"]["ARMCD"]) == {"MEZIKD"}
    ex = t["adex"]
    assert ((ex["ASTDY"] - 1) % 28 + ex["NDAYS"] <= 14).all() and set(ex["PLANDOSE"]) == {0.6}
    assert set(ex["LVLDOSE"]) == {0.6, 0.3, 0.0}
    trial, t = ordered(fit, ("mezikd",), rdi=0.8)
    assert trial.extrapolated and set(t["adex"]["EXADJ"]) == {""}
    np.testing.assert_allclose(t["adsl"]["RDI"], 80.0, atol=1e-6)
    assert "0.8" in t["adsl"]["TRT01P"][0]


def test_control_arm_alone_has_no_doses(fit):
    trial, t = ordered(fit, ("kd",))
    assert not trial.extrapolated and set(t["adsl"]["ARMCD"]) == {"KD"} and len(t["adsl"]) == 288
    assert t["adex"].empty and (t["nonmem"]["EVID"] == 0).all() and t["adsl"]["RDI"].isna().all()


def test_one_region_and_a_random_draw(fit):
    mean, _ = ordered(fit, ("mezikd",))
    trial, t = ordered(fit, ("mezikd",), draw="random", region="asia")
    assert set(t["adsl"]["REGION"]) == {"ASIA"} and trial.theta["ec50"] != mean.theta["ec50"]
    z = fit[0]
    again, _ = ordered(fit, ("mezikd",), draw="random", region="asia")
    assert again.theta == trial.theta and "chain" in trial.draw
    assert not np.isclose(z.reshape(-1, z.shape[-1]), z.mean(axis=(0, 1))).all(axis=1).any()


def test_apportioned():
    assert apportioned(288, (27, 109, 88, 64)).tolist() == [27, 109, 88, 64]
    for n in (1, 2, 3, 10, 1001):
        parts = apportioned(n, (27, 109, 88, 64))
        assert parts.sum() == n and (np.abs(parts - n * np.array([27, 109, 88, 64]) / 288) < 1.0).all()


def test_a_wrong_table_is_noticed(fit, made, as_reported):
    """The comparison can fail: one dose, one count or one censoring changed is found."""
    trial, problem = made[0], fit[1]
    arm = trial.arms[0]
    i = int(np.flatnonzero(arm.history.first_grade3 < NEVER)[0])
    record = arm.record
    count, infection = record.count.copy(), record.infection.copy()
    count[:, i] = np.where(np.isfinite(count[:, i]), 5.0, np.nan)
    infection[:, :, np.argmin(arm.history.any_infection)] = NEVER
    wrong = replace(trial, arms=(replace(arm, record=record._replace(count=count, infection=infection)), trial.arms[1]))
    t = tables_of(wrong, problem.settings.study.name)
    found = counted(t, t["adsl"])
    for name in ("neutropenia_g34", "infection_any"):
        assert len(found[name] & members(t["adsl"], "mezikd", "all")) == as_reported[f"{name}/mezikd/all"][1] - 1
