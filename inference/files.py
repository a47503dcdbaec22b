"""Text files as a user gives them, and files written whole or not at all."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import input_error


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    InputError: no such file, or not readable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise input_error(path, "there is no such file", "put it there, or name another folder") from None
    except OSError as error:
        raise input_error(path, f"cannot be read ({error.strerror})", "give a readable file") from None


def decoded(path: Path, data: bytes) -> str:
    """Return ``data``, the bytes of ``path``, as text; UTF-8 with or without a byte order mark.

    Raises
    ------
    InputError: not UTF-8 text.
    """
    remedy = "save it as UTF-8 text (in a spreadsheet: 'CSV UTF-8, comma delimited')"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise input_error(path, "not UTF-8 text", remedy, line=line) from None
    if "\0" in text:
        raise input_error(path, "holds NUL characters", remedy, line=text[: text.index("\0")].count("\n") + 1)
    return text


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    InputError: no such file, not readable, or not UTF-8 text.
    """
    return decoded(path, read_bytes(path))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file under another name, and give it its own when complete."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def save_pickle(path: Path, value: object) -> None:
    """Write ``value`` for ``load_pickle``."""
    write_whole(path, lambda p: p.write_bytes(pickle.dumps(value)))


def load_pickle(path: Path) -> Any:
    """Return what ``save_pickle`` wrote, or None where there is nothing whole."""
    try:
        return pickle.loads(path.read_bytes()) if path.exists() else None
    except (pickle.UnpicklingError, EOFError):
        return None
