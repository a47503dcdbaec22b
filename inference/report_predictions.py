"""The folder that `mezikd predict` wrote, as the report shows it: predictions.csv and its figures."""

from itertools import groupby
from pathlib import Path

import pandera.pandas as pa

from .errors import input_error
from .report_pictures import Picture, embedded
from .report_tables import number
from .tables import NUMBER_REMEDY, column, is_number, one_of, read_table

WRITTEN_BY = "name the folder that `mezikd predict --out` wrote"


def _is_number_or_open(cell: str) -> bool:
    return cell in ("", "inf", "nan") or is_number(cell)


_TEXT = column(lambda c: c != "", "any text", WRITTEN_BY)
_NUMBER = column(_is_number_or_open, "a number, inf or blank", NUMBER_REMEDY)
SCHEMA = pa.DataFrameSchema(
    {
        "scenario": _TEXT, "arm": _TEXT, "outcome": _TEXT, "month": _NUMBER, "unit": _TEXT, "median": _NUMBER,
        "pi90_low": _NUMBER, "pi90_high": _NUMBER, "extrapolated": one_of(("True", "False", "true", "false")),
        "pi50_low": _NUMBER, "pi50_high": _NUMBER, "mc_error": _NUMBER,
    }
)  # fmt: skip
MOST_FIGURES = 12


def _shown(cell: str) -> str:
    return number(float(cell)) if cell else "–"


def _line(cells: dict) -> dict:
    return {
        "scenario": cells["scenario"], "arm": cells["arm"], "month": _shown(cells["month"]) if cells["month"] else "",
        "median": _shown(cells["median"]), "half": f"{_shown(cells['pi50_low'])} to {_shown(cells['pi50_high'])}",
        "most": f"{_shown(cells['pi90_low'])} to {_shown(cells['pi90_high'])}",
        "extrapolated": cells["extrapolated"].lower() == "true",
    }  # fmt: skip


def read_predictions(folder: Path) -> dict:
    """Return what the report prints of ``folder``: source, scenarios, groups (one an outcome), pictures.

    Raises
    ------
    InputError: no such folder or table, or a cell that is not what `mezikd predict` writes.
    """
    if not folder.is_dir():
        raise input_error("--predictions", f"there is no folder {folder}", WRITTEN_BY)
    path = folder / "predictions.csv"
    table = read_table(path, SCHEMA, name="scenario")
    if table.empty:
        raise input_error(path, "there is no row", WRITTEN_BY)
    order = {name: i for i, name in enumerate(dict.fromkeys(zip(table["outcome"], table["unit"], strict=True)))}
    rows = sorted(table.to_dict("records"), key=lambda c: order[c["outcome"], c["unit"]])
    groups = []
    for (outcome, unit), cells in groupby(rows, key=lambda c: (c["outcome"], c["unit"])):
        lines = [_line(c) for c in cells]
        has_month = any(x["month"] for x in lines)
        groups.append({"outcome": outcome, "unit": unit, "lines": lines, "has_month": has_month})
    return {
        "source": "predictions.csv",
        "scenarios": list(dict.fromkeys(table["scenario"])),
        "groups": groups,
        "pictures": _pictures(folder / "figures"),
    }


def _pictures(folder: Path) -> list[Picture]:
    paths = sorted(folder.glob("*.png"))[:MOST_FIGURES] if folder.is_dir() else []
    out = []
    for path in paths:
        title = path.stem.replace("_", " ").capitalize()
        alt = f"Figure of the predictions: {title}. The tables of this section give its numbers."
        out.append(embedded(path, title, alt, "From the folder of the predictions."))
    return out
