"""`mezikd tables`: read and check patients' own tables, and say what was understood."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from .errors import input_error, nearest_first, printable, shown
from .results_folder import OURS, writing_to

TIME_UNITS = ("h", "d")
KINDS = ("concentration", "anc")


def parse_dvid(text: str) -> dict[int, str]:
    """Return the observables by code that ``1=concentration,2=anc`` names.

    Raises
    ------
    InputError: anything else.
    """
    out: dict[int, str] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*=\s*(\w+)\s*", part, re.ASCII)
        if found is None:
            raise input_error("--dvid", f"{shown(part)} is no CODE=OBSERVABLE", "write it as 1=concentration,2=anc")
        code, name = int(found.group(1)), found.group(2).lower()
        if name not in KINDS:
            near = nearest_first(name, KINDS)[0]
            raise input_error(
                "--dvid", f"{shown(found.group(2))} is not known", f"did you mean {near}?", allowed=", ".join(KINDS)
            )
        if code in out:
            raise input_error("--dvid", f"code {code} is there twice", "give each code once")
        out[code] = name
    return out


def tables(
    path: Annotated[
        Path,
        typer.Argument(
            help="NONMEM-style table (.csv, .csv.gz, .parquet, .xpt), or a folder with ADaM-like adsl, adex, adlb, adae, adtte."
        ),
    ],
    dvid: Annotated[
        str | None,
        typer.Option(
            help="What the codes of DVID hold (of CMT where there is no DVID), such as 1=concentration,2=anc. "
            "Concentrations: amount unit of AMT per L; anc: 10^9/L. Needed for a NONMEM-style table."
        ),
    ] = None,
    time_unit: Annotated[str, typer.Option(help="Unit of TIME, II and RATE of a NONMEM-style table: h or d.")] = "h",
    undosed: Annotated[
        bool,
        typer.Option("--undosed", help="Patients without a dose are controls, not a mistake (NONMEM-style table)."),
    ] = False,
    positive: Annotated[
        str | None,
        typer.Option(help="Covariates that must be above 0, such as AGE,ALB; usual names of sizes are known."),
    ] = None,
    exposure: Annotated[
        str | None,
        typer.Option(
            help="Column of exposures that change in time (of a NONMEM-style table, or of adex), such as CAVG."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what was understood, as CSV; new or empty [default: write nothing].")
    ] = None,
) -> None:
    """Read patients' own tables, check them, and say what was understood.

    Every mistake in them is told at once, up to 20, each with file, line, patient, column, value and remedy.

    Example: mezikd tables trial.csv --dvid 1=concentration,2=anc

    Example: mezikd simulate --out runs/trial1 && mezikd tables runs/trial1 --out runs/understood
    """
    if time_unit not in TIME_UNITS:
        raise input_error(
            "--time-unit", f"{shown(time_unit)} is not known", "give one of them", allowed=", ".join(TIME_UNITS)
        )
    codes = None if dvid is None else parse_dvid(dvid)
    sizes = () if positive is None else tuple(p.strip() for p in positive.split(",") if p.strip())
    with nullcontext() if out is None else writing_to(out):
        if out is not None and any(p.name not in OURS for p in out.iterdir()):
            raise input_error("--out", f"{out} holds files already", "name another folder")
        from .patient_summary import summary, write_tables
        from .patient_tables import read_patients

        data = read_patients(path, codes, time_unit, undosed, sizes, exposure)
        for line in summary(data):
            typer.echo(printable(line))
        if out is not None:
            typer.echo(f"{out}: {', '.join(write_tables(data, out))} rows")
