"""What ADaM-like tables must agree on, within each and between them; every rule over whole columns."""

import numpy as np
import pandas as pd

from .adam_columns import Table
from .adam_rows import SEVERE, misnamed, of_drug
from .errors import shown
from .nonmem_rules import CELLS_REMEDY
from .patient_mistakes import Mistakes
from .patient_units import DAYS, LARGEST_COUNT, count_unit, days_of, in_brackets

DAILY = ("", "QD", "DAILY", "Q24H", "ONCE DAILY", "ONCE A DAY", "EVERY DAY")
"""EXDOSFRQ of daily doses."""
STATES = {"DISCONTINUED": 1, "COMPLETED": 1, "ONGOING": 0}


def first_severe(ae: Table) -> pd.DataFrame:
    """Return day and grade of the first infection of grade 3 or more, by subject who has one; ``ae`` holds infections alone."""
    severe = (ae.column("AETOXGR") >= SEVERE) & ae.sound
    first = pd.DataFrame({"subject": ae.subject, "day": ae.column("ASTDY"), "grade": ae.column("AETOXGR")}).loc[severe]
    return (
        first.sort_values(by=["subject", "day", "grade"], kind="stable").drop_duplicates("subject").set_index("subject")
    )


def time_unit(te: Table) -> tuple[str, np.ndarray]:
    """Return the column that names the unit of AVAL in adtte and the unit: AVALU, or PARAM in brackets."""
    if te.has("AVALU"):
        return "AVALU", te.words("AVALU")
    words = te.words("PARAM")
    return "PARAM", np.array([in_brackets(w) for w in words], dtype=object)


def subjects(mistakes: Mistakes, tables: dict[str, Table]) -> None:
    """Every subject is once in adsl, and everyone in another table is there."""
    sl = tables["adsl"]
    if len(sl) == 0:
        mistakes.one(sl.raw, "a header but no rows", "give the subjects")
        return
    twice = pd.Series(sl.subject).duplicated().to_numpy() & sl.sound
    mistakes.add(sl.raw, twice, "USUBJID", "value {value} is there twice", "keep one row a subject", patient=sl.subject)
    state = sl.words("EOTSTT")
    mistakes.add(sl.raw, (state != "") & ~np.isin(state, list(STATES)), "EOTSTT", "value {value} is not known", "use one of these words",
                 patient=sl.subject, allowed=", ".join(STATES))  # fmt: skip
    known = set(sl.subject.tolist())
    for t in tables.values():
        stranger = t.sound & ~pd.Series(t.subject).isin(known).to_numpy()
        mistakes.add(
            t.raw,
            stranger,
            "USUBJID",
            "value {value} is no subject of adsl",
            "add the subject to adsl, or correct the ID",
            patient=t.subject,
        )


def doses(mistakes: Mistakes, tables: dict[str, Table], drug: str) -> None:
    """Records of doses end after they begin and do not overlap; who was treated in an arm with the drug has one."""
    sl, ex = tables["adsl"], tables.get("adex")
    if ex is None:
        return
    mine = of_drug(ex.raw, drug) & ex.sound
    first, last = ex.column("ASTDY"), ex.column("AENDY")
    mistakes.add(ex.raw, mine & (last < first), "AENDY", lambda i: f"value {last[i]:g} lies before ASTDY {first[i]:g}", "correct one of the two",
                 patient=ex.subject, allowed="at least ASTDY")  # fmt: skip
    unit = ex.words("EXDOSU")
    mistakes.add(
        ex.raw,
        mine & ~np.isin(unit, ["", "MG", "MG/DAY"]),
        "EXDOSU",
        "value {value} is not known",
        "give daily doses in mg",
        patient=ex.subject,
        allowed="mg",
    )
    how_often = ex.words("EXDOSFRQ")
    single = (how_often == "ONCE") & (first == last)
    mistakes.add(
        ex.raw,
        mine & ~np.isin(how_often, DAILY) & ~single,
        "EXDOSFRQ",
        "value {value} is no daily dose",
        "give the dose of a day as EXDOSE with QD, or a row for each day of dosing",
        patient=ex.subject,
        allowed="QD, or ONCE on one day",
    )
    mistakes.add(ex.raw, misnamed(ex.raw, drug), "EXTRT", "value {value} is not read as a dose of the drug",
                 f"write {drug}, with EXDOSE in mg of it", patient=ex.subject, allowed=drug)  # fmt: skip
    part = pd.DataFrame({"s": ex.subject, "first": first, "last": last, "row": np.arange(len(ex))}).loc[mine]
    part = part.sort_values(by=["s", "first"], kind="stable")
    before = part.groupby("s", sort=False)["last"].cummax().groupby(part["s"], sort=False).shift()
    overlap = part.loc[part["first"] <= before]
    mistakes.add(ex.raw, np.sort(overlap["row"].to_numpy()), "ASTDY", "value {value} lies within another record of doses: dosed twice on a day",
                 "give one daily dose for each day", patient=ex.subject, allowed="after AENDY of the record before")  # fmt: skip
    arm = next((c for c in ("ARMCD", "ARM", "TRT01P", "TRT01A") if sl.has(c)), None)
    group = sl.words(arm) if arm else np.full(len(sl), "", dtype=object)
    dosed = np.isin(sl.subject, ex.subject[mine])
    treated = sl.words("SAFFL") != "N"
    without = treated & ~dosed & ~np.isin(sl.subject, ex.subject[~ex.sound]) & np.isin(group, group[dosed])
    mistakes.add(sl.raw, without & sl.sound, "USUBJID", "value {value} is treated, and adex has no dose of the drug",
                 "add the doses to adex, or give SAFFL N", patient=sl.subject)  # fmt: skip


def exposures(mistakes: Mistakes, tables: dict[str, Table], drug: str, column: str) -> bool:
    """Return whether exposures are by record of doses (adex) and not by patient (adsl); a record with a dose has one above 0.

    Both may have the column where adex repeats the patient's value in each record, as core variables are: by patient.
    """
    sl, ex = tables["adsl"], tables.get("adex")
    if ex is None or not ex.has(column):
        return False
    dosed = of_drug(ex.raw, drug) & ex.sound & (ex.column("EXDOSE") > 0.0)
    if sl.has(column):
        values = [pd.to_numeric(x, errors="coerce") for x in sl.raw.frame[column]]
        of_patient = pd.Series(np.array(values, float), sl.subject)
        repeated = of_patient.groupby(level=0).first().reindex(ex.subject).to_numpy()
        if np.allclose(repeated[dosed], ex.column(column)[dosed], rtol=1e-6, atol=0.0, equal_nan=True):
            return False
        mistakes.one(ex.raw, "has the column of exposures, and so has adsl, with other values: which one counts is not clear",
                     "delete or rename one: that of adsl is one exposure a patient, that of adex is of the dose of each record", column=column)  # fmt: skip
    mistakes.add(ex.raw, dosed & ~(ex.column(column) > 0.0), column, lambda i: f"value {shown(ex.raw.cell(i, column))} of a dose of {ex.column('EXDOSE')[i]:g} mg",
                 "complete it, or leave the patient out: an exposure that is given is not estimated for anybody", patient=ex.subject,
                 allowed="above 0 for every record with a dose")  # fmt: skip
    return True


def counts(mistakes: Mistakes, tables: dict[str, Table]) -> None:
    """Neutrophil counts are in 10^9/L, above 0, one a subject and day; below the limit of quantification only with CENS 1."""
    lb = tables.get("adlb")
    if lb is None:
        return
    mine = lb.sound
    value, day = lb.column("AVAL"), lb.column("ADY")
    below, limit = lb.column("CENS") == 1, lb.column("LLOQ")
    mistakes.add(lb.raw, mine & below & (value > limit), "AVAL", "value {value} lies above LLOQ, but CENS is 1", "give CENS 0, or correct LLOQ",
                 patient=lb.subject, allowed="at most LLOQ with CENS 1")  # fmt: skip
    mistakes.add(lb.raw, mine & ~below & (value > 0) & (value < limit), "AVAL", "value {value} lies below LLOQ, but CENS is not 1", "give CENS 1, or correct LLOQ",
                 patient=lb.subject, allowed="at least LLOQ with CENS 0")  # fmt: skip
    mistakes.add(
        lb.raw,
        mine & (value <= 0) & ~(below & (limit > 0)),
        "AVAL",
        "value {value} of a neutrophil count",
        "correct it; one below the limit of quantification is CENS 1 with LLOQ",
        patient=lb.subject,
        allowed="above 0",
    )
    column = "AVALU" if lb.has("AVALU") else "PARAM"
    words = lb.words(column)
    kinds = {w: count_unit(w if column == "AVALU" else in_brackets(w)) for w in map(str, pd.unique(words[mine]))}
    kind = np.array([kinds.get(w, "") for w in words], dtype=object)
    if lb.has(column):
        mistakes.add(
            lb.raw,
            mine & (kind == "cells"),
            column,
            "value {value}",
            CELLS_REMEDY,
            patient=lb.subject,
            allowed="10^9/L",
        )
        mistakes.add(lb.raw, mine & (kind == "unknown"), column, "value {value} names no known unit of counts",
                     "give counts in 10^9/L, and say so in AVALU or in brackets in PARAM", patient=lb.subject, allowed="10^9/L")  # fmt: skip
    large = mine & (value > LARGEST_COUNT) & (kind != "cells")
    if large.any() and np.median(value[mine]) > LARGEST_COUNT:
        mistakes.one(lb.raw, f"the neutrophil counts have the median {np.median(value[mine]):g}, as if in cells/uL", CELLS_REMEDY, column="AVAL",
                     allowed=f"10^9/L, at most {LARGEST_COUNT:g}")  # fmt: skip
    else:
        mistakes.add(lb.raw, large, "AVAL", "value {value}: two units in one column?", CELLS_REMEDY, patient=lb.subject,
                     allowed=f"10^9/L, at most {LARGEST_COUNT:g}")  # fmt: skip
    part = pd.DataFrame({"s": lb.subject, "d": day})
    mistakes.add(lb.raw, np.flatnonzero(mine)[part.loc[mine].duplicated().to_numpy()], "ADY", "value {value}: a second neutrophil count on this day",
                 "keep one, or correct its day", patient=lb.subject, allowed="one count a subject and day")  # fmt: skip


def times(mistakes: Mistakes, tables: dict[str, Table]) -> None:
    """Units of time are known; a parameter is once a subject."""
    te = tables.get("adtte")
    if te is None:
        return
    code = te.words("PARAMCD")
    mine = te.sound
    column, unit = time_unit(te)
    known = np.array([days_of(u) is not None for u in unit], dtype=bool)
    mistakes.add(te.raw, mine & ~known, column, "value {value} names no known unit of time",
                 "say in AVALU (or in brackets in PARAM) what AVAL is in", patient=te.subject, allowed=", ".join(f"{u}S" for u in DAYS))  # fmt: skip
    part = pd.DataFrame({"s": te.subject, "c": code})
    mistakes.add(te.raw, np.flatnonzero(mine)[part.loc[mine].duplicated().to_numpy()], "PARAMCD", "value {value} is there twice for the subject", "keep one",
                 patient=te.subject, allowed="one row a subject and parameter")  # fmt: skip


def follow_up(tables: dict[str, Table]) -> pd.Series:
    """Return the last study day of follow-up by subject: death or censoring of survival in adtte, else LSTFUDY of adsl."""
    sl, te = tables["adsl"], tables.get("adtte")
    day = pd.Series(sl.column("LSTFUDY"), index=sl.subject)
    day = day.loc[~day.index.duplicated()]
    if te is not None:
        _, unit = time_unit(te)
        factor = np.array([days_of(u) or np.nan for u in unit], dtype=float)
        mine = (te.words("PARAMCD") == "OS") & te.sound
        survival = pd.Series(np.floor(te.column("AVAL") * factor + 1e-9)[mine] + 1.0, index=te.subject[mine])
        survival = survival.loc[~survival.index.duplicated()]
        day = survival.reindex(day.index).combine_first(day)
    return day


def after_the_end(mistakes: Mistakes, tables: dict[str, Table]) -> None:
    """Nothing happens after follow-up has ended: no event, no count, no dose."""
    end = follow_up(tables)

    def add(t: Table, day: np.ndarray, rows: np.ndarray | bool, column: str, what: str) -> None:
        last = end.reindex(t.subject).to_numpy(float)
        mistakes.add(t.raw, rows & t.sound & (day > last), column, lambda i: f"value {t.raw.cell(i, column)}: {what} after the end of follow-up on day {last[i]:g}",
                     "correct the day, or the end of follow-up (OS in adtte, else LSTFUDY in adsl)", patient=t.subject, allowed="up to that day")  # fmt: skip

    if (lb := tables.get("adlb")) is not None:
        add(lb, lb.column("ADY"), True, "ADY", "a count")
    if (ex := tables.get("adex")) is not None:
        add(ex, ex.column("ASTDY"), ex.column("EXDOSE") > 0, "ASTDY", "a dose")
    if (ae := tables.get("adae")) is not None:
        add(ae, ae.column("ASTDY"), True, "ASTDY", "an event")
    if (te := tables.get("adtte")) is not None:
        _, unit = time_unit(te)
        factor = np.array([days_of(u) or np.nan for u in unit], dtype=float)
        day = np.floor(te.column("AVAL") * factor + 1e-9) + 1.0
        add(te, day, te.column("CNSR") == 0, "AVAL", "an event")
        _infection_while_censored(mistakes, te, tables.get("adae"), day)


def _infection_while_censored(mistakes: Mistakes, te: Table, ae: Table | None, day: np.ndarray) -> None:
    """A subject without an event in TTINF3 has no earlier infection of grade 3 or more in adae."""
    if ae is None:
        return
    seen = first_severe(ae)["day"].reindex(te.subject).to_numpy(float)
    wrong = te.sound & (te.words("PARAMCD") == "TTINF3") & (te.column("CNSR") > 0) & (seen < day)
    mistakes.add(te.raw, wrong, "CNSR", lambda i: f"value {te.raw.cell(i, 'CNSR')}: censored on day {day[i]:g}, but adae has an infection of grade 3 or more on day {seen[i]:g}",
                 "give the event (CNSR 0), or correct adae", patient=te.subject, allowed="0")  # fmt: skip


def check_tables(mistakes: Mistakes, tables: dict[str, Table], drug: str) -> None:
    """Add everything that is wrong within and between the tables."""
    subjects(mistakes, tables)
    doses(mistakes, tables, drug)
    counts(mistakes, tables)
    times(mistakes, tables)
    after_the_end(mistakes, tables)
