"""One way to tell a user what is wrong with what they gave: where, what, what is allowed, and the remedy."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class InputError(Exception):
    """A mistake in what the user gave: one line that says where, what and the remedy; several mistakes, several lines."""


def input_error(
    file: str | Path,
    problem: str,
    remedy: str,
    *,
    line: int | None = None,
    row: str | None = None,
    patient: str | None = None,
    column: str | None = None,
    allowed: str | None = None,
) -> InputError:
    """Return the error "file, line N, row ID, patient P, column C: problem; allowed: ...; remedy" as one line.

    ``file`` is a path, or an option of the command line such as ``--out``.
    """
    place = [str(file)]
    place += [f"line {line}"] if line is not None else []
    place += [f"row {row}"] if row is not None else []
    place += [f"patient {patient}"] if patient is not None else []
    place += [f"column {column}"] if column is not None else []
    parts = [f"{', '.join(place)}: {problem}"]
    parts += [f"allowed: {allowed}"] if allowed else []
    parts.append(remedy)
    return InputError(one_line("; ".join(parts)))


def system_error(error: OSError) -> InputError:
    """Return what the system refused, as one line: a full disk, a folder that is read-only, a name that is too long."""
    why = error.strerror or str(error)
    if error.errno is None and (found := re.search(r"error message = '([^']+)'", why)):  # of HDF5
        why = found[1]
    remedy = "make room, or name another place; what was there before is untouched"
    return input_error(shown(error.filename) if error.filename else "a file", f"not possible: {why}", remedy)


def printable(text: str) -> str:
    """Return ``text`` without what could steer a terminal: line breaks and control characters are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return ``text``, which may quote whatever a user typed, on one line, printable."""
    return printable(" ".join(text.split()))


def shown(value: object, limit: int = 60) -> str:
    """Return ``value`` quoted for a message, cut at ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def nearest_first(word: str, known: Iterable[str]) -> list[str]:
    """Return ``known`` sorted by likeness to ``word``, most alike first."""

    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    return sorted(known, key=likeness, reverse=True)
