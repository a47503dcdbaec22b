"""`mezikd compare`: structures side by side."""

from pathlib import Path
from typing import Annotated

import typer

from .cluster import Cluster, check_refits, cluster_workers
from .errors import input_error
from .places import find_posterior
from .results_folder import writing_to


def compare(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    fits: Annotated[list[Path], typer.Argument(help="Fits of the same numbers: two or more structures.")],
    draws: Annotated[int, typer.Option(help="Posterior draws of each, 40 to 100000.")] = 400,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Fit again without each group whose k-hat is above 0.7: five to ten minutes a fit."
        ),
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin refits anew instead of resuming.")] = False,
    cluster: Cluster = None,
) -> None:
    """Compare structures by how they predict reported numbers left out, and show what each predicts.

    A structure is chosen in fit.toml, [model], or by options of `mezikd fit`: --structure, --tumour, --infection. Where
    k-hat is above 0.7, a group's prediction is rough until the structure is fitted without the group (--refit).

    Example: mezikd compare runs/successor2 runs/kill runs/no_memory --out runs/structures

    Example: mezikd compare runs/successor2 runs/no_memory --refit --out runs/structures
    """
    if len(fits) < 2:
        raise input_error("FITS", "one fit", "name two or more, of different structures")
    if not 40 <= draws <= 100_000:
        raise input_error("--draws", f"value {draws} is not allowed", "give another value", allowed="40 to 100000")
    check_refits(cluster, refit)
    posteriors = [find_posterior(fit) for fit in fits]
    with writing_to(out), cluster_workers(cluster) as pool:
        from .structures_run import run_structures

        run_structures(posteriors, out, draws, refit, restart, pool)
