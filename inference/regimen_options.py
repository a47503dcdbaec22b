"""Options that `mezikd predict` and `mezikd simulate` share: the fit, the regimen, the scenario file."""

from pathlib import Path
from typing import Annotated

import typer

Fit = Annotated[
    Path | None,
    typer.Argument(help="posterior.nc of a fit, or the folder that holds it [default: the shipped posterior]."),
]
Dose = Annotated[float | None, typer.Option("--dose", help="Planned dose, mg [default: as fitted].")]
DaysOn = Annotated[
    int | None, typer.Option("--days-on", help="Dosing days from day 1 of a cycle [default: as fitted].")
]
CycleDays = Annotated[
    int | None, typer.Option("--cycle-days", help="Days of a cycle, a multiple of 7 [default: as fitted].")
]
Rdi = Annotated[
    float | None,
    typer.Option(
        "--rdi", help="Relative dose intensity set for every patient, up to 1 [default: it emerges from the rules]."
    ),
]
Scenarios = Annotated[
    Path | None,
    typer.Option(
        "--scenarios",
        help="Scenario file (TOML) with regimens, rules or G-CSF, or the name of a shipped one: doses, schedules, "
        "dose_intensity, rules, gcsf, grid.",
    ),
]


def regimen_given(dose: float | None, days_on: int | None, cycle_days: int | None) -> dict[str, float | int]:
    """Return what was given of the regimen, by key of a scenario."""
    asked = {"dose_mg": dose, "days_on": days_on, "cycle_days": cycle_days}
    return {name: value for name, value in asked.items() if value is not None}
