"""`mezikd calibrate`: is the truth where the intervals say?"""

from pathlib import Path
from typing import Annotated

import typer

from .cluster import Cluster, cluster_workers
from .errors import input_error
from .places import built_in_fit
from .results_folder import writing_to

NOT_CALIBRATED = 3


def calibrate(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with fit.toml, evidence.csv, priors.csv [default: the built-in fit]; or with the fit.toml of a "
            "fit of the arrest model to single patients."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Simulated trials, 20 to 100000.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed that fixes the trials, from 0.")] = 1,
    around: Annotated[
        str,
        typer.Option(
            help="'posterior': truths and prior are FOLDER/posterior.nc, widened; 'prior': the declared prior; "
            "or a posterior.nc."
        ),
    ] = "posterior",
    widen: Annotated[float, typer.Option(help="Posterior SDs of prior, 1 to 10; at most the declared prior.")] = 3.0,
    virtual_patients: Annotated[
        int, typer.Option(help="Virtual patients of the mezigdomide arm in each fit, half as many of Kd.")
    ] = 128,
    covariance_trials: Annotated[int, typer.Option(help="Simulated trials for each fit's covariance.")] = 200,
    only: Annotated[
        str | None,
        typer.Option(
            help="'covariance': leave out the fits of numbers as if independent, 3 of 10 seconds; the other fits are the same."
        ),
    ] = None,
    patients: Annotated[
        int | None, typer.Option(help="Fits to single patients: patients of a trial, 10 to 1000 [default: 40].")
    ] = None,
    cycles: Annotated[
        int | None, typer.Option(help="Fits to single patients: cycles until data cutoff, 2 to 24 [default: 6].")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of resuming.")] = False,
    cluster: Cluster = None,
) -> None:
    """Simulate trials with known parameters, fit each as a user would, and count how often intervals hold the truth.

    Each trial is fitted twice, with reported numbers as if independent and with their joint covariance. About half a minute a
    trial and core. An interrupted calibration goes on where it was. Exit code 3: done, but not calibrated.

    Where fit.toml has a section [tables] and structure "arrest", trials are drawn from its priors, and their patients' tables
    are fitted.

    Example: mezikd calibrate --trials 100 --out runs/calibration

    Example: mezikd calibrate my_patients --trials 20 --patients 40 --cycles 6 --out runs/patient_calibration
    """
    checks = (
        ("--patients", 40 if patients is None else patients, 10, 1000), ("--cycles", 6 if cycles is None else cycles, 2, 24),
        ("--trials", trials, 20, 100_000), ("--seed", seed, 0, 2**31 - 1), ("--widen", widen, 1.0, 10.0),
        ("--covariance-trials", covariance_trials, 100, 100_000),
    )  # fmt: skip
    for option, value, low, high in checks:
        if not low <= value <= high:
            raise input_error(option, f"value {value} is not allowed", "give another value", allowed=f"{low} to {high}")
    from .commands import validate
    from .patient_settings import has_tables

    folder = built_in_fit() if folder is None else folder
    if has_tables(folder):
        of_numbers = {"--around": around != "posterior", "--widen": widen != 3.0,
                      "--virtual-patients": virtual_patients != 128, "--covariance-trials": covariance_trials != 200,
                      "--only": only is not None}  # fmt: skip
        _refused(of_numbers, "is of fits to reported numbers", "--patients, --cycles")
        with writing_to(out), cluster_workers(cluster) as pool:
            good = _of_patients(folder, out, trials, patients or 40, cycles or 6, seed, restart, pool)
        if not good:
            raise typer.Exit(NOT_CALIBRATED)
        return
    of_patients = {"--patients": patients is not None, "--cycles": cycles is not None}
    _refused(of_patients, "is of fits to single patients", "--virtual-patients, --covariance-trials")
    if only not in (None, "covariance"):
        raise input_error("--only", f"value '{only}' is not allowed", "leave it out for both", allowed="covariance")
    validate(folder, {"virtual_patients": virtual_patients})
    posterior = None if around == "prior" else (folder / "posterior.nc" if around == "posterior" else Path(around))
    if posterior is not None and not posterior.is_file():
        remedy = "run `mezikd fit` and name its posterior.nc with --around, or give --around prior"
        raise input_error(posterior, "there is no such file", remedy)
    with writing_to(out), cluster_workers(cluster) as pool:
        from .calibrate import CHOSEN, run_calibrate
        from .calibration import VERSIONS

        good = run_calibrate(
            folder,
            posterior,
            out,
            trials,
            seed,
            virtual_patients,
            covariance_trials,
            widen,
            restart,
            pool,
            VERSIONS if only is None else (CHOSEN,),
        )
    if not good:
        raise typer.Exit(NOT_CALIBRATED)


def _refused(given: dict[str, bool], problem: str, allowed: str) -> None:
    """Raise InputError for the first option that is given and not of this kind of fit."""
    for option in (o for o, is_given in given.items() if is_given):
        raise input_error(option, problem, "leave it out", allowed=allowed)


def _of_patients(
    folder: Path, out: Path, trials: int, patients: int, cycles: int, seed: int, restart: bool, pool
) -> bool:
    """Calibrate the fit to single patients that fit.toml in ``folder`` describes."""
    from .arrest_settings import ArrestFit, is_arrest
    from .patient_calibrate import beyond_simulation, run_patient_calibrate
    from .patient_settings import load_patient_settings

    if not is_arrest(folder):
        remedy = 'calibrate a fit with structure = "arrest"'
        raise input_error(folder / "fit.toml", "no simulator makes tables with concentrations", remedy)
    settings = load_patient_settings(folder, ArrestFit)
    if (beyond := beyond_simulation(settings)) is not None:
        what, remedy = beyond
        raise input_error(folder / "fit.toml", f"{what}: trials are simulated without it", remedy)
    return run_patient_calibrate(settings, out, trials, patients, cycles, seed, restart, pool)
