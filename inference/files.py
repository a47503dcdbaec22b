"""Text files as a user gives them, and files written whole or not at all, whatever stops the writer."""

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import input_error, shown

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that no text needs, and that could steer a terminal; tabs and line breaks are not among them."""


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
    except ValueError:  # a NUL character, which no system takes in a name
        raise input_error(shown(str(path)), "is no name of a file", "name another") from None


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
    if found := CONTROL.search(text):
        line = text[: found.start()].count("\n") + 1
        called = "NUL" if found[0] == "\0" else f"control ({found[0]!r})"
        raise input_error(path, f"holds {called} characters", remedy, line=line)
    return text


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    InputError: no such file, not readable, or not UTF-8 text.
    """
    return decoded(path, read_bytes(path))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file under another name, and give it its own when it is complete and on the disk.

    Killed or failing at any moment it leaves ``path`` as it was, or new and whole.
    """
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        to_disk(part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlast a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_pickle(path: Path, value: object) -> None:
    """Write ``value`` and its SHA-256 for ``load_pickle``."""
    data = pickle.dumps(value)
    write_whole(path, lambda p: p.write_bytes(hashlib.sha256(data).digest() + data))


def load_pickle(path: Path) -> Any:
    """Return what ``save_pickle`` wrote, or None where there is nothing, or nothing whole."""
    if not path.exists():
        return None
    digest, data = (whole := path.read_bytes())[:32], whole[32:]
    return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None
