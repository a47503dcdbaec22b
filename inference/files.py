"""Text files as a user gives them."""

from pathlib import Path

from .errors import input_error


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    InputError: no such file, not readable, or not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise input_error(path, "there is no such file", "put it there, or name another folder") from None
    except OSError as error:
        raise input_error(path, f"cannot be read ({error.strerror})", "give a readable file") from None
    remedy = "save it as UTF-8 text (in a spreadsheet: 'CSV UTF-8, comma delimited')"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise input_error(path, "not UTF-8 text", remedy, line=line) from None
    if "\0" in text:
        raise input_error(path, "holds NUL characters", remedy, line=text[: text.index("\0")].count("\n") + 1)
    return text
