"""ADaM-like tables (adsl, adex, adlb, adae, adtte; what `mezikd simulate` writes) to patient data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import CENTRAL, DEPOT, DOSE, OBSERVATION

from .adam_columns import Table, read_cells
from .adam_rows import DRUG, PARAMETERS, rows_read
from .adam_rules import STATES, check_tables, exposures, first_severe, time_unit
from .patient_covariates import covariates
from .patient_data import (
    BY_RECORD,
    EVENT_COLUMNS,
    EXPOSURE_COLUMNS,
    HOURS_PER_DAY,
    OBSERVATION_COLUMNS,
    PatientData,
    empty,
    split_records,
)
from .patient_files import read_raw
from .patient_mistakes import Mistakes
from .patient_units import DAYS, days_of
from .table_columns import ADEX, ADSL

BASELINE = ("ARM", "ARMCD", "TRT01P", "REGION", "BNEUT")
"""Of the columns that `mezikd simulate` writes into adsl, those known before treatment."""
NOT_COVARIATES = frozenset(c.name for c in ADSL) - frozenset(BASELINE)
NOT_EXPOSURES = frozenset(c.name for c in ADEX)
DATED = ("DT", "DTM", "DTC", "TM", "DY")
"""Endings of columns of dates, times and study days."""


def read_adam(
    paths: Mapping[str, Path], positive: Sequence[str] = (), drug: str = DRUG, exposure: str | None = None
) -> PatientData:
    """Return the patients of ADaM-like tables, in the order of adsl; study day 1 is t = 0.

    A count of day d is at t = d - 1 days and stands before the dose of that day. A record of adex becomes one dose row, with
    ADDL at an interval of a day, into the depot, in mg; records with dose 0 are in ``exposure`` only.

    Parameters
    ----------
    paths: files by table name (adam_files.find_tables).
    positive: covariates that must be above 0.
    drug: EXTRT whose doses are read.
    exposure: column of exposures, of adsl (a covariate like the others) or of adex: of the dose of each record; then BY_RECORD of
        the table of exposure, where it is no other column of adex. A column of both with the same values is that of adsl.

    Raises
    ------
    InputError: everything that is wrong with the tables, a line each, at most 20.
    """
    exposure = None if exposure in NOT_EXPOSURES else exposure
    mistakes, tables = Mistakes(), {}
    notes: list[str] = []
    for name, path in paths.items():
        raw = rows_read(read_raw(path), name, drug, notes)
        table = read_cells(mistakes, name, raw, (exposure,) if name == "adex" and exposure else ())
        if table is not None:
            tables[name] = table
    if len(tables) < len(paths):
        mistakes.raise_if_any()
    check_tables(mistakes, tables, drug)
    by_record = exposure is not None and exposures(mistakes, tables, drug, exposure)
    sl = tables["adsl"]
    index = np.arange(len(sl))
    named = [c for c in sl.raw.frame.columns if c not in NOT_COVARIATES and (c in BASELINE or not c.endswith(DATED))]
    table = (
        covariates(mistakes, sl.raw, named, index, sl.subject, tuple(sl.subject.tolist()), positive)
        if sl.sound.all()
        else None
    )
    mistakes.raise_if_any()
    assert table is not None
    ids = tuple(sl.subject.tolist())
    number = pd.Series(index, index=sl.subject)
    doses = _exposure(tables.get("adex"), number, exposure if by_record else None)
    counts = _counts(tables.get("adlb"), number, notes)
    observations, records = _records(ids, counts, doses)
    events = _events(tables, number, notes)
    truth = [c for c in ("NEUT0", "EXPOSURE", "MATURATN", "INTENSTY", "PRGFRLTY") if sl.has(c)]
    if truth:
        notes.append(f"adsl: {', '.join(truth)} are individual parameters of a simulation, not covariates")
    return PatientData(ids, records, observations, events, table, doses, tuple(notes))


def _exposure(ex: Table | None, number: pd.Series, column: str | None) -> pd.DataFrame:
    if ex is None or len(ex) == 0:
        return empty(EXPOSURE_COLUMNS)
    first, last, taken = (ex.column(c) for c in ("ASTDY", "AENDY", "EXDOSE"))
    out = pd.DataFrame(
        {
            "patient": number.reindex(ex.subject).to_numpy(int), "id": ex.subject, "start": first - 1.0,
            "days": (last - first + 1.0).astype(int), "planned_mg": ex.column("PLANDOSE"),
            "prescribed_mg": ex.column("LVLDOSE"), "taken_mg": taken,
        }
    )  # fmt: skip
    if column is not None:
        out[BY_RECORD] = ex.column(column)
    prescribed = out["prescribed_mg"].fillna(out["taken_mg"])
    return out.assign(held=(prescribed == 0.0).to_numpy(bool)).sort_values(
        ["patient", "start"], kind="stable", ignore_index=True
    )


def _counts(lb: Table | None, number: pd.Series, notes: list[str]) -> pd.DataFrame:
    if lb is None or len(lb) == 0:
        return empty(OBSERVATION_COLUMNS)
    if not lb.has("AVALU") and not lb.has("PARAM"):
        notes.append("adlb names no unit (AVALU, PARAM): counts are taken to be in 10^9/L (assumed)")
    below, limit, value = lb.column("CENS") == 1, lb.column("LLOQ"), lb.column("AVAL")
    limit = np.where(below & np.isnan(limit), value, limit)
    out = pd.DataFrame(
        {
            "patient": number.reindex(lb.subject).to_numpy(int), "id": lb.subject,
            "time": HOURS_PER_DAY * (lb.column("ADY") - 1.0), "observable": "anc",
            "value": np.where(below, limit, value), "censored": below, "lloq": limit, "source_row": lb.raw.places,
        }
    )  # fmt: skip
    return out.sort_values(["patient", "time"], kind="stable", ignore_index=True)


def _records(ids: tuple[str, ...], counts: pd.DataFrame, exposure: pd.DataFrame) -> tuple[pd.DataFrame, list]:
    given = exposure.loc[exposure["taken_mg"] > 0.0]
    further = given["days"].to_numpy(int) - 1
    doses = pd.DataFrame(
        {
            "patient": given["patient"].to_numpy(int), "time": HOURS_PER_DAY * given["start"].to_numpy(float), "evid": DOSE, "cmt": DEPOT,
            "amt": given["taken_mg"].to_numpy(float), "ii": np.where(further > 0, HOURS_PER_DAY, 0.0), "addl": further,
        }
    )  # fmt: skip
    seen = pd.DataFrame(
        {
            "patient": counts["patient"].to_numpy(int), "time": counts["time"].to_numpy(float), "evid": OBSERVATION, "cmt": CENTRAL,
            "amt": 0.0, "ii": 0.0, "addl": 0,
        }
    )  # fmt: skip
    both = pd.concat([seen, doses], ignore_index=True).sort_values(["patient", "time", "evid"], kind="stable")
    columns = {c: both[c].to_numpy() for c in ("time", "evid", "cmt", "amt", "ii", "addl")}
    zero = np.zeros(len(both))
    records = split_records(both["patient"].to_numpy(), len(ids), **columns, rate=zero, ss=zero.astype(int))
    return counts, records


def _events(tables: dict[str, Table], number: pd.Series, notes: list[str]) -> pd.DataFrame:
    parts = [_times(tables["adtte"], tables.get("adae"), number, notes)] if "adtte" in tables else []
    kinds = {k for p in parts for k in p["kind"].unique()}
    if "infection" not in kinds and "adae" in tables:
        parts.append(_infections(tables, number, notes))
    parts.append(_treatment_end(tables["adsl"], number, notes))
    parts = [p for p in parts if len(p)]
    if not parts:
        return empty(EVENT_COLUMNS)
    out = pd.concat(parts, ignore_index=True).astype({"grade": "Int64"})
    return out.loc[:, list(EVENT_COLUMNS)]


def _times(te: Table, ae: Table | None, number: pd.Series, notes: list[str]) -> pd.DataFrame:
    code, unit = te.words("PARAMCD"), time_unit(te)[1]
    if np.isin(unit, ["MONTH", "MONTHS"]).any():
        notes.append(f"adtte: a month is {DAYS['MONTH']} days")
    event = te.column("CNSR") == 0
    time = te.column("AVAL") * np.array([days_of(u) for u in unit], dtype=float)
    kind = np.array([PARAMETERS[c] for c in code], dtype=object)
    grade = np.full(len(kind), np.nan)
    if ae is not None:
        first = first_severe(ae)["grade"]
        grade = np.where((kind == "infection") & event, first.reindex(te.subject).to_numpy(float), np.nan)
    reason = np.where(event, te.words("EVNTDESC"), te.words("CNSDTDSC"))
    return _event_table(te.subject, number, kind, time, event, grade, reason)


def _infections(tables: dict[str, Table], number: pd.Series, notes: list[str]) -> pd.DataFrame:
    """Return the first severe infection of each subject from adae, censored at the end of treatment + 28 days or follow-up.

    Subjects for whom neither is known are left out, with an infection or without.
    """
    ae, sl = tables["adae"], tables["adsl"]
    end = np.fmin(sl.column("LSTFUDY"), sl.column("TRTEDY") + 28.0)
    first = first_severe(ae).reindex(sl.subject)
    known, found = np.isfinite(end), first["day"].to_numpy(float)
    event, later = found <= end, int((found > end).sum())
    day = np.where(event, found, end)
    notes.append(
        "infections come from adae (no TTINF3 in adtte), to whole days, censored at the end of treatment + 28 days or of "
        f"follow-up, whichever is first (assumed); subjects without either are left out ({int((~known).sum())})"
        f"{f'; so are first infections after that end ({later})' if later else ''}"
    )
    word = np.where(event, "INFECTION", "END OF SAFETY FOLLOW-UP")
    kind = np.full(int(known.sum()), "infection", dtype=object)
    return _event_table(
        sl.subject[known],
        number,
        kind,
        day[known] - 1.0,
        event[known],
        np.where(event, first["grade"].to_numpy(float), np.nan)[known],
        word[known],
    )


def _treatment_end(sl: Table, number: pd.Series, notes: list[str]) -> pd.DataFrame:
    state = sl.words("EOTSTT")
    months, day = sl.column("TRTDURM") * DAYS["MONTH"], sl.column("TRTEDY") - 1.0
    time = np.where(np.isfinite(months), months, day)
    known = (state != "") & np.isfinite(time)
    if (known & ~np.isfinite(months)).any():
        notes.append("the end of treatment is known to whole days (TRTEDY)")
    if not known.all() and sl.has("EOTSTT"):
        notes.append(
            f"subjects without a state of treatment (EOTSTT) or its day have no end of treatment ({int((~known).sum())})"
        )
    event = np.array([STATES[s] == 1 for s in state[known]], dtype=bool)
    reason = np.where(event, sl.words("DCTREAS")[known], state[known])
    kind = np.full(int(known.sum()), "end of treatment", dtype=object)
    return _event_table(sl.subject[known], number, kind, time[known], event, np.full(len(kind), np.nan), reason)


def _event_table(subject, number: pd.Series, kind, time, event, grade, reason) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient": number.reindex(subject).to_numpy(int), "id": subject, "kind": kind, "time": np.asarray(time, float),
            "event": np.asarray(event).astype(int), "grade": pd.array(np.asarray(grade, float), dtype="Int64"),
            "reason": np.asarray(reason, dtype=object),
        }
    )  # fmt: skip
