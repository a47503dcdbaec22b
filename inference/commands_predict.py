"""`mezikd predict`: what a regimen, its rules or G-CSF would do."""

from pathlib import Path
from typing import Annotated

import typer

from .errors import input_error
from .places import built_in_fit, check_out, find_posterior


def predict(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    fit: Annotated[
        Path | None,
        typer.Argument(help="posterior.nc of a fit, or the folder that holds it [default: the shipped posterior]."),
    ] = None,
    dose: Annotated[float | None, typer.Option(help="Planned dose, mg [default: as fitted].")] = None,
    days_on: Annotated[int | None, typer.Option(help="Dosing days from day 1 of a cycle [default: as fitted].")] = None,
    cycle_days: Annotated[
        int | None, typer.Option(help="Days of a cycle, a multiple of 7 [default: as fitted].")
    ] = None,
    rdi: Annotated[
        float | None,
        typer.Option(
            help="Relative dose intensity set for every patient, 0 to 1 [default: it emerges from the rules]."
        ),
    ] = None,
    scenarios: Annotated[
        Path | None,
        typer.Option(
            help="Scenario file (TOML), or the name of a shipped one: doses, schedules, dose_intensity, rules, gcsf, grid."
        ),
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Posterior draws [default: the file's, or 400].")] = None,
    patients: Annotated[int | None, typer.Option(help="Simulated patients a draw, even [default: 512].")] = None,
    months: Annotated[int | None, typer.Option(help="Months that are simulated, 1 to 60 [default: 24].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulation [default: 1].")] = None,
    structure: Annotated[
        str,
        typer.Option(help="Structure of the model: stacked (the mixture of those that fit equally), or one's name."),
    ] = "stacked",
) -> None:
    """Predict neutropenia, infection, dose intensity and PFS under other regimens, dose rules and supportive care.

    Every scenario is compared with a reference, by default the fitted regimen, and with Kd.

    Example: mezikd predict --dose 0.6 --days-on 21 --cycle-days 28 --out runs/lower_dose

    Example: mezikd predict runs/successor2 --scenarios schedules --out runs/schedules
    """
    regimen = {"dose_mg": dose, "days_on": days_on, "cycle_days": cycle_days, "rdi": rdi}
    given = {name: value for name, value in regimen.items() if value is not None}
    settings = {"draws": draws, "patients": patients, "horizon_months": months, "seed": seed}
    overrides = {name: value for name, value in settings.items() if value is not None}
    from .scenario_files import OPTIONS, read_scenarios, single_scenario

    if scenarios is not None and given:
        raise input_error(
            OPTIONS[next(iter(given))], "given beside --scenarios", "give one of them: write the regimen into the file"
        )
    source = read_scenarios(scenarios, overrides) if scenarios is not None else single_scenario(given, overrides)
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    check_out(out)
    from .predict import run_predict

    run_predict(posterior, source, out, structure)
