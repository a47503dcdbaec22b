"""`mezikd sensitivity`: what rests on which assumption, prior and reported number."""

from pathlib import Path
from typing import Annotated

import typer

from .cluster import Cluster, check_refits, cluster_workers
from .errors import input_error
from .places import built_in_fit, find_posterior
from .results_folder import writing_to


def sensitivity(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    fit: Annotated[
        Path | None,
        typer.Argument(help="posterior.nc of a fit, or the folder that holds it [default: the shipped posterior]."),
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws that are weighted, 40 to 100000.")] = 300,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Sample the posterior under each alternative with k-hat above 0.7: one to two minutes each."
        ),
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin refits anew instead of resuming.")] = False,
    cluster: Cluster = None,
) -> None:
    """Change one assumption at a time, power-scale priors and numbers, and tell which number moves what.

    Posterior draws are moved and weighted; k-hat in the tables says how far to trust that. --refit samples anew where it
    says no.

    Example: mezikd sensitivity runs/successor2 --out runs/sensitivity

    Example: mezikd sensitivity runs/successor2 --refit --out runs/sensitivity
    """
    if not 40 <= draws <= 100_000:
        raise input_error("--draws", f"value {draws} is not allowed", "give another value", allowed="40 to 100000")
    check_refits(cluster, refit)
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    with writing_to(out), cluster_workers(cluster) as pool:
        from .sensitivity_run import run_sensitivity

        run_sensitivity(posterior, out, draws, refit, restart, pool)
