"""Units that patient tables may be in: what is one of 10^9/L, what is another unit of counts, months and days."""

import re

DAYS = {"DAY": 1.0, "WEEK": 7.0, "MONTH": 30.4375, "YEAR": 365.25}
"""Days of a unit of time; a month as everywhere here."""
_GIGA = frozenset(
    {
        "10^9/L",
        "X10^9/L",
        "10*9/L",
        "10**9/L",
        "10E9/L",
        "1E9/L",
        "GI/L",
        "G/L",
        "10^3/UL",
        "10*3/UL",
        "K/UL",
        "THOU/UL",
    }
)
_CELLS = frozenset({"/UL", "CELLS/UL", "CELL/UL", "/MM3", "CELLS/MM3", "/MM^3", "CELLS/MM^3", "CELLS/MICROL", "1/UL", "10^6/L", "10*6/L", "MILLION/L"})  # fmt: skip
LARGEST_COUNT = 100.0
"""10^9/L; a larger neutrophil count is taken for one in cells/uL."""


def in_brackets(text: str) -> str:
    """Return the unit at the end of a parameter in words, 'Neutrophils (10^9/L)' -> '10^9/L'; blank without brackets."""
    found = re.search(r"\(([^()]*)\)\s*$", text)
    return found.group(1).strip() if found else ""


def count_unit(text: str) -> str:
    """Return 'giga' for a writing of 10^9/L, 'cells' for one of cells/uL, else 'unknown'."""
    plain = re.sub(r"\s+", "", text).upper().replace("µ", "U").replace("μ", "U").replace("Μ", "U").replace("×", "X")
    return "giga" if plain in _GIGA else "cells" if plain in _CELLS else "unknown"


def days_of(text: str) -> float | None:
    """Return the days of a unit of time, None where unknown."""
    return DAYS.get(text.strip().upper().removesuffix("S"))
