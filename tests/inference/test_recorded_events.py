"""Recorded times that do not agree to the hour: ends of treatment before their progression, deaths, infections of adae."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mezikd.inference.adam_tables import read_adam
from mezikd.inference.arrest_problem import build
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.patient_data import PatientData
from mezikd.inference.recorded_events import as_if_given, died_free, ends_of_treatment, event, event_notes
from simulated_tables import NAMES, simulated_trial, write_tables

FIT = ArrestFit.model_validate(
    tomllib.loads(
        '[study]\nname = "x"\ntitle = "x"\ncitation = "x"\n[tables]\nfile = "."\n[model]\nstructure = "arrest"\n'
        "[parameters]\nec50 = {}\nexposure_sd = {}\n"
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    write_tables(place, simulated_trial(60))
    return place


def read(folder: Path, **changed: pd.DataFrame) -> PatientData:
    """Read the tables of ``folder``, some of them changed."""
    place = folder / "changed"
    place.mkdir(exist_ok=True)
    for name in NAMES:
        table = changed.get(name)
        table = pd.read_csv(folder / f"{name}.csv", dtype=str) if table is None else table
        table.to_csv(place / f"{name}.csv", index=False)
    return read_adam({name: place / f"{name}.csv" for name in NAMES})


def built(tables: PatientData):
    return build(Path("nowhere"), FIT, tables)[1]


def earlier(tables: PatientData, days: float, reason: str) -> tuple[PatientData, np.ndarray]:
    """Return the tables with treatment that ended at progression ended ``days`` before, and whose it was."""
    (stop, ended), (progression, progressed) = event(tables, "end of treatment"), event(tables, "progression")
    who = (ended > 0) & (progressed > 0) & (np.abs(stop - progression) < 1e-3) & (progression > 60.0)
    events = tables.events.copy()
    mine = (events["kind"] == "end of treatment") & np.isin(events["patient"], np.flatnonzero(who))
    events.loc[mine, "time"] -= days
    events.loc[mine, "reason"] = reason
    return replace(tables, events=events), who


def test_simulated_tables_are_read_as_they_are(folder):
    """No end of treatment is moved; every death is before, after or of an infection."""
    tables = read(folder)
    ends, alone = ends_of_treatment(tables), died_free(tables)
    died, progressed = event(tables, "death")[1], event(tables, "progression")[1]
    np.testing.assert_array_equal(ends.stop, ends.last)
    assert not ends.unexplained.any() and event_notes(tables) == []
    deaths = built(tables).deaths
    assert (deaths.before + deaths.fatal + deaths.after + alone.unknown).sum() == died.sum() > 0
    np.testing.assert_array_equal(deaths.after, died * progressed)


def test_treatment_ends_with_the_progression_that_ended_it(folder):
    """A week from the last dose to the visit is no time off treatment where DCTREAS says why; else the summary warns."""
    tables = read(folder)
    told, who = earlier(tables, 7.0, "DISEASE PROGRESSION")
    assert who.sum() >= 5
    np.testing.assert_allclose(built(told).ledger.stop, built(tables).ledger.stop, atol=1e-3)
    assert f"seen later (assumed): {who.sum()} x" in " ".join(event_notes(told))
    untold, _ = earlier(tables, 7.0, "")
    np.testing.assert_allclose((built(tables).ledger.stop - built(untold).ledger.stop)[who], 7.0, atol=1e-3)
    assert f"up to 28 days before a progression, without a reason (DCTREAS), {who.sum()} x" in " ".join(
        event_notes(untold)
    )
    other, _ = earlier(tables, 7.0, "ADVERSE EVENT")
    assert (ends_of_treatment(other).stop == ends_of_treatment(other).last).all() and event_notes(other) == []


def test_doses_go_on_to_the_progression(folder):
    """As 28 days before, from the last dose on; nothing else is touched."""
    tables, who = earlier(read(folder), 9.0, "PROGRESSIVE DISEASE")
    ends = ends_of_treatment(tables)
    one = np.flatnonzero(who)[0]
    dose = np.zeros((int(ends.stop[one]) + 60, len(tables.ids)))
    day = np.arange(len(dose))
    dose[(day % 28 < 21) & (day < ends.last[one]), one] = 1.0
    expected = dose.copy()
    expected[(day % 28 < 21) & (day >= ends.last[one]) & (day < ends.stop[one]), one] = 1.0
    np.testing.assert_array_equal(as_if_given(dose, ends), expected)


def with_times(folder: Path, code: str, change) -> pd.DataFrame:
    """Return adtte with ``change`` of the rows of one parameter."""
    te = pd.read_csv(folder / "adtte.csv", dtype=str)
    mine = te["PARAMCD"] == code
    te.loc[mine] = change(te.loc[mine].copy())
    return te


def test_deaths_count_where_time_to_progression_ended_earlier(folder):
    """PFS tells that no progression came before; the time until the death counts. Without PFS it is said that they are lost."""
    tables = read(folder)
    before = died_free(tables).before
    subjects = np.array(tables.ids)[before]
    assert len(subjects) >= 3

    def censored(rows):
        mine = rows["USUBJID"].isin(subjects)
        rows.loc[mine, "AVAL"] = (rows.loc[mine, "AVAL"].astype(float) * 0.9).astype(str)
        return rows

    te = with_times(folder, "TTP", censored)
    found = built(read(folder, adtte=te)).deaths
    expected = built(tables).deaths
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    without = read(folder, adtte=te[te["PARAMCD"] != "PFS"])
    lost = died_free(without).unknown.sum() - died_free(tables).unknown.sum()
    assert lost > 0 and f"enters no likelihood, {died_free(without).unknown.sum()} x" in " ".join(event_notes(without))


def test_fatal_infections_are_of_grade_5(folder):
    """Whatever days lie between infection and death."""
    tables = read(folder)
    who = np.flatnonzero(died_free(tables).before)[:1]
    day = event(tables, "death")[0][who]
    mine = (tables.events["kind"] == "infection") & np.isin(tables.events["patient"], who)
    for grade, fatal in ((5, 1.0), (4, 0.0)):
        events = tables.events.copy()
        events.loc[mine, "time"], events.loc[mine, "event"], events.loc[mine, "grade"] = day - 6.0, 1, grade
        found = died_free(replace(tables, events=events))
        assert found.fatal[who] == fatal and found.before[who]


def test_infections_of_adae_after_the_end_of_their_follow_up(folder):
    """A subject with a first infection later is censored then, as those without one are."""
    sl, ae = (pd.read_csv(folder / f"{n}.csv", dtype=str) for n in ("adsl", "adae"))
    te = pd.read_csv(folder / "adtte.csv", dtype=str)
    te = te[te["PARAMCD"] != "TTINF3"]
    tables = read(folder, adtte=te)
    time, seen = event(tables, "infection")
    end, last = (sl.set_index("USUBJID")[c].astype(float).reindex(tables.ids).to_numpy() for c in ("TRTEDY", "LSTFUDY"))
    one = np.flatnonzero((seen > 0) & (end + 33.0 < last))[0]
    subject, end = tables.ids[one], end[one] + 28.0
    ae = ae[(ae["USUBJID"] != subject) | (ae["ASTDY"].astype(float) == time[one] + 1.0)].copy()
    ae.loc[ae["USUBJID"] == subject, ["ASTDY", "AENDY"]] = str(int(end) + 5)
    late = read(folder, adtte=te, adae=ae)
    again, still = event(late, "infection")
    assert still[one] == 0.0 and again[one] == end - 1.0
    others = np.arange(len(time)) != one
    np.testing.assert_array_equal(again[others], time[others])
    assert any("so are first infections after that end (1)" in note for note in late.notes)
