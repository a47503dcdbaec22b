"""Everything that is wrong with patient tables, told at once: one line a mistake, the first of every kind before the rest."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import InputError, input_error, shown
from .patient_files import RawTable

SHOWN = 20


@dataclass
class Mistakes:
    """Mistakes found so far in one or more tables."""

    limit: int = SHOWN
    found: list[tuple[int, int, int, InputError]] = field(default_factory=list)
    """Occurrence within its kind, table, place in it, the line; of each kind at most ``limit`` are kept."""
    total: int = 0
    tables: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def one(
        self, raw: RawTable, problem: str, remedy: str, *, column: str | None = None, allowed: str | None = None
    ) -> None:
        """Add a mistake of a whole table or column."""
        self._keep(
            raw, -1, f"{raw.path} {problem}", input_error(raw.path, problem, remedy, column=column, allowed=allowed)
        )

    def add(
        self,
        raw: RawTable,
        where: Any,
        column: str,
        problem: str | Callable[[int], str],
        remedy: str,
        *,
        patient: np.ndarray | None = None,
        allowed: str | None = None,
    ) -> None:
        """Add a mistake for each row of ``where`` (a mask, or row positions).

        Parameters
        ----------
        problem: words in which {value} stands for the cell; or a function of the row's position that returns them.
        patient: id of each row of the table.
        """
        where = np.asarray(where)
        rows = np.flatnonzero(where) if where.dtype == bool else where.astype(int)
        kind = f"{raw.path} {column} {remedy}"
        for i in rows[: self.limit].tolist():
            text = problem(i) if callable(problem) else problem.replace("{value}", shown(raw.cell(i, column)))
            line, row = raw.place(i)
            who = None if patient is None else _name(patient[i])
            error = input_error(raw.path, text, remedy, line=line, row=row, patient=who, column=column, allowed=allowed)
            self._keep(raw, i, kind, error)
        more = len(rows) - self.limit
        if more > 0:
            self.total += more
            self.kinds[kind] += more

    def _keep(self, raw: RawTable, place: int, kind: str, error: InputError) -> None:
        name = str(raw.path)
        if name not in self.tables:
            self.tables.append(name)
        self.found.append((self.kinds[kind], self.tables.index(name), place, error))
        self.kinds[kind] += 1
        self.total += 1

    def raise_if_any(self) -> None:
        """Raise one InputError of all mistakes, if there are any: up to ``limit`` lines, then "and N more"."""
        if not self.found:
            return
        # The first of each kind before the second of any: one mistake made in a thousand rows does not hide the others.
        chosen = sorted(self.found, key=lambda f: f[:3])[: self.limit]
        lines = [str(error) for *_, error in sorted(chosen, key=lambda f: f[1:3])]
        if self.total > len(lines):
            lines.append(f"and {self.total - len(lines)} more")
        raise InputError("\n".join(lines))


def _name(value: object) -> str:
    """Return an id for a message: as it is where it is plain, else quoted (control characters stay inert)."""
    text = str(value)
    plain = 0 < len(text) <= 40 and text.isprintable() and text == text.strip()
    return text if plain else shown(text)
