"""A patient table as a user gives it: CSV (also .gz), Parquet or SAS transport, as cells with their place in the file."""

import csv
import gzip
import io
import warnings
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import InputError, input_error
from .files import decoded, read_bytes
from .tables import is_number

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".xpt")
MISSING = ("", ".")
LARGEST_TEXT = 4 * 2**30
"""Bytes of an unpacked .gz; a larger one is refused rather than let it fill the memory."""
XPT_HEADER = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
XPT_MEMBER = b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!"
XPT_ROWS = b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!"
XPT_RECORD = 80
XPT_ZERO = 16.0**-65
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class RawTable:
    """Cells of a table: text as written, or numbers where the file holds numbers (NaN: missing)."""

    path: Path
    frame: pd.DataFrame
    """Columns in upper case, each name once; index 0, 1, ..."""
    places: np.ndarray
    """Line of each row in a CSV file (header: 1), else its number from 1."""
    by_line: bool
    header: dict[str, str]
    """Column as the file writes it, by its name in upper case."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    def place(self, i: int) -> tuple[int | None, str | None]:
        """Return (line, None) of row ``i`` in a CSV file, (None, row) in others."""
        at = int(self.places[i])
        return (at, None) if self.by_line else (None, str(at))

    def cell(self, i: int, column: str) -> object:
        """Return a cell for a message; '.' where it is missing or the column is not there."""
        if column not in self.frame:
            return "."
        value = self.frame[column].iloc[i]
        if isinstance(value, str):
            return value.strip() or "."
        number = float(value)
        return "." if np.isnan(number) else int(number) if number.is_integer() else number


def read_raw(path: Path) -> RawTable:
    """Return the cells of a table.

    Raises
    ------
    InputError: no such file, another format, damaged, not UTF-8, empty, without rows to have a header, names that are not
    unique whatever their case, rows longer or shorter than the header.
    """
    name = path.name.lower()
    if path.is_dir():
        raise input_error(path, "is a folder", f"name a table ({', '.join(SUFFIXES)})")
    if name.endswith((".csv", ".csv.gz")):
        data = read_bytes(path)
        return _csv(path, decoded(path, _unpacked(path, data) if name.endswith(".gz") else data))
    if name.endswith(".parquet"):
        return _frame(path, _parquet(path, read_bytes(path)))
    if name.endswith(".xpt"):
        return _frame(path, _transport(path, read_bytes(path)))
    if not path.exists():
        raise input_error(path, "there is no such file", "put it there, or name another")
    raise input_error(path, "not a kind of table that is read", "save it as CSV", allowed=", ".join(SUFFIXES))


def _damaged(path: Path, why: object) -> InputError:
    text = " ".join(str(why).split())[:120] or type(why).__name__
    return input_error(path, f"damaged or not whole ({text})", "copy or write it anew")


def _unpacked(path: Path, data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(LARGEST_TEXT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    if len(text) > LARGEST_TEXT:
        raise input_error(path, f"more than {LARGEST_TEXT >> 30} GiB unpacked", "split it, or write Parquet")
    return text


def _csv(path: Path, text: str) -> RawTable:
    """Return a comma-separated table; blank lines are passed over, everything else is kept."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start, header, lines, rows, ragged = 1, None, [], [], []
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cells) or not any(map(str.strip, cells)):
                continue
            if header is None:
                header = [c.strip() for c in cells]
                separator = next((s for s in SEPARATORS if len(cells) == 1 and s in cells[0]), None)
                if separator is not None:
                    raise input_error(
                        path, f"cells are separated by {SEPARATORS[separator]}", "save it as comma-separated, with decimal points",
                        line=line, allowed="commas",
                    )  # fmt: skip
                continue
            if len(cells) != len(header):
                ragged.append((line, len(cells)))
            lines.append(line)
            rows.append(cells)
    except csv.Error as error:
        remedy = "close the double quotes"
        raise input_error(path, f"not readable as CSV ({error})", remedy, line=reader.line_num) from None
    if header is None:
        raise input_error(path, "the file is empty", "give it a header and rows")
    _check_names(path, header)
    if ragged:
        remedy = "put double quotes around a text that holds a comma, and a decimal point into numbers"
        errors = [input_error(path, f"{n} cells instead of {len(header)}", remedy, line=at) for at, n in ragged[:20]]
        more = [f"and {len(ragged) - 20} more"] if len(ragged) > 20 else []
        raise InputError("\n".join([*map(str, errors), *more]))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    frame = pd.DataFrame({h.upper(): np.array(c, dtype=object) for h, c in zip(header, columns, strict=True)})
    return RawTable(path, frame, np.array(lines, dtype=int), True, {h.upper(): h for h in header})


def _check_names(path: Path, header: list[str]) -> None:
    """Raise one InputError of every name that is blank or there more than once, whatever its case."""
    errors = []
    blank = [str(i) for i, h in enumerate(header, 1) if not h]
    if blank:
        remedy = "name them, or delete them (commas at the end of every line make such columns)"
        errors.append(input_error(path, f"columns without a name: {', '.join(blank)}", remedy))
    for name in dict.fromkeys(h.upper() for h in header if h):
        same = [h for h in header if h.upper() == name]
        if len(same) > 1:
            problem = f"the column is there {len(same)} times ({', '.join(same)}): upper and lower case are one name"
            errors.append(input_error(path, problem, "keep one and delete or rename the others", column=name))
    if errors:
        raise InputError("\n".join(map(str, errors)))


def _frame(path: Path, frame: pd.DataFrame) -> RawTable:
    header = [str(c).strip() for c in frame.columns]
    if not header:
        raise input_error(path, "the file is empty", "give it columns and rows")
    _check_names(path, header)
    columns = {}
    for i, h in enumerate(header):
        column = frame.iloc[:, i]
        if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            columns[h.upper()] = column.to_numpy(dtype=float, na_value=np.nan)
        else:
            # Dates and whatever else there is become text here, and are refused where a number is wanted.
            values = column.astype(object)
            columns[h.upper()] = (
                values.where(values.notna(), "").map(lambda x: x if isinstance(x, str) else str(x)).to_numpy(object)
            )
    out = pd.DataFrame(columns)
    return RawTable(path, out, np.arange(1, len(out) + 1), False, {h.upper(): h for h in header})


def _parquet(path: Path, data: bytes) -> pd.DataFrame:
    if find_spec("pyarrow") is None:
        raise input_error(path, "reading Parquet needs pyarrow", "pip install 'mezikd[parquet]', or save it as CSV")
    if not data:
        raise input_error(path, "the file is empty", "copy or write it anew")
    try:
        return pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except Exception as error:  # whatever a foreign file makes the reader raise
        raise _damaged(path, error) from None


def _transport(path: Path, data: bytes) -> pd.DataFrame:
    """Return the one table of a SAS transport file, version 5 (what regulators take)."""
    if not data:
        raise input_error(path, "the file is empty", "copy or write it anew")
    if not data.startswith(XPT_HEADER):
        remedy = "write it as SAS transport version 5 (libname xport), or as CSV"
        raise input_error(path, "not a SAS transport file of version 5", remedy)
    if data.count(XPT_MEMBER) > 1:
        raise input_error(path, "holds more than one table", "write one file a table")
    if len(data) % XPT_RECORD or XPT_ROWS not in data:
        raise _damaged(path, f"{len(data)} bytes are not whole records of {XPT_RECORD}, or the rows are missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pd.read_sas(io.BytesIO(data), format="xport", encoding="utf-8", iterator=True) as reader:
                rows = len(data) - data.index(XPT_ROWS) - XPT_RECORD
                left = data[len(data) - rows % reader.record_length :] if rows % reader.record_length else b""  # pyright: ignore[reportAttributeAccessIssue]
                if left.strip(b" "):
                    raise _damaged(path, "the last row is cut off")
                if reader.nobs == 0:  # pyright: ignore[reportAttributeAccessIssue]
                    return pd.DataFrame(columns=reader.columns, dtype=object)  # pyright: ignore[reportAttributeAccessIssue]
                table = reader.read()
                # pandas takes the zero of IBM's format for the smallest number that the format has, 16^-65.
                return table.mask(table.map(lambda x: isinstance(x, float) and x == XPT_ZERO), 0.0)
    except InputError:
        raise
    except Exception as error:  # whatever a foreign file makes the reader raise
        raise _damaged(path, error) from None


def numbers(raw: RawTable, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as floats (NaN: missing) and which cells are no finite number and not missing."""
    cells = raw.frame[column].to_numpy()
    if cells.dtype != object:
        values = cells.astype(float)
        bad = np.isinf(values)
        return np.where(bad, np.nan, values), bad
    codes, found = pd.factorize(cells)
    stripped = [str(u).strip() for u in found]
    good = np.array([is_number(u) for u in stripped], dtype=bool)
    missing = np.array([u in MISSING for u in stripped], dtype=bool)
    values = np.array([float(u) if g else np.nan for u, g in zip(stripped, good, strict=True)], dtype=float)
    return values[codes], (~good & ~missing)[codes]


def texts(raw: RawTable, column: str) -> np.ndarray:
    """Return a column as stripped text, '' where missing; whole numbers without a decimal point."""
    cells = raw.frame[column].to_numpy()
    codes, found = pd.factorize(cells)
    if cells.dtype != object:
        words = [str(int(u)) if float(u).is_integer() else repr(float(u)) for u in found]
    else:
        words = ["" if str(u).strip() in MISSING else str(u).strip() for u in found]
    return np.array([*words, ""], dtype=object)[codes]
