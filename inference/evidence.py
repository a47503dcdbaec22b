"""The reported numbers of a trial: evidence.csv, checked and frozen."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from math import nan
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from .errors import input_error
from .evidence_rules import RULES
from .settings import FitSettings
from .tables import NUMBER_REMEDY, column, is_number, one_of, read_table
from .vocabulary import ARMS, SUBGROUPS

NOT_REACHED = "NR"
NUMERIC = ("value", "low", "high", "denominator")


def _is_id(cell: str) -> bool:
    return cell.isidentifier() and cell.isascii()


SCHEMA = pa.DataFrameSchema(
    {
        "id": column(_is_id, "letters, digits and _, not a digit first", "give the row such a name"),
        "arm": one_of(ARMS),
        "subgroup": one_of(SUBGROUPS),
        # Whether an outcome is known needs its statistic too: evidence_rules.
        "outcome": column(lambda c: c != "", "a known outcome", "see the table of outcomes in fits/README.md"),
        "statistic": one_of(("count", "quartiles", "median", "hazard_ratio", "survival_probability")),
        "value": column(lambda c: is_number(c) or c == NOT_REACHED, "a number, or NR (not reached)", NUMBER_REMEDY),
        **{
            bound: column(
                lambda c: is_number(c) or c in ("", NOT_REACHED),
                "a number, NR (not reached) or blank",
                NUMBER_REMEDY,
            )
            for bound in ("low", "high")
        },
        "interval": one_of(("ci95", "iqr", "sd", "sem", "none")),
        "denominator": column(
            lambda c: c == "" or (is_number(c) and float(c) >= 1 and float(c).is_integer()),
            "a whole number from 1, or blank",
            "give the number of patients that the source counts out of",
        ),
        "unit": column(lambda c: c != "", "the unit of the outcome", "see the table of outcomes in fits/README.md"),
        "where": column(lambda c: c != "", "any text", "say where in the source the number stands"),
        "role": one_of(("fit", "check")),
        "given": column(lambda c: c == "" or _is_id(c), "the id of another row, or blank", "give its id"),
    }
)
COLUMNS = tuple(SCHEMA.columns)


@dataclass(frozen=True)
class Row:
    """One reported number."""

    id: str
    arm: str
    subgroup: str
    outcome: str
    statistic: str
    value: float
    """Count, median (also of quartiles), hazard ratio; NaN where not reached."""
    low: float
    """Lower bound of ``interval``; NaN where blank or not reached."""
    high: float
    """Upper bound of ``interval``; NaN where blank or not reached."""
    interval: str
    denominator: float
    """Patients that the number is out of; NaN where blank."""
    unit: str
    where: str
    role: str
    given: str
    """Id of the row whose patients this row is conditional on; empty where none."""
    line: int
    """Line in evidence.csv."""
    not_reached: tuple[str, ...] = ()
    """Those of ``value``, ``low`` and ``high`` that the source reports as not reached."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Id, arm and subgroup: unique in a table."""
        return self.id, self.arm, self.subgroup

    @property
    def name(self) -> str:
        """The key as one word, such as ``neutropenia_g34/mezikd/asia``."""
        return "/".join(self.key)


@dataclass(frozen=True)
class Evidence:
    """The rows of an evidence.csv, in its order."""

    rows: tuple[Row, ...]
    path: Path
    sha256: str
    """Hash of the file's bytes."""

    @cached_property
    def fit(self) -> tuple[Row, ...]:
        """Rows that are fitted."""
        return tuple(r for r in self.rows if r.role == "fit")

    @cached_property
    def check(self) -> tuple[Row, ...]:
        """Rows that are only compared with predictions."""
        return tuple(r for r in self.rows if r.role == "check")

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, str], Row]:
        return {row.key: row for row in self.rows}

    def get(self, id: str, arm: str, subgroup: str = "all") -> Row | None:
        """Return one row, or None."""
        return self._by_key.get((id, arm, subgroup))

    def find(self, id: str, arm: str, subgroup: str = "all") -> Row:
        """Return one row; KeyError where there is none."""
        return self._by_key[id, arm, subgroup]

    def given(self, row: Row) -> Row | None:
        """Return the row that ``row`` is conditional on: same arm, same subgroup or else all."""
        if not row.given:
            return None
        return self.get(row.given, row.arm, row.subgroup) or self.get(row.given, row.arm)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table with the columns of ``Row``."""
        return pd.DataFrame([asdict(row) for row in self.rows])


def load_evidence(folder: Path, settings: FitSettings) -> Evidence:
    """Return the reported numbers in ``folder``/evidence.csv.

    Parameters
    ----------
    folder: folder of the fit.
    settings: its settings; denominators must agree with the trial's size.

    Raises
    ------
    InputError: the first cell that is not what its column allows, or the first row that breaks a rule of
        evidence_rules.py.
    """
    path = Path(folder) / "evidence.csv"
    table = read_table(path, SCHEMA, name="id")
    if table.empty:
        raise input_error(path, "there is no row", "enter one line per reported number")
    rows = tuple(_row(cells, int(line)) for line, cells in zip(table.index, table.to_dict("records"), strict=True))
    evidence = Evidence(rows, path, hashlib.sha256(path.read_bytes()).hexdigest())
    for rule in RULES:
        for fault in rule(evidence, settings):
            raise input_error(
                path,
                fault.problem,
                fault.remedy,
                line=fault.row.line,
                row=fault.row.name,
                column=fault.column,
                allowed=fault.allowed,
            )
    return evidence


def _row(cells: dict, line: int) -> Row:
    numbers = {c: nan if cells[c] in ("", NOT_REACHED) else float(cells[c]) for c in NUMERIC}
    not_reached = tuple(c for c in NUMERIC if cells[c] == NOT_REACHED)
    return Row(**{**cells, **numbers}, line=line, not_reached=not_reached)
