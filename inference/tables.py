"""A text file or CSV table as a user gives it: checked text with line numbers, or one InputError."""

import csv
import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from .errors import input_error, nearest_first, shown
from .files import read_text

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NUMBER_REMEDY = "write it as 18.0: a decimal point, no thousands separators, no unit, no nan or inf"


def is_number(cell: str) -> bool:
    """Return whether ``cell`` is one finite number with a decimal point and no separators."""
    return NUMBER.fullmatch(cell) is not None and math.isfinite(float(cell))


def column(test: Callable[[str], bool], allowed: str, remedy: str) -> pa.Column:
    """Return a column of text cells that pass ``test``; ``allowed`` and ``remedy`` go into the message."""
    return pa.Column(str, pa.Check(test, element_wise=True, error=allowed), description=remedy)


def one_of(words: tuple[str, ...]) -> pa.Column:
    """Return a column whose cells are one of ``words``."""
    return column(lambda cell: cell in words, ", ".join(w or "(blank)" for w in words), "use one of these words")


def read_table(path: Path, schema: pa.DataFrameSchema, name: str) -> pd.DataFrame:
    """Return the table's stripped text cells; the index is the line of each row in the file.

    Parameters
    ----------
    path: CSV file, UTF-8, comma-separated, with exactly the columns of ``schema`` in any order.
    schema: one ``column`` or ``one_of`` per column.
    name: the column that names a row in messages.

    Raises
    ------
    InputError: the first cell, in reading order, that ``schema`` refuses; or a file that is no such table.
    """
    columns = list(schema.columns)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    start, header, lines, cells = 1, None, [], []
    try:
        for raw in reader:
            line, start = start, reader.line_num + 1
            values = [cell.strip() for cell in raw]
            if not any(values):
                continue
            if header is None:
                header = values
                _check_header(path, line, header, columns)
            elif len(values) != len(header):
                raise input_error(
                    path,
                    f"{len(values)} cells instead of {len(header)}",
                    "put double quotes around a text that holds a comma, and a decimal point into numbers",
                    line=line,
                    row=values[header.index(name)] if len(values) > header.index(name) else None,
                )
            else:
                lines.append(line)
                cells.append(values)
    except csv.Error as error:
        raise input_error(
            path, f"not readable as CSV ({error})", "close the double quotes", line=reader.line_num
        ) from None
    if header is None:
        raise input_error(path, "the file is empty", f"give it the header {','.join(columns)}")
    index = pd.Index(lines, dtype="int64")
    table = pd.DataFrame(cells, columns=pd.Index(header), index=index, dtype=str).reindex(columns=columns)
    try:
        schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        found = errors.failure_cases
        found = found.assign(order=found["column"].map(columns.index)).sort_values(["index", "order"])
        first = found.iloc[0]
        at, where = int(first["index"]), str(first["column"])
        raise input_error(
            path,
            f"value {shown(str(first['failure_case']))} is not allowed",
            str(schema.columns[where].description),
            line=at,
            row=str(table.loc[at, name]),
            column=where,
            allowed=str(first["check"]),
        ) from None
    return table


def _check_header(path: Path, line: int, header: list[str], columns: list[str]) -> None:
    remedy = f"make the header {','.join(columns)}"
    for mark, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            raise input_error(
                path,
                f"cells are separated by {called}",
                "save it as comma-separated",
                line=line,
                allowed="commas",
            )
    for extra in [c for c in header if c not in columns]:
        likely = nearest_first(extra, columns)[0]
        raise input_error(
            path,
            f"unknown column {shown(extra)} (nearest: {likely})",
            remedy,
            line=line,
            column=extra or "(blank)",
        )
    for missing in [c for c in columns if header.count(c) != 1]:
        times = header.count(missing)
        problem = "the column is missing" if times == 0 else f"the column is there {times} times"
        raise input_error(path, problem, remedy, line=line, column=missing)
