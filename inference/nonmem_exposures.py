"""The column of exposures of a NONMEM-style table: what drives the counts instead of doses and PK, row by row.

A value holds from its row until the patient's next row that has one: the last one is carried forward. Before a patient's first it
is 0. (NONMEM does otherwise with covariates that change: it uses the value of the row at which an interval ends.)
"""

import numpy as np
import pandas as pd

from .errors import nearest_first
from .nonmem_columns import KNOWN, UNITS
from .nonmem_rules import Rows
from .patient_files import RawTable, numbers
from .patient_mistakes import Mistakes


def check_column(mistakes: Mistakes, raw: RawTable, column: str) -> None:
    """Add that ``column`` is no column of the table, or one that is read for something else."""
    columns = [c for c in raw.frame.columns if c not in KNOWN and c not in UNITS]
    if column in columns:
        return
    near = nearest_first(column, columns)[:1]
    remedy = "name a column of exposures" + (f": did you mean {near[0]}?" if near else "")
    mistakes.one(
        raw, "no such column of exposures", remedy, column=column, allowed=", ".join(columns) or "none in the table"
    )


def carried(mistakes: Mistakes, t: Rows, column: str) -> np.ndarray:
    """Return the exposure from each row on, ``rows``; add cells that cannot be, patients without any, and resets."""
    values, bad = numbers(t.raw, column)

    def say(where: np.ndarray, problem: str, remedy: str, allowed: str, of: str = column) -> None:
        mistakes.add(t.raw, where, of, problem, remedy, patient=t.id, allowed=allowed)

    blank = ". or blank where the value before goes on"
    say(bad, "value {value} is not a number", f"give the exposure; {blank}", f"a number, {blank}")
    say(values < 0.0, "value {value} is not allowed", f"give the exposure; {blank}", "0 or more")
    say(t.reset, "value {value}, a reset: with exposures that are given it is not supported",
        f"give EVID 2, and 0 in {column} where there is no drug", "0, 1, 2", "EVID")  # fmt: skip
    by_patient = pd.Series(values).groupby(t.patient)
    none = (np.asarray(by_patient.transform("count")) == 0) & ~t.follows & (t.patient >= 0)
    say(
        none & ~_of_patients_with(bad, t),
        "the patient has no exposure",
        "give 0 to a patient without the drug",
        "0 or more",
    )
    if not bad.any() and not none.any() and not (values > 0.0).any():
        mistakes.one(
            t.raw,
            "no exposure above 0: nothing acts on the counts",
            "name another column",
            column=column,
        )
    return by_patient.ffill().fillna(0.0).to_numpy()


def _of_patients_with(where: np.ndarray, t: Rows) -> np.ndarray:
    """Return the rows of patients with a row of ``where``."""
    return pd.Series(where).groupby(t.patient).transform("any").to_numpy()
