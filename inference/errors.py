"""One way to tell a user what is wrong with what they gave: where, what, what is allowed, and the remedy."""

import difflib
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
    # A value that the user typed may hold line breaks; the message stays one line whatever it quotes.
    return InputError(" ".join("; ".join(parts).split()))


def shown(value: object, limit: int = 60) -> str:
    """Return ``value`` quoted for a message, cut at ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def nearest_first(word: str, known: Iterable[str]) -> list[str]:
    """Return ``known`` sorted by likeness to ``word``, most alike first."""

    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), candidate.lower()).ratio()

    return sorted(known, key=likeness, reverse=True)
