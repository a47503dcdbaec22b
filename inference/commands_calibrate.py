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
        typer.Argument(help="Folder with fit.toml, evidence.csv, priors.csv [default: the built-in fit]."),
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
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of resuming.")] = False,
    cluster: Cluster = None,
) -> None:
    """Simulate trials with known parameters, fit each as a user would, and count how often intervals hold the truth.

    Each trial is fitted twice, with reported numbers as if independent and with their joint covariance. About a minute a
    trial and core. An interrupted calibration goes on where it was. Exit code 3: done, but not calibrated.

    Example: mezikd calibrate --trials 100 --out runs/calibration
    """
    checks = (
        ("--trials", trials, 20, 100_000), ("--seed", seed, 0, 2**31 - 1), ("--widen", widen, 1.0, 10.0),
        ("--covariance-trials", covariance_trials, 100, 100_000),
    )  # fmt: skip
    for option, value, low, high in checks:
        if not low <= value <= high:
            raise input_error(option, f"value {value} is not allowed", "give another value", allowed=f"{low} to {high}")
    from .commands import validate

    folder = built_in_fit() if folder is None else folder
    validate(folder, {"virtual_patients": virtual_patients})
    posterior = None if around == "prior" else (folder / "posterior.nc" if around == "posterior" else Path(around))
    if posterior is not None and not posterior.is_file():
        remedy = "run `mezikd fit` and name its posterior.nc with --around, or give --around prior"
        raise input_error(posterior, "there is no such file", remedy)
    with writing_to(out), cluster_workers(cluster) as pool:
        from .calibrate import run_calibrate

        good = run_calibrate(
            folder, posterior, out, trials, seed, virtual_patients, covariance_trials, widen, restart, pool
        )
    if not good:
        raise typer.Exit(NOT_CALIBRATED)
