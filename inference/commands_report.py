"""`mezikd report`: one self-contained page of a fit."""

from pathlib import Path
from typing import Annotated

import typer

from .places import built_in_fit, find_posterior
from .results_folder import writing_to


def report(
    out: Annotated[Path, typer.Option(help="Folder for report.html; made if missing.")],
    fit: Annotated[
        Path | None,
        typer.Argument(help="posterior.nc of a fit, or the folder that holds it [default: the shipped posterior]."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder that `mezikd predict --out` wrote, to be included.")
    ] = None,
) -> None:
    """Write one self-contained page of a fit: data, model, diagnostics, check, parameters, scenarios, assumptions.

    Example: mezikd report runs/successor2 --predictions runs/doses --out runs/report
    """
    posterior = find_posterior(built_in_fit() if fit is None else fit)
    with writing_to(out):
        from .report import run_report

        run_report(posterior, out, predictions)
