"""`mezikd predict`: what a regimen, its rules or G-CSF would do."""

from pathlib import Path
from typing import Annotated

import typer

from .cluster import Cluster, cluster_workers
from .errors import input_error
from .places import built_in_fit, find_posterior
from .regimen_options import CycleDays, DaysOn, Dose, Fit, Rdi, Scenarios, regimen_given
from .results_folder import writing_to


def predict(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    fit: Fit = None,
    dose: Dose = None,
    days_on: DaysOn = None,
    cycle_days: CycleDays = None,
    rdi: Rdi = None,
    scenarios: Scenarios = None,
    draws: Annotated[int | None, typer.Option(help="Posterior draws [default: the file's, or 400].")] = None,
    patients: Annotated[int | None, typer.Option(help="Simulated patients a draw, even [default: 512].")] = None,
    months: Annotated[int | None, typer.Option(help="Months that are simulated, 1 to 60 [default: 24].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulation [default: 1].")] = None,
    structure: Annotated[
        str,
        typer.Option(help="Structure of the model: stacked (the mixture of those that fit equally), or one's name."),
    ] = "stacked",
    patient: Annotated[
        str | None,
        typer.Option(help="Patient of a fit to patients' own tables: the forecast after the end of its data."),
    ] = None,
    cluster: Cluster = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on with an unfinished run on a --cluster.")
    ] = False,
) -> None:
    """Predict neutropenia, infection, dose intensity and PFS under other regimens, dose rules and supportive care.

    Every scenario is compared with a reference, by default the fitted regimen, and with Kd.

    Example: mezikd predict --dose 0.6 --days-on 21 --cycle-days 28 --out runs/lower_dose

    With a fit to patients' own tables, --patient names the patient that is predicted: its next counts, and with the arrest
    model severe infection and progression, under the regimen (default: the last dose taken, 21/28, 6 months) and under none.

    Example: mezikd predict runs/successor2 --scenarios schedules --out runs/schedules

    Example: mezikd predict runs/my_patients --patient 3 --dose 0.6 --out runs/patient3
    """
    given = regimen_given(dose, days_on, cycle_days) | ({} if rdi is None else {"rdi": rdi})
    settings = {"draws": draws, "patients": patients, "horizon_months": months, "seed": seed}
    overrides = {name: value for name, value in settings.items() if value is not None}
    if fit is not None or patient is not None:
        posterior = find_posterior(built_in_fit() if fit is None else fit)
        others = {
            "--scenarios": scenarios,
            "--patients": patients,
            "--structure": None if structure == "stacked" else structure,
            "--cluster": cluster,
        }
        from .patient_regimen import of_a_patient, proposal_of

        if of_a_patient(posterior, patient, [name for name, value in others.items() if value is not None]):
            proposal = proposal_of(str(patient), given, overrides)
            with writing_to(out):
                from .patient_prediction import run_patient_prediction

                run_patient_prediction(posterior, proposal, out)
            return
    from .scenario_files import OPTIONS, read_scenarios, single_scenario

    if scenarios is not None and given:
        raise input_error(
            OPTIONS[next(iter(given))], "given beside --scenarios", "give one of them: write the regimen into the file"
        )
    source = read_scenarios(scenarios, overrides) if scenarios is not None else single_scenario(given, overrides)
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    with writing_to(out), cluster_workers(cluster) as pool:
        if pool is None and structure == "stacked":
            from . import programs

            programs.begin(posterior, source.request)
        from .predict import run_predict

        run_predict(posterior, source, out, structure, pool, restart)
