"""A NONMEM-style table (ID TIME AMT RATE II ADDL SS EVID CMT DV MDV DVID CENS, covariates as columns) to patient data."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import DEPOT, DOSE, OBSERVATION, OTHER

from .errors import nearest_first
from .nonmem_columns import KNOWN, NUMBERS, REFUSED, REQUIRED, SCHEMA, UNITS, check_cells
from .nonmem_exposures import carried, check_column
from .nonmem_rules import Options, Rows, check_rows
from .patient_covariates import covariates
from .patient_data import EVENT_COLUMNS, EXPOSURE_COLUMNS, HOURS_PER_DAY, PatientData, empty, split_records
from .patient_files import RawTable, numbers, read_raw, texts
from .patient_mistakes import Mistakes
from .tables import NUMBER_REMEDY

HOURS = {"h": 1.0, "d": HOURS_PER_DAY}
"""Hours of a unit of TIME."""
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
DATE = re.compile(r"\d{1,4}[-/]\w{1,3}[-/]\d{1,4}")


def read_nonmem(
    path: Path,
    dvid: Mapping[int, str] | None = None,
    time_unit: str = "h",
    undosed: bool = False,
    positive: Sequence[str] = (),
    exposure: str | None = None,
) -> PatientData:
    """Return the patients of a NONMEM-style table; `.` and blank are missing, row order decides at equal TIME.

    EVID missing: 1 where AMT is above 0, else 0. MDV missing: 1 on rows that are no observation or have neither DV nor CENS 1.
    CMT missing on a dose: 1. LLOQ missing with CENS 1: DV is the limit. Columns in any case.

    Parameters
    ----------
    dvid: observable (concentration, anc) by DVID, or by CMT where there is no DVID; not needed with a single kind of value
        only if it names that one.
    time_unit: of TIME, II and RATE: h or d.
    undosed: patients without a dose are controls, not a mistake.
    exposure: column of exposures, which change in time (nonmem_exposures.carried); then patients need no dose.
    positive: covariates that must be above 0, besides those with a usual name of a size (patient_covariates.POSITIVE).

    Raises
    ------
    InputError: everything that is wrong with the file, a line each, at most 20.
    """
    raw, mistakes = read_raw(path), Mistakes()
    _check_header(mistakes, raw)
    if exposure is not None:
        check_column(mistakes, raw, exposure)
    mistakes.raise_if_any()
    ids, t, sound = _cells(mistakes, raw)
    if dvid is None:
        column = "DVID" if "DVID" in t else "CMT"
        codes = t[column].to_numpy(float) if column in t else np.empty(0)
        seen = ", ".join(f"{c:g}" for c in np.unique(codes[np.isfinite(codes)])[:8])
        mistakes.one(raw, f"what is observed is not said (codes {seen or 'none'})",
                     "name them, such as --dvid 1=concentration,2=anc", column=column, allowed="concentration, anc")  # fmt: skip
    rows = _rows(raw, ids, t, sound, dvid or {})
    if dvid is not None:
        unit = next((u for u in UNITS if u in raw.frame), None)
        check_rows(
            mistakes,
            rows,
            Options(dvid, undosed or exposure is not None),
            None if unit is None else (unit, texts(raw, unit)),
        )
    level = None if exposure is None else carried(mistakes, rows, exposure)
    extra = [c for c in raw.frame.columns if c not in KNOWN and c not in UNITS and c != exposure]
    names = tuple(dict.fromkeys(ids[rows.patient >= 0].tolist()))
    table = covariates(mistakes, raw, extra, rows.patient, ids, names, positive)
    mistakes.raise_if_any()
    return _data(raw, rows, t, names, table, time_unit, level)


def _check_header(mistakes: Mistakes, raw: RawTable) -> None:
    columns = list(raw.frame.columns)
    wanted = [*REQUIRED, *([] if {"AMT", "EVID"} & set(columns) else ["AMT"])]
    for name in wanted:
        if name not in columns:
            others = [c for c in columns if c not in KNOWN]
            near = nearest_first(name, others)[:1]
            remedy = "add it" + (f", or is it {raw.header[near[0]]}?" if near else "")
            mistakes.one(raw, "the column is missing", remedy, column=name, allowed=" ".join(KNOWN))
    for name in columns:
        if name in REFUSED:
            why, remedy = REFUSED[name]
            mistakes.one(raw, why, remedy, column=raw.header[name])
    if len(raw) == 0:
        mistakes.one(raw, "a header but no rows", "give it rows")


def _cells(mistakes: Mistakes, raw: RawTable) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Return ids, numbers of the known columns, and which rows hold no unreadable or refused cell."""
    ids = texts(raw, "ID")
    sound = ids != ""
    mistakes.add(raw, ~sound, "ID", "value {value}: whose row is it?", "give the patient's ID", allowed="any text")
    columns = {}
    for name in (n for n in NUMBERS if n in raw.frame):
        values, bad = numbers(raw, name)
        sound &= ~bad
        columns[name] = values
        odd = np.flatnonzero(bad)
        clock = np.array([CLOCK.fullmatch(str(raw.cell(i, name))) is not None for i in odd.tolist()], dtype=bool)
        date = np.array([DATE.match(str(raw.cell(i, name))) is not None for i in odd.tolist()], dtype=bool)
        if name == "TIME":
            mistakes.add(raw, odd[clock], name, "value {value}: clock time is not read", "give hours or days since the patient's start",
                         patient=ids, allowed="a number")  # fmt: skip
            mistakes.add(raw, odd[date], name, "value {value}: dates are not read", "give hours or days since the patient's start",
                         patient=ids, allowed="a number")  # fmt: skip
            odd = odd[~clock & ~date]
        mistakes.add(raw, odd, name, "value {value} is not a number", f"{NUMBER_REMEDY}; . or blank where it is missing",
                     patient=ids, allowed="a number, . or blank")  # fmt: skip
        if name == "TIME":
            blank = np.isnan(values) & ~bad
            sound &= ~blank
            mistakes.add(
                raw,
                blank,
                name,
                "value {value}: a record without time",
                "give its time",
                patient=ids,
                allowed="a number",
            )
    t = pd.DataFrame(columns)
    sound &= ~check_cells(mistakes, raw, SCHEMA, t, ids)
    return ids, t, sound


def _rows(raw: RawTable, ids: np.ndarray, t: pd.DataFrame, sound: np.ndarray, dvid: Mapping[int, str]) -> Rows:
    n = len(t)

    def column(name: str, missing: float) -> np.ndarray:
        x = t[name].to_numpy(float) if name in t else np.full(n, np.nan)
        return np.where(np.isnan(x), missing, x)

    amt, dv, cens = column("AMT", 0.0), column("DV", np.nan), column("CENS", 0.0)
    evid = column("EVID", np.nan)
    evid = np.where(np.isnan(evid), np.where(amt > 0, DOSE, OBSERVATION), evid).astype(int)
    mdv = column("MDV", np.nan)
    valued = (evid == OBSERVATION) & (np.isfinite(dv) | (cens == 1))
    # A cell that could not be read is not a missing one.
    mdv = np.where(np.isnan(mdv), np.where(valued | ((evid == OBSERVATION) & ~sound), 0.0, 1.0), mdv)
    dose = (evid == 1) | (evid == 4)
    cmt = column("CMT", np.nan)
    cmt = np.where(np.isnan(cmt), np.where(dose, DEPOT, 0), cmt).astype(int)
    code_column = "DVID" if "DVID" in t else "CMT"
    only = next(iter(dvid)) if len(dvid) == 1 and not {"DVID", "CMT"} & set(t) else np.nan
    code = column(code_column, only) if code_column in t else np.full(n, only)
    observed = (evid == OBSERVATION) & (mdv == 0)
    observable = np.full(n, "", dtype=object)
    for key, name in dvid.items():
        observable[observed & (code == key)] = name
    codes, _ = pd.factorize(pd.Series(ids, dtype=object).replace("", None))
    return Rows(
        raw, ids, codes, observable, code, code_column, column("TIME", np.nan), amt, column("RATE", 0.0), column("II", 0.0),
        column("ADDL", 0.0), column("SS", 0.0), evid, cmt, dv, mdv, cens, column("LLOQ", np.nan), sound,
    )  # fmt: skip


def _data(
    raw: RawTable,
    r: Rows,
    t: pd.DataFrame,
    names: tuple[str, ...],
    table: pd.DataFrame,
    time_unit: str,
    level: np.ndarray | None,
) -> PatientData:
    hours = HOURS[time_unit]
    given = {} if level is None else {"level": level}
    unvalued = (r.evid == OBSERVATION) & ~r.observed
    records = split_records(
        r.patient, len(names), time=r.time * hours, evid=np.where(unvalued, OTHER, r.evid), cmt=r.cmt, amt=r.amt,
        rate=r.rate / hours, ii=r.ii * hours, addl=r.addl.astype(int), ss=r.ss.astype(int), **given,
    )  # fmt: skip
    o = r.observed
    censored = r.cens[o] == 1
    lloq = np.where(censored & np.isnan(r.lloq[o]), r.dv[o], r.lloq[o])
    observations = pd.DataFrame(
        {
            "patient": r.patient[o], "id": r.id[o], "time": r.time[o] * hours, "observable": r.observable[o],
            "value": np.where(censored, lloq, r.dv[o]), "censored": censored, "lloq": lloq, "source_row": raw.places[o],
        }
    )  # fmt: skip
    notes = [f"TIME, II and RATE are per {'hour' if time_unit == 'h' else 'day'} (--time-unit)"]
    if "EVID" not in t or bool(np.isnan(t["EVID"].to_numpy(float)).any()):
        notes.append("EVID is missing in some rows: a dose where AMT is above 0, else an observation")
    if unvalued.any():
        notes.append(
            f"{int(unvalued.sum())} observation rows without a value (MDV 1) are kept as times without a value"
        )
    if r.dose.any() and ("CMT" not in t or bool(np.isnan(t["CMT"].to_numpy(float)[r.dose]).any())):
        notes.append("CMT is missing on doses: they go into the depot (1)")
    return PatientData(names, records, observations, empty(EVENT_COLUMNS), table, empty(EXPOSURE_COLUMNS), tuple(notes))
