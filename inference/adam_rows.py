"""Which rows of ADaM-like tables are read: doses of the drug, neutrophil counts, infections, times to known events.

Real tables hold much else: other drugs, other parameters, screening, other adverse events. Such rows are told, and not checked.
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
INFECTIONS = "INFECTIONS AND INFESTATIONS"
CODES = "CC-?92480|BMS-?986348"
"""Of mezigdomide, where a trial names it so."""
DAYS = {"adlb": "ADY", "adae": "ASTDY"}
MOST_NAMES = 6


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
    """Return which rows of adex seem to be of the drug under another name: a salt, a form, a code. A placebo is none."""
    names = pd.Series(words(raw, "EXTRT"), dtype=object).str
    near = names.contains(f"{re.escape(drug.upper())}|{CODES}") & ~names.contains("PLACEBO")
    return near.to_numpy(bool) & ~of_drug(raw, drug)


def is_infection(raw: RawTable) -> np.ndarray:
    """Return which adverse events are infections: by system organ class, or by name where there is none."""
    for column in CLASSES:
        if column in raw.frame:
            return words(raw, column) == INFECTIONS
    return pd.Series(words(raw, "AEDECOD"), dtype=object).str.contains("INFECTION", regex=False).to_numpy(bool)


def _wanted(raw: RawTable, name: str, drug: str, notes: list[str]) -> np.ndarray:
    """Return which rows are read by what they are of; blank names stay, to be told as mistakes."""
    if name == "adsl":
        return np.ones(len(raw), bool)
    if name == "adae":
        if not any(c in raw.frame for c in CLASSES):
            notes.append(
                "adae has no system organ class (AEBODSYS, AESOC): infections are taken to be the terms with INFECTION in them; "
                "pneumonia and sepsis are missed (assumed)"
            )
        return is_infection(raw) | (words(raw, "AEDECOD") == "")
    if name == "adex":
        wanted, column, what = of_drug(raw, drug) | misnamed(raw, drug), "EXTRT", f"other drugs than {drug}"
    else:
        known = COUNTS if name == "adlb" else tuple(PARAMETERS)
        wanted, column, what = np.isin(words(raw, "PARAMCD"), ["", *known]), "PARAMCD", "other parameters"
    if not wanted.all():
        others = pd.unique(words(raw, column)[~wanted])
        more = ", ..." if len(others) > MOST_NAMES else ""
        told = ", ".join(str(w) or "blank" for w in others[:MOST_NAMES])
        notes.append(_unused(name, ~wanted, f"of {what} ({told}{more})"))
    return wanted


def _unused(name: str, rows: np.ndarray, which: str) -> str:
    n = int(rows.sum())
    return f"{name}: {n} row{'s' if n > 1 else ''} {which} {'are' if n > 1 else 'is'} not used"


def rows_read(raw: RawTable, name: str, drug: str, notes: list[str]) -> RawTable:
    """Return the table without the rows that are not read; add to ``notes`` which those are."""
    wanted = _wanted(raw, name, drug, notes)
    if name in ("adlb", "adae"):
        derived = wanted & (words(raw, "DTYPE") != "")
        if derived.any():
            notes.append(_unused(name, derived, "derived from others (DTYPE)"))
        wanted &= ~derived
    column = DAYS.get(name, "")
    if column in raw.frame:
        early = wanted & (numbers(raw, column)[0] < 0.0)
        if early.any():
            notes.append(_unused(name, early, f"before study day 1 ({column})"))
        wanted &= ~early
    if wanted.all():
        return raw
    return replace(raw, frame=raw.frame.loc[wanted].reset_index(drop=True), places=raw.places[wanted])
