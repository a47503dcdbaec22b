"""The columns of ADaM-like tables that are read, and what their cells may be."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa

from .adam_rows import words
from .errors import nearest_first
from .nonmem_columns import check_cells
from .patient_files import RawTable, numbers, texts
from .patient_mistakes import Mistakes
from .tables import NUMBER_REMEDY

FIRST_DAY = "count days from the patient's first day: study day 1 is the first, days before it are not modelled"
WORDS: dict[str, tuple[str, ...]] = {
    "adsl": ("USUBJID",),
    "adex": ("USUBJID",),
    "adlb": ("USUBJID", "PARAMCD"),
    "adae": ("USUBJID", "AEDECOD"),
    "adtte": ("USUBJID", "PARAMCD"),
}
"""Columns of text that a table must have, with something in every cell."""
NUMBERS: dict[str, tuple[str, ...]] = {
    "adsl": (),
    "adex": ("ASTDY", "AENDY", "EXDOSE"),
    "adlb": ("ADY", "AVAL"),
    "adae": ("ASTDY", "AETOXGR"),
    "adtte": ("AVAL", "CNSR"),
}
"""Columns of numbers that a table must have."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "adsl": ("TRTSDY", "TRTEDY", "TRTDURM", "LSTFUDY", "DTHDY"),
    "adex": ("PLANDOSE", "LVLDOSE"),
    "adlb": ("CENS", "LLOQ"),
    "adae": ("AENDY",),
    "adtte": (),
}
"""Columns of numbers that are read where they are."""
DATES = ("ADT", "ADTM", "ASTDT", "AENDT", "TRTSDT", "TRTEDT", "EXSTDTC", "LBDTC", "AESTDTC")


def _column(test, allowed: str, remedy: str) -> pa.Column:
    return pa.Column(float, pa.Check(test, error=allowed), nullable=True, required=False, description=remedy)


def _from_first(x: pd.Series) -> pd.Series:
    return (x >= 1) & (x == np.floor(x))


DAY = _column(_from_first, "a whole number, 1 or more", FIRST_DAY)
DOSE = _column(lambda x: x >= 0.0, "0 or more", "give the daily dose in mg, 0 where it is on hold")
SCHEMAS = {
    "adsl": pa.DataFrameSchema(
        {**dict.fromkeys(("TRTSDY", "TRTEDY", "LSTFUDY", "DTHDY"), DAY),
         "TRTDURM": _column(lambda x: x >= 0.0, "0 or more", "give the duration of treatment in months")}
    ),
    "adex": pa.DataFrameSchema({"ASTDY": DAY, "AENDY": DAY, "EXDOSE": DOSE, "PLANDOSE": DOSE, "LVLDOSE": DOSE}),
    "adlb": pa.DataFrameSchema(
        {"ADY": DAY,
         "CENS": _column(lambda x: x.isin([0, 1]), "0, 1", "1: below the limit of quantification, 0: not"),
         "LLOQ": _column(lambda x: x > 0.0, "above 0", "give the limit of quantification in the unit of AVAL")}
    ),
    "adae": pa.DataFrameSchema(
        {"ASTDY": DAY, "AENDY": DAY, "AETOXGR": _column(lambda x: x.isin([1, 2, 3, 4, 5]), "1, 2, 3, 4, 5", "give the grade of CTCAE version 5")}
    ),
    "adtte": pa.DataFrameSchema(
        {"AVAL": _column(lambda x: x >= 0.0, "0 or more", "give the time from the patient's first day"),
         "CNSR": _column(lambda x: (x >= 0) & (x == np.floor(x)), "0: event; 1 and further whole numbers: censored", "say whether it is censored")}
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table whose cells have been read."""

    name: str
    raw: RawTable
    subject: np.ndarray
    """USUBJID of each row."""
    number: pd.DataFrame
    """Columns of numbers that are there; NaN: missing."""
    sound: np.ndarray
    """Rows of which every cell could be read."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.raw)

    def has(self, column: str) -> bool:
        """Return whether the file has ``column``."""
        return column in self.raw.frame

    def words(self, column: str) -> np.ndarray:
        """Return a column as text in upper case; '' where missing or the column is not there."""
        return words(self.raw, column)

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers; NaN where the column is not there."""
        return self.number[name].to_numpy(float) if name in self.number else np.full(len(self), np.nan)


def read_cells(mistakes: Mistakes, name: str, raw: RawTable, more: tuple[str, ...] = ()) -> Table | None:
    """Return a table, or None where a column is missing; add what is wrong with its columns and cells.

    ``more``: columns of numbers that are read where they are, besides OPTIONAL.
    """
    missing = [c for c in (*WORDS[name], *NUMBERS[name]) if c not in raw.frame]
    for column in missing:
        near = nearest_first(column, list(raw.frame.columns))[:1]
        dated = [c for c in DATES if c in raw.frame and column in ("ADY", "ASTDY", "AENDY")]
        remedy = "add it" + (
            f": dates ({dated[0]}) are not read, give study days" if dated else f", or is it {near[0]}?" if near else ""
        )
        mistakes.one(
            raw, "the column is missing", remedy, column=column, allowed=" ".join((*WORDS[name], *NUMBERS[name]))
        )
    if missing:
        return None
    subject = texts(raw, "USUBJID")
    sound = np.ones(len(raw), bool)
    for column in WORDS[name]:
        blank = texts(raw, column) == ""
        sound &= ~blank
        mistakes.add(raw, blank, column, "value {value}", "fill it in", patient=subject, allowed="any text")
    columns = {}
    for column in (*NUMBERS[name], *(c for c in (*OPTIONAL[name], *more) if c in raw.frame)):
        values, bad = numbers(raw, column)
        columns[column] = values
        mistakes.add(
            raw, bad, column, "value {value} is not a number", NUMBER_REMEDY, patient=subject, allowed="a number"
        )
        sound &= ~bad
        if column in NUMBERS[name]:
            blank = np.isnan(values) & ~bad
            mistakes.add(raw, blank, column, "value {value}", "fill it in", patient=subject, allowed="a number")
            sound &= ~blank
    number = pd.DataFrame(columns, index=range(len(raw)))
    sound &= ~check_cells(mistakes, raw, SCHEMAS[name], number, subject)
    return Table(name, raw, subject, number, sound)
