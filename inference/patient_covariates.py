"""Covariates of patients: one value each, numbers or words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .errors import shown
from .patient_files import MISSING, RawTable, numbers, texts
from .patient_mistakes import Mistakes

POSITIVE = ("WT", "WTBL", "BWT", "BW", "WEIGHT", "WGT", "HT", "HTBL", "HEIGHT", "HGT", "BSA", "BMI", "LBM", "FFM", "CRCL", "CLCR", "EGFR", "BNEUT", "BANC")  # fmt: skip
"""Usual names of sizes, which stand under a power and must be above 0."""
MEANT = {
    **dict.fromkeys(("BLQ", "BQL", "BLOQ"), "CENS (1 below the limit of quantification, 0 not)"),
    **dict.fromkeys(("LOQ", "LLQ", "BLQLIM"), "LLOQ"),
    **dict.fromkeys(("TAD", "NTIME", "NTPD", "ATIME", "TAFD", "NOMTIME"), "a time that is not read; delete it"),
    **dict.fromkeys(("OCC", "VISIT", "PERIOD", "CYCLE"), "an occasion, which is not read; delete it"),
    **dict.fromkeys(("LDV", "LNDV", "LOGDV"), "DV on the log scale, which is not read; delete it"),
    **dict.fromkeys(
        ("CAVG", "CAV", "CONC", "CP", "CPRED", "IPRED", "AUC", "AUCTAU"),
        "an exposure (`model.exposure` in fit.toml, --exposure here)",
    ),
    **dict.fromkeys(("DUR", "TINF"), "RATE (amount over duration)"),
}
"""What a column that changes within a patient may be, by name."""


def covariates(
    mistakes: Mistakes,
    raw: RawTable,
    columns: Sequence[str],
    patient: np.ndarray,
    ids: np.ndarray,
    names: tuple[str, ...],
    positive: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row a patient; add what changes within a patient, is infinite, or is a size of 0 or below.

    A column is numeric where every cell that is there is a number, else words. ``patient`` is the index into ``names`` of
    each row, -1 where unknown; ``ids`` the ids, for messages.
    """
    known = patient >= 0
    rows = np.flatnonzero(known)
    first = pd.Series(patient[rows]).drop_duplicates().index.to_numpy()
    first = rows[first]  # the first row of each patient, in order of the index
    sizes = {*POSITIVE, *(p.upper() for p in positive)}
    for p in positive:
        if p.upper() not in columns:
            mistakes.one(
                raw, "the covariate is missing", "add the column", column=p, allowed=", ".join(columns) or None
            )
    out = {}
    for name in columns:
        values, bad = numbers(raw, name)
        odd = {w for w in map(str.strip, map(str, pd.unique(raw.frame[name].to_numpy()[bad])))} if bad.any() else set()
        there = ~np.isnan(values)
        # Words beside numbers are a mistake in a column of numbers; a column of words only is a category.
        infinite = {w for w in odd if w.lower().lstrip("+-") in ("inf", "infinity", "nan")}
        numeric = not odd or (there.sum() > bad.sum() and there.any()) or bool(infinite)
        if numeric:
            remedy = "write a number, or . where it is missing"
            mistakes.add(
                raw,
                bad,
                name,
                "value {value} is not a number",
                remedy,
                patient=ids,
                allowed="a finite number, . or blank",
            )
            key = np.where(there, values, np.inf)
        else:
            words = texts(raw, name)
            key = pd.factorize(words)[0].astype(float)
        before = np.full(len(patient), np.nan)
        before[rows] = key[first][patient[rows]]
        changes = known & (key != before) & ~(bad & numeric)
        meant = f"; did you mean {MEANT[name]}?" if name in MEANT else ""
        shown_first = np.zeros(len(patient), int)
        shown_first[rows] = first[patient[rows]]
        # The first change of a patient is enough.
        where = np.flatnonzero(changes)
        where = where[~pd.Series(patient[where]).duplicated().to_numpy()]
        mistakes.add(
            raw, where, name,
            lambda i, c=name, at=shown_first: f"value {shown(raw.cell(i, c))}, but {shown(raw.cell(int(at[i]), c))} before: "
            "covariates that change over time are not supported",
            f"give one value a patient, or delete the column{meant}", patient=ids, allowed="one value a patient",
        )  # fmt: skip
        if numeric and name in sizes:
            low = np.zeros(len(patient), bool)
            low[first] = values[first] <= 0.0
            mistakes.add(
                raw, low, name, "value {value}", "correct it, or . where it is missing", patient=ids, allowed="above 0"
            )
        if numeric:
            out[name] = values[first]
        else:
            out[name] = pd.Series(texts(raw, name)[first], dtype=object).where(lambda x: ~x.isin(MISSING), None)
    return pd.DataFrame(out, index=range(len(first))).set_axis(pd.Index(names, name="id"), axis=0)
