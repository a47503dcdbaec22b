"""ADaM-like tables: what `mezikd simulate` writes comes back as it was, and mistakes are told."""

import numpy as np
import pandas as pd
import pytest
from mezikd.inference import posterior_file
from mezikd.inference.arrest_problem import counts_of
from mezikd.inference.commands import built_in_fit
from mezikd.inference.errors import InputError
from mezikd.inference.patient_tables import read_patients
from mezikd.inference.virtual_tables import ordered_scenario, tables_of
from mezikd.inference.virtual_trial import Order, simulate_virtual_trial

MONTH = 30.4375
NAMES = ("adsl", "adex", "adlb", "adae", "adtte")


@pytest.fixture(scope="module")
def simulated():
    tree, problem = posterior_file.load(built_in_fit() / "posterior.nc")
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    order = Order(24, ("mezikd", "kd"), ordered_scenario(problem, {}, None), None, "posterior-mean", 5)
    made = tables_of(simulate_virtual_trial(z, problem, order), "test")
    return {name: made[name] for name in (*NAMES, "nonmem")}


def write(folder, tables, suffix=".csv"):
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        if name not in tables:
            continue
        path = folder / f"{name}{suffix}"
        if suffix == ".csv":
            tables[name].to_csv(path, index=False)
        elif suffix == ".parquet":
            tables[name].to_parquet(path, index=False, engine="pyarrow")
        else:
            plain = tables[name].astype(
                {c: float for c in tables[name].columns if str(tables[name][c].dtype) == "Int64"}
            )
            pytest.importorskip("pyreadstat").write_xport(plain, str(path), file_format_version=5)
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xpt"])
def test_simulated_tables_come_back(tmp_path, simulated, suffix):
    t = simulated
    data = read_patients(write(tmp_path, t, suffix))
    assert data.ids == tuple(t["adsl"]["USUBJID"])
    o, lb = data.observations, t["adlb"]
    np.testing.assert_array_equal(o["id"], lb["USUBJID"])
    np.testing.assert_array_equal(o["time"], 24.0 * (lb["ADY"].to_numpy(float) - 1.0))
    np.testing.assert_array_equal(o["value"], lb["AVAL"])
    np.testing.assert_array_equal(o["source_row"], np.arange(len(lb)) + (2 if suffix == ".csv" else 1))
    for code, kind in {"PFS": "pfs", "TTP": "progression", "OS": "death", "TTINF3": "infection"}.items():
        te, e = t["adtte"][t["adtte"]["PARAMCD"] == code], data.events[data.events["kind"] == kind]
        np.testing.assert_array_equal(e["id"], te["USUBJID"])
        np.testing.assert_array_equal(e["time"], te["AVAL"] * MONTH)
        np.testing.assert_array_equal(e["event"], (te["CNSR"] == 0).astype(int))
    infected = data.events[(data.events["kind"] == "infection") & (data.events["event"] == 1)]
    ae = t["adae"][(t["adae"]["AEDECOD"] == "INFECTION") & (t["adae"]["AETOXGR"] >= 3)].drop_duplicates("USUBJID")
    assert infected.set_index("id")["grade"].astype(int).to_dict() == dict(
        zip(ae["USUBJID"], ae["AETOXGR"].astype(int), strict=True)
    )
    x, ex = data.exposure, t["adex"]
    np.testing.assert_array_equal(x["taken_mg"], ex["EXDOSE"])
    np.testing.assert_array_equal(x["planned_mg"], ex["PLANDOSE"])
    np.testing.assert_array_equal(x["held"], ex["EXADJ"] == "HELD")
    np.testing.assert_allclose(
        [(r.amt * (1 + r.addl)).sum() for r in data.records], t["adsl"]["ACTUALMG"].fillna(0.0), atol=1e-4
    )
    np.testing.assert_array_equal(data.covariates["REGION"], t["adsl"]["REGION"])
    np.testing.assert_array_equal(data.covariates["BNEUT"], t["adsl"]["BNEUT"])
    assert "EXPOSURE" not in data.covariates


def test_both_forms_of_a_trial_are_one(tmp_path, simulated):
    data = read_patients(write(tmp_path, simulated))
    path = tmp_path / "nonmem.csv"
    simulated["nonmem"].to_csv(path, index=False)
    other = read_patients(path, {1: "anc"}, "d", undosed=True)
    kept = [r for r in data.records if len(r.time)]
    assert len(kept) == len(other.records)
    for x, y in zip(kept, other.records, strict=True):
        for name in ("time", "evid", "amt", "addl", "ii", "rate", "ss"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name), name)
    np.testing.assert_array_equal(data.observations["value"], other.observations["value"])


def first(t, **where):
    mask = np.logical_and.reduce([t[k] == v for k, v in where.items()])
    return np.flatnonzero(mask)[0]


def put(name, column, value, **where):
    def edit(t):
        at = first(t[name], **where) if where else 0
        t[name] = t[name].astype({column: object})
        t[name].iloc[at, t[name].columns.get_loc(column)] = value

    return edit


def drop(name, column):
    return lambda t: t.update({name: t[name].drop(columns=column)})


def cells_per_litre(t):
    t["adlb"] = t["adlb"].assign(AVAL=1000.0 * t["adlb"]["AVAL"])


def twice(name):
    return lambda t: t.update({name: pd.concat([t[name], t[name].iloc[:1]])})


def no_doses(t):
    who = t["adex"]["USUBJID"].iloc[0]
    t["adex"] = t["adex"][t["adex"]["USUBJID"] != who]


def earlier_infection(t):
    te = t["adtte"]
    who = te[(te["PARAMCD"] == "TTINF3") & (te["CNSR"] == 1)].iloc[0]
    row = (
        t["adae"]
        .iloc[:1]
        .assign(
            USUBJID=who["USUBJID"],
            AEDECOD="INFECTION",
            AEBODSYS="INFECTIONS AND INFESTATIONS",
            AETOXGR=4,
            ASTDY=1,
            AENDY=3,
        )
    )
    t["adae"] = pd.concat([t["adae"], row], ignore_index=True)


CASES = {
    "stranger": (put("adlb", "USUBJID", "SIM-X"), ("adlb.csv, line 2, patient SIM-X", "no subject of adsl", "add the subject")),
    "count on day 0": (put("adlb", "ADY", 0), ("adlb.csv, line 2", "column ADY", "'0'", "study day 1")),
    "CNSR of -1": (put("adtte", "CNSR", -1), ("adtte.csv, line 2", "column CNSR", "'-1'", "0: event")),
    "unknown unit of time": (put("adtte", "AVALU", "FORTNIGHTS"), ("adtte.csv, line 2", "column AVALU", "FORTNIGHTS", "MONTHS")),
    "unknown unit of counts": (put("adlb", "PARAM", "Neutrophils (stones)"), ("line 2", "column PARAM", "stones", "10^9/L")),
    "counts in another unit": (put("adlb", "PARAM", "Neutrophils (cells/uL)"), ("line 2", "column PARAM", "cells/uL", "1e-3")),
    "counts 1000 times": (cells_per_litre, ("adlb.csv", "column AVAL", "as if in cells/uL", "1e-3")),
    "grade 6": (put("adae", "AETOXGR", 6), ("adae.csv, line 2", "column AETOXGR", "'6'", "1, 2, 3, 4, 5")),
    "grade in words": (put("adae", "AETOXGR", "severe"), ("adae.csv, line 2", "column AETOXGR", "'severe'", "not a number")),
    "event after follow-up": (
        put("adtte", "AVAL", 99.0, PARAMCD="PFS", CNSR=0), ("adtte.csv", "column AVAL", "after the end of follow-up", "correct the day"),
    ),
    "count after follow-up": (put("adlb", "ADY", 9000), ("adlb.csv, line 2", "column ADY", "after the end of follow-up")),
    "infection before its censoring": (earlier_infection, ("adtte.csv", "column CNSR", "adae has an infection", "give the event")),
    "subject twice": (twice("adsl"), ("adsl.csv", "column USUBJID", "there twice", "one row a subject")),
    "count twice": (twice("adlb"), ("adlb.csv", "column ADY", "a second neutrophil count", "keep one")),
    "time to event twice": (twice("adtte"), ("adtte.csv", "column PARAMCD", "there twice", "keep one")),
    "dosed twice": (twice("adex"), ("adex.csv", "column ASTDY", "dosed twice", "one daily dose")),
    "dose ends before it begins": (put("adex", "ASTDY", 9999), ("adex.csv, line 2", "column AENDY", "lies before ASTDY 9999")),
    "twice a day": (
        lambda t: t.update(adex=t["adex"].assign(EXDOSFRQ="BID")), ("adex.csv, line 2", "column EXDOSFRQ", "'BID'", "QD"),
    ),
    "a salt": (put("adex", "EXTRT", "Mezigdomide HCl"), ("adex.csv, line 2", "column EXTRT", "Mezigdomide HCl", "MEZIGDOMIDE")),
    "a code": (put("adex", "EXTRT", "CC-92480"), ("adex.csv, line 2", "column EXTRT", "CC-92480", "MEZIGDOMIDE")),
    "negative dose": (put("adex", "EXDOSE", -1), ("adex.csv, line 2", "column EXDOSE", "'-1'", "on hold")),
    "treated without dose": (no_doses, ("adsl.csv", "column USUBJID", "adex has no dose", "SAFFL N")),
    "unknown state of treatment": (put("adsl", "EOTSTT", "PAUSED"), ("adsl.csv, line 2", "column EOTSTT", "'PAUSED'", "ONGOING")),
    "no day": (drop("adlb", "ADY"), ("adlb.csv", "column ADY", "missing", "add it")),
    "a count in words": (
        lambda t: t.update(adlb=t["adlb"].assign(AVAL=None, AVALC="<0.1")), ("adlb.csv, line 2", "column AVAL", "'.'", "fill it in"),
    ),
    "a dose of nothing": (put("adex", "EXTRT", ""), ("adex.csv, line 2", "column EXTRT", "write MEZIGDOMIDE")),
    "CENS of 2": (lambda t: t.update(adlb=t["adlb"].assign(CENS=2)), ("adlb.csv, line 2", "column CENS", "'2'", "below the limit")),
    "censored above its limit": (
        lambda t: t.update(adlb=t["adlb"].assign(CENS=1, LLOQ=0.01)), ("adlb.csv, line 2", "column AVAL", "above LLOQ", "CENS 0"),
    ),
    "below its limit and not censored": (
        lambda t: t.update(adlb=t["adlb"].assign(LLOQ=99.0)), ("adlb.csv, line 2", "column AVAL", "below LLOQ", "CENS 1"),
    ),
    "no subjects": (lambda t: t.update(adsl=t["adsl"].iloc[:0]), ("adsl.csv", "a header but no rows", "give the subjects")),
    "no adsl": (lambda t: t.pop("adsl"), ("there is no adsl", "add it")),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "words"), CASES.values(), ids=CASES)
def test_mistake(tmp_path, simulated, edit, words):
    changed = {k: v.copy() for k, v in simulated.items()}
    edit(changed)
    with pytest.raises(InputError) as caught:
        read_patients(write(tmp_path, changed))
    lines = str(caught.value).splitlines()
    assert any(all(w in line for w in words) for line in lines), "\n".join(lines)


def test_counts_below_the_limit_of_quantification(tmp_path, simulated):
    """CENS 1: the limit is LLOQ, or AVAL where that is blank; both reach the likelihood's data."""
    lb = simulated["adlb"].assign(CENS=0, LLOQ=np.nan)
    lb.loc[[0, 1], "CENS"], lb.loc[0, ["AVAL", "LLOQ"]] = 1, [0.0, 0.2]
    data = read_patients(write(tmp_path, {**simulated, "adlb": lb}))
    o = data.observations
    assert o["censored"].sum() == 2
    assert o.loc[[0, 1], "value"].tolist() == [0.2, lb.loc[1, "AVAL"]] == o.loc[[0, 1], "lloq"].tolist()
    counts = counts_of(data)
    assert counts.below.sum() == 2 and counts.below[0, :2].tolist() == [1.0, 1.0]
    assert np.exp(counts.log_value[0, 0]) == pytest.approx(0.2)


def more_rows(table: pd.DataFrame, **columns) -> pd.DataFrame:
    """Return the table below a changed copy of its first row."""
    first = table.iloc[:1].astype(object).assign(**{k: [v] for k, v in columns.items()})
    return pd.concat([first, table.astype(object)], ignore_index=True)


def test_rows_of_other_things_are_told_and_not_checked(tmp_path, simulated):
    """Other drugs, a placebo, other parameters and events, screening: with cells that could not be read; places stay."""
    t = simulated
    expected = read_patients(write(tmp_path, t))
    other = {
        "adex": more_rows(
            more_rows(t["adex"], EXTRT="Dexamethasone", ASTDY=-1, AENDY=None, EXDOSE=40.0, EXDOSFRQ="WEEKLY"),
            EXTRT="PLACEBO FOR MEZIGDOMIDE", EXDOSE=1.0,
        ),
        "adlb": more_rows(
            more_rows(more_rows(t["adlb"], ADY=-14), PARAMCD="UPROT", AVAL="trace", ADY=None), PARAMCD="NEUT", AVAL=1.0, ADY=3, DTYPE="LOCF"
        ),
        "adae": more_rows(
            more_rows(
                more_rows(t["adae"], AEDECOD="Fatigue", AEBODSYS="General disorders", AETOXGR="", ASTDY="2023-02"),
                AEDECOD="RHINITIS", AEBODSYS="INFECTIONS AND INFESTATIONS", AETOXGR=2, ASTDY="unknown",
            ),
            AEDECOD="PNEUMONIA", AEBODSYS="INFECTIONS AND INFESTATIONS", AETOXGR=3, ASTDY=-200, AENDY=None,
        ),
        "adtte": more_rows(t["adtte"], PARAMCD="DOR", AVAL=None, AVALU="FORTNIGHTS"),
    }  # fmt: skip
    found = read_patients(write(tmp_path, t | other))
    pd.testing.assert_frame_equal(found.events, expected.events)
    pd.testing.assert_frame_equal(found.exposure, expected.exposure)
    pd.testing.assert_frame_equal(
        found.observations.assign(source_row=found.observations["source_row"] - 3), expected.observations
    )
    notes = " ".join(found.notes)
    for told in (
        "adex: 2 rows of other drugs than MEZIGDOMIDE (PLACEBO FOR MEZIGDOMIDE, DEXAMETHASONE) are not used",
        "adlb: 1 row of other parameters (UPROT) is not used", "adtte: 1 row of other parameters (DOR)",
        "adlb: 1 row before study day 1 (ADY) is not used", "adlb: 1 row derived from others (DTYPE) is not used", "adae: 1 row before study day 1 (ASTDY)",
        "rows of other events are not used",
    ):  # fmt: skip
        assert told in notes, notes


def test_baselines_before_the_first_day(tmp_path, simulated):
    """Where day 1 has no count they are of it; where it has one, they are not used, and nor are earlier ones."""
    lb = simulated["adlb"]
    firsts = lb.index[lb["ADY"].astype(int) == 1]
    moved = lb.astype(object).assign(ABLFL="")
    moved.loc[firsts, "ADY"], moved.loc[firsts, "ABLFL"] = -1, "Y"
    kept = firsts[0]
    screening = moved.loc[[firsts[1]]].assign(ADY=-9, AVAL=99.0)
    other = lb.loc[[kept]].astype(object).assign(ADY=1, ABLFL="")
    data = read_patients(write(tmp_path, simulated | {"adlb": pd.concat([screening, moved, other], ignore_index=True)}))
    expected = read_patients(write(tmp_path / "as_before", simulated))
    columns = ["id", "time", "value"]
    pd.testing.assert_frame_equal(data.observations[columns], expected.observations[columns])
    notes = " ".join(data.notes)
    assert f"the baselines (ABLFL) of {len(firsts) - 1} patients before study day 1" in notes
    assert "adlb: 2 rows before study day 1" in notes
    nothing = read_patients(write(tmp_path / "none", simulated | {"adlb": lb.astype(object).assign(AVAL=None)}))
    assert not len(nothing.observations) and f"adlb: {len(lb)} rows without a value" in " ".join(nothing.notes)


def test_infections_by_either_class(tmp_path, simulated):
    """Whichever column is filled, however it is written; by name where both are blank."""
    expected = read_patients(write(tmp_path, simulated)).events["grade"]
    ae = simulated["adae"].astype(object)
    half = np.arange(len(ae)) % 2 == 0
    mixed = ae.assign(AEBODSYS=ae["AEBODSYS"].where(half, ""), AESOC=ae["AEBODSYS"].str.replace("AND", "&").str.title())
    named = ae["AEBODSYS"].str.upper() == "INFECTIONS AND INFESTATIONS"
    blank = ae.assign(AEBODSYS="", AEDECOD=ae["AEDECOD"].where(~named, "LUNG INFECTION"))
    for i, table in enumerate((mixed, blank)):
        data = read_patients(write(tmp_path / str(i), simulated | {"adae": table}))
        pd.testing.assert_series_equal(data.events["grade"], expected)
    assert expected.notna().any() and any("pneumonia and sepsis are missed" in note for note in data.notes)


def test_nothing_of_the_drug_and_no_counts(tmp_path, simulated):
    """Names of what was found instead."""
    ex, lb = simulated["adex"].assign(EXTRT="STUDY DRUG", EXDOSFRQ="qd"), simulated["adlb"].assign(PARAMCD="NEUTR")
    data = read_patients(write(tmp_path, simulated | {"adex": ex, "adlb": lb}))
    notes = " ".join(data.notes)
    assert "(STUDY DRUG)" in notes and "(NEUTR)" in notes and not len(data.exposure) and not len(data.observations)
    daily = simulated["adex"].assign(EXDOSFRQ="qd")
    assert len(read_patients(write(tmp_path, simulated | {"adex": daily})).exposure) == len(daily)


def test_infections_without_times_to_event(tmp_path, simulated):
    data = read_patients(write(tmp_path, {k: v for k, v in simulated.items() if k != "adtte"}))
    ae = simulated["adae"]
    severe = ae[(ae["AEDECOD"] == "INFECTION") & (ae["AETOXGR"] >= 3)]
    infected = data.events[(data.events["kind"] == "infection") & (data.events["event"] == 1)]
    assert set(infected["id"]) == set(severe["USUBJID"])
    assert any("assumed" in note for note in data.notes)
    renamed = (
        simulated["adae"].assign(AEDECOD="PNEUMONIA", AESOC=simulated["adae"]["AEBODSYS"]).drop(columns="AEBODSYS")
    )
    again = read_patients(write(tmp_path, {k: v for k, v in simulated.items() if k != "adtte"} | {"adae": renamed}))
    pd.testing.assert_frame_equal(again.events, data.events)
    unnamed = read_patients(
        write(tmp_path, {k: v for k, v in simulated.items() if k != "adtte"} | {"adae": renamed.drop(columns="AESOC")})
    )
    assert any("pneumonia and sepsis are missed" in note for note in unnamed.notes)


def test_a_table_in_two_formats(tmp_path, simulated):
    write(tmp_path, simulated)
    simulated["adsl"].to_parquet(tmp_path / "ADSL.parquet", engine="pyarrow")
    with pytest.raises(InputError, match="adsl is there 2 times"):
        read_patients(tmp_path)
