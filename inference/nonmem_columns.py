"""The columns of a NONMEM-style table: which are read, what their cells may be, which are refused by name."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from .patient_files import RawTable
from .patient_mistakes import Mistakes

REQUIRED = ("ID", "TIME", "DV")
NUMBERS = ("TIME", "AMT", "RATE", "II", "ADDL", "SS", "EVID", "CMT", "DV", "MDV", "DVID", "CENS", "LLOQ")
KNOWN = ("ID", *NUMBERS)
UNITS = ("DVU", "DVUNIT", "UNIT", "UNITS", "AVALU")
"""Columns that hold the unit of DV."""
DATES = ("DATE", "DAT1", "DAT2", "DAT3")
REFUSED = {
    **dict.fromkeys(
        DATES, ("dates are not read", "give TIME in hours or days since the patient's start, and delete it")
    ),
    "PCMT": ("predictions of other compartments are not supported", "delete the column"),
    "CALL": ("calls of the model at other records are not supported", "delete the column"),
    "CONT": ("continuation records are not supported", "write one row a record, and delete the column"),
    "L2": ("correlated observations of one time are not supported", "delete the column"),
    "LIMIT": ("intervals of censoring are not supported", "give the limit of quantification in LLOQ, CENS 1 below it"),
}
"""Columns of NONMEM and its kin that mean something this reader does not do: why, remedy."""
MOST_ADDL = 10_000


def _column(test, allowed: str, remedy: str) -> pa.Column:
    return pa.Column(float, pa.Check(test, error=allowed), nullable=True, required=False, description=remedy)


def _codes(*codes: int) -> pa.Check:
    return lambda x: x.isin(codes)  # pyright: ignore[reportReturnType]


def _whole(x: pd.Series) -> pd.Series:
    return (x == np.floor(x)) & (x >= 0)


SCHEMA = pa.DataFrameSchema(
    {
        "TIME": _column(lambda x: x >= 0.0, "0 or more", "count TIME from the patient's start"),
        "AMT": _column(lambda x: x >= 0.0, "0 or more", "correct the dose"),
        "II": _column(lambda x: x >= 0.0, "0 or more", "correct the interval between doses"),
        "ADDL": _column(
            lambda x: _whole(x) & (x <= MOST_ADDL), f"a whole number, 0 to {MOST_ADDL}", "give the number of further doses"
        ),
        "SS": _column(_codes(0, 1, 2), "0, 1, 2", "1: steady state, 2: steady state on top of what is there, 0: none"),
        "EVID": _column(_codes(0, 1, 2, 3, 4), "0, 1, 2, 3, 4", "0: observation, 1: dose, 2: other, 3: reset, 4: reset and dose"),
        "CMT": _column(_whole, "a whole number, 0 or more", "1: depot, 2: central; turning a compartment off is not supported"),
        "MDV": _column(_codes(0, 1), "0, 1", "1: there is no DV in this row, 0: there is"),
        "DVID": _column(_whole, "a whole number, 0 or more", "correct it"),
        "CENS": _column(_codes(0, 1), "0, 1", "1: below LLOQ, 0: not; other censoring is not supported"),
        "LLOQ": _column(lambda x: x > 0.0, "above 0", "give the limit of quantification in the unit of DV"),
    }
)  # fmt: skip


def check_cells(mistakes: Mistakes, raw: RawTable, schema: pa.DataFrameSchema, t: pd.DataFrame, patient) -> np.ndarray:
    """Add every cell of ``t`` (numbers; NaN: missing) that ``schema`` refuses; return the rows that hold one."""
    bad = np.zeros(len(t), bool)
    try:
        schema.validate(t, lazy=True)
    except SchemaErrors as errors:
        found = errors.failure_cases
        for name, cells in found.groupby("column", sort=False):
            rows = cells["index"].to_numpy(int)
            bad[rows] = True
            remedy, allowed = str(schema.columns[str(name)].description), str(cells["check"].iloc[0])
            mistakes.add(
                raw, np.sort(rows), str(name), "value {value} is not allowed", remedy, patient=patient, allowed=allowed
            )
    return bad
