"""Which rows of ADaM-like tables are read: doses of the drug, neutrophil counts, severe infections, times to known events.

Real tables hold much else: other drugs, other parameters, screening, other adverse events. Such rows are told, and not checked.
Rows without a subject or a name (USUBJID, EXTRT, PARAMCD, AEDECOD) stay: they are mistakes.
"""

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from .patient_files import RawTable, numbers, texts

COUNTS = ("NEUT", "ANC")
"""PARAMCD of neutrophil counts in adlb."""
PARAMETERS = {"TTINF3": "infection", "TTP": "progression", "OS": "death", "PFS": "pfs"}
"""Kind of event by PARAMCD of adtte."""
CLASSES = ("AEBODSYS", "AESOC")
"""Columns of the system organ class."""
INFECTIONS = ("INFECTIONS AND INFESTATIONS", "INFECTIONS & INFESTATIONS")
CODES = "CC-?92480|BMS-?986348"
"""Of mezigdomide, where a trial names it so."""
STUDY_DAY = {"adlb": "ADY", "adae": "ASTDY"}
"""Column of the day of tables whose rows before study day 1 are of screening."""
MOST_NAMES = 6
DRUG = "MEZIGDOMIDE"
SEVERE = 3
"""Grade of a severe infection, or more."""


def words(raw: RawTable, column: str) -> np.ndarray:
    """Return a column as text in upper case; '' where missing or the column is not there."""
    if column not in raw.frame:
        return np.full(len(raw), "", dtype=object)
    codes, found = pd.factorize(texts(raw, column))
    return np.array([str(w).upper() for w in found], dtype=object)[codes] if len(found) else np.empty(0, dtype=object)


def of_drug(raw: RawTable, drug: str) -> np.ndarray:
    """Return which rows of adex are of the drug; all of them where EXTRT is not there."""
    return words(raw, "EXTRT") == drug.upper() if "EXTRT" in raw.frame else np.ones(len(raw), bool)


def misnamed(raw: RawTable, drug: str) -> np.ndarray:
    """Return which rows of adex seem to be of the drug under another name (a salt, a form, a code), or have none.

    A placebo is none of the drug.
    """
    if "EXTRT" not in raw.frame:
        return np.zeros(len(raw), bool)
    name = words(raw, "EXTRT")
    text, codes = pd.Series(name, dtype=object).str, f"|{CODES}" if drug.upper() == DRUG else ""
    near = text.contains(f"{re.escape(drug.upper())}{codes}") & ~text.contains("PLACEBO")
    return (near.to_numpy(bool) & (name != drug.upper())) | (name == "")


def organ_class(raw: RawTable) -> np.ndarray:
    """Return the system organ class of each adverse event: of the first of CLASSES that is not blank; '' where none is known."""
    found = np.full(len(raw), "", dtype=object)
    for column in CLASSES:
        found = np.where(found == "", words(raw, column), found)
    return found


def is_infection(raw: RawTable) -> np.ndarray:
    """Return which adverse events are infections: by system organ class, or by name where none is known."""
    known = organ_class(raw)
    by_name = pd.Series(words(raw, "AEDECOD"), dtype=object).str.contains("INFECTION", regex=False).to_numpy(bool)
    return np.where(known == "", by_name, np.isin(known, INFECTIONS)).astype(bool)


def _adverse_events(raw: RawTable, notes: list[str]) -> np.ndarray:
    """Return which rows of adae are severe infections, or cannot be told from one: without grade, or without a name."""
    unknown, named = organ_class(raw) == "", words(raw, "AEDECOD") != ""
    infection = is_infection(raw) | (unknown & ~named)
    mild = infection & (numbers(raw, "AETOXGR")[0] < SEVERE) if "AETOXGR" in raw.frame else np.zeros(len(raw), bool)
    for rows, which in ((~infection, "of other events"), (mild, f"of infections below grade {SEVERE}")):
        if rows.any():
            notes.append(_unused("adae", rows, which))
    if by_name := int((unknown & named).sum()):
        notes.append(
            f"adae: of {by_name} events without a system organ class (AEBODSYS, AESOC) those with INFECTION in their name are taken to "
            "be infections; pneumonia and sepsis are missed (assumed)"
        )
    return infection & ~mild


def _wanted(raw: RawTable, name: str, drug: str, notes: list[str]) -> np.ndarray:
    """Return which rows are read by what they are of."""
    if name == "adsl":
        return np.ones(len(raw), bool)
    if name == "adae":
        return _adverse_events(raw, notes)
    if name == "adex":
        if "EXTRT" not in raw.frame:
            notes.append(f"adex names no drug (EXTRT): all of its rows are taken to be of {drug} (assumed)")
        wanted, column, what = of_drug(raw, drug) | misnamed(raw, drug), "EXTRT", f"other drugs than {drug}"
    else:
        known = COUNTS if name == "adlb" else tuple(PARAMETERS)
        wanted, column, what = np.isin(words(raw, "PARAMCD"), ["", *known]), "PARAMCD", "other parameters"
    if not wanted.all():
        others = pd.unique(words(raw, column)[~wanted])
        more = ", ..." if len(others) > MOST_NAMES else ""
        told = ", ".join(map(str, others[:MOST_NAMES]))
        notes.append(_unused(name, ~wanted, f"of {what} ({told}{more})"))
    return wanted


def _unused(name: str, rows: np.ndarray, which: str) -> str:
    n = int(rows.sum())
    return f"{name}: {n} row{'s' if n > 1 else ''} {which} {'are' if n > 1 else 'is'} not used"


def _baselines(raw: RawTable, counts: np.ndarray) -> np.ndarray:
    """Return which counts before study day 1 are their patient's baseline (ABLFL), where no count of day 1 is there."""
    if not {"ABLFL", "ADY", "USUBJID"} <= set(raw.frame):
        return np.zeros(len(raw), bool)
    day, who = numbers(raw, "ADY")[0], pd.Series(words(raw, "USUBJID"))
    begun = set(who[counts & (day == 1.0)])
    before = counts & (day < 0.0) & (words(raw, "ABLFL") == "Y") & ~who.isin(begun).to_numpy(bool)
    return before & ~who.where(before).duplicated(keep="last").to_numpy(bool)


def rows_read(raw: RawTable, name: str, drug: str, notes: list[str]) -> RawTable:
    """Return the table without the rows that are not read; add to ``notes`` which those are.

    A baseline count before study day 1 becomes one of day 1, before its dose.
    """
    wanted = _wanted(raw, name, drug, notes)

    def leave_out(rows: np.ndarray, why: str) -> None:
        nonlocal wanted
        if (wanted & rows).any():
            notes.append(_unused(name, wanted & rows, why))
        wanted &= ~rows

    frame = raw.frame
    if name in ("adlb", "adae"):
        leave_out(words(raw, "DTYPE") != "", "derived from others (DTYPE)")
    if name == "adlb":
        leave_out(
            (words(raw, "AVAL") == "") & (words(raw, "AVALC") == "") & (words(raw, "PARAMCD") != ""), "without a value"
        )
        first = _baselines(raw, wanted)
        if first.any():
            n = int(first.sum())
            notes.append(
                f"adlb: the baselines (ABLFL) of {n} patients before study day 1 count as of day 1, before the dose (assumed)"
            )
            one = "1" if frame["ADY"].dtype == object else 1.0
            frame = frame.assign(ADY=frame["ADY"].where(~first, one))
            raw = replace(raw, frame=frame)
    column = STUDY_DAY.get(name, "")
    if column in frame:
        leave_out(numbers(raw, column)[0] < 0.0, f"before study day 1 ({column})")
    if "USUBJID" in frame:
        wanted = wanted | (words(raw, "USUBJID") == "")
    if wanted.all():
        return raw
    return replace(raw, frame=frame.loc[wanted].reset_index(drop=True), places=raw.places[wanted])
