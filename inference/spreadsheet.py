"""Texts of users in CSV files: never a formula to the spreadsheet that opens them."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A text that begins so is, or can become, a formula (OWASP, CSV injection); the last four are full-width forms."""
MARK = "'"


def _marked(cell: object) -> object:
    return MARK + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def inert(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with an apostrophe before every text that a spreadsheet would take for a formula."""
    words = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c].dtype)]
    return table.assign(**{str(c): table[c].map(_marked) for c in words})


def original(text: str) -> str:
    """Return a text of which ``inert`` made ``text``."""
    return text.removeprefix(MARK) if text.removeprefix(MARK).startswith(FORMULA) else text
