"""Priors that a fit changes: priors.csv, on top of the declared parameters."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pandera.pandas as pa

from .errors import input_error, nearest_first, shown
from .tables import NUMBER_REMEDY, column, is_number, read_table

SCHEMA = pa.DataFrameSchema(
    {
        "name": column(lambda c: c != "", "the name of a parameter", "give one"),
        "centre": column(is_number, "a number in the parameter's unit", NUMBER_REMEDY),
        "spread": column(
            lambda c: c == "" or (is_number(c) and float(c) > 0),
            "a number above 0 (SD on the log, logit or identity scale); blank for a fixed parameter",
            NUMBER_REMEDY,
        ),
        "source": column(lambda c: c != "", "any text", "say where this prior comes from"),
    }
)
SUPPORT = {"positive": (0.0, float("inf")), "unit": (0.0, 1.0), "real": (-float("inf"), float("inf"))}


class Declared(Protocol):
    """What a declared parameter tells about itself."""

    @property
    def name(self) -> str: ...
    @property
    def support(self) -> str: ...
    @property
    def fixed(self) -> bool: ...


def load_priors(folder: Path, declared: Iterable[Declared]) -> dict[str, tuple[float, float]]:
    """Return (centre, spread) of each parameter in ``folder``/priors.csv; empty without the file.

    Centre is the prior median in the parameter's unit; spread the SD on the scale of its support (log for
    positive, logit for unit, identity for real), 0 for a fixed parameter.

    Raises
    ------
    InputError: an unknown or repeated name, a centre outside the support, a spread that is not above 0, a
        spread for a fixed parameter, no source.
    """
    path = Path(folder) / "priors.csv"
    if not path.exists():
        return {}
    table = read_table(path, SCHEMA, name="name")
    known = {p.name: p for p in declared}
    priors: dict[str, tuple[float, float]] = {}
    for line, cells in zip(table.index, table.to_dict("records"), strict=True):
        name, spread = cells["name"], cells["spread"]

        def fault(where: str, problem: str, remedy: str, allowed: str, line=int(line), name=name):
            return input_error(path, problem, remedy, line=line, row=name, column=where, allowed=allowed)

        if name not in known:
            near = nearest_first(name, known)
            problem = f"unknown parameter {shown(name)} (nearest: {near[0]})"
            raise fault("name", problem, "correct the name", ", ".join(near))
        if name in priors:
            raise fault("name", f"value {shown(name)} is there twice", "delete one of the two", "each name once")
        low, high = SUPPORT[known[name].support]
        centre = float(cells["centre"])
        if not low < centre < high:
            allowed = f"above {low:g}" + (f" and below {high:g}" if high < float("inf") else "")
            raise fault("centre", f"value {cells['centre']} is outside the parameter's support", "correct it", allowed)
        if known[name].fixed and spread:
            raise fault("spread", f"value {spread}, but {name} is fixed", "leave it blank", "blank")
        if not known[name].fixed and not spread:
            raise fault("spread", "blank", "give the SD of the prior", "a number above 0")
        priors[name] = (centre, float(spread or 0))
    return priors
