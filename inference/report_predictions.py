"""The folder that `mezikd predict` wrote, as the report shows it: predictions, paired differences, figures."""

from itertools import groupby
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from .errors import input_error
from .figures_course import ARM_NAMES
from .report_pictures import Picture, embedded
from .report_tables import number
from .spreadsheet import original
from .tables import NUMBER_REMEDY, column, is_number, one_of, read_table

WRITTEN_BY = "name the folder that `mezikd predict --out` wrote"


def _is_number_or_open(cell: str) -> bool:
    return cell in ("", "inf", "-inf") or is_number(cell)


_TEXT = column(lambda c: c != "", "any text", WRITTEN_BY)
_NUMBER = column(_is_number_or_open, "a number, inf or blank", NUMBER_REMEDY)
_COMMON = {
    "scenario": _TEXT, "outcome": _TEXT, "month": _NUMBER, "unit": _TEXT, "median": _NUMBER, "pi90_low": _NUMBER,
    "pi90_high": _NUMBER, "extrapolated": one_of(("True", "False")), "pi50_low": _NUMBER, "pi50_high": _NUMBER,
    "mc_error": _NUMBER,
}  # fmt: skip
PREDICTIONS = pa.DataFrameSchema({"arm": _TEXT, **_COMMON})
DIFFERENCES = pa.DataFrameSchema(
    {"reference": _TEXT, **_COMMON, "better_if": one_of(("higher", "lower", "")), "p_better": _NUMBER}
)
FIGURES = {
    "dose_response": ("Outcomes over dose", "Curves of the main outcomes over the planned dose with their intervals."),
    "trade_off": (
        "Trade-off between benefit and risk",
        "Progression-free survival against severe infection, a point with intervals for each scenario.",
    ),
    "differences": ("Differences from the reference", "Each scenario's difference from the reference with its intervals."),
    "benefit_risk": ("Benefit and risk in one number", "Each scenario's weighted sum of benefit and risk with its intervals."),
}  # fmt: skip
"""Title and what is seen, by the name of a figure; others are named after their file."""
MOST_FIGURES = 12


def _shown(cell: str) -> str:
    return number(float(cell)) if cell else "–"


def _arm(cells: dict) -> str:
    """Return the arm in words; blank where the scenario has its name."""
    arm = str(cells.get("arm", ""))
    name = ARM_NAMES.get(arm, arm)
    return "" if name == cells["scenario"] else name


def _lines(cells: list[dict]) -> list[dict]:
    return [
        {
            "scenario": c["scenario"], "arm": _arm(c), "month": _shown(c["month"]) if c["month"] else "",
            "median": _shown(c["median"]), "half": f"{_shown(c['pi50_low'])} to {_shown(c['pi50_high'])}",
            "most": f"{_shown(c['pi90_low'])} to {_shown(c['pi90_high'])}", "extrapolated": c["extrapolated"] == "True",
            "better": _shown(c["p_better"]) if c.get("p_better") else "",
        }
        for c in cells
    ]  # fmt: skip


def _read(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    return read_table(path, schema, name="scenario").map(original)


def _groups(path: Path, schema: pa.DataFrameSchema) -> tuple[list[dict], list[str]]:
    """Return a table's lines by outcome, then by month, and its scenarios."""
    table = _read(path, schema)
    if table.empty:
        raise input_error(path, "there is no row", WRITTEN_BY)
    outcomes = {name: i for i, name in enumerate(dict.fromkeys(zip(table["outcome"], table["unit"], strict=True)))}
    rows = sorted(
        table.to_dict(orient="records"), key=lambda c: (outcomes[c["outcome"], c["unit"]], float(c["month"] or "inf"))
    )
    groups = []
    for (outcome, unit), cells in groupby(rows, key=lambda c: (c["outcome"], c["unit"])):
        lines = _lines(list(cells))
        told = {
            "has_month": any(x["month"] for x in lines), "has_arm": any(x["arm"] for x in lines),
            "has_better": any(x["better"] for x in lines),
        }  # fmt: skip
        groups.append({"outcome": outcome, "unit": unit, "lines": lines} | told)
    return groups, list(dict.fromkeys(table["scenario"]))


def read_predictions(folder: Path) -> dict:
    """Return what the report prints of ``folder``: scenarios, groups and differences (one an outcome), pictures.

    Raises
    ------
    InputError: no such folder or table, or a cell that is not what `mezikd predict` writes.
    """
    if not folder.is_dir():
        raise input_error("--predictions", f"there is no folder {folder}", WRITTEN_BY)
    groups, scenarios = _groups(folder / "predictions.csv", PREDICTIONS)
    paired = folder / "differences.csv"
    differences = _groups(paired, DIFFERENCES)[0] if paired.exists() else []
    reference = _read(paired, DIFFERENCES)["reference"].iloc[0] if differences else ""
    return {
        "scenarios": scenarios,
        "structures": _structures(folder / "summary.md"),
        "groups": groups,
        "differences": differences,
        "reference": reference,
        "pictures": _pictures(folder / "figures"),
    }


def _structures(summary: Path) -> str:
    """Return the line of summary.md that says which structures the predictions come from; empty without one."""
    lines = summary.read_text("utf-8", errors="replace").splitlines() if summary.is_file() else []
    return next((x for x in lines if x.startswith(("Structure: ", "Structures: "))), "")


def _pictures(folder: Path) -> list[Picture]:
    paths = sorted(folder.glob("*.png"))[:MOST_FIGURES] if folder.is_dir() else []
    out = []
    for path in paths:
        plain = path.stem.replace("_", " ").capitalize()
        title, seen = FIGURES.get(path.stem, (plain, f"Figure of the predictions: {plain}."))
        out.append(embedded(path, title, f"{seen} The tables of this section give the numbers.", ""))
    return out
