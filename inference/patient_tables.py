"""Patient tables, whatever form they are in: one file (NONMEM-style), or a folder with ADaM-like tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .adam_files import find_tables
from .adam_tables import read_adam
from .errors import input_error
from .nonmem_tables import read_nonmem
from .patient_data import PatientData


def read_patients(
    path: Path,
    dvid: Mapping[int, str] | None = None,
    time_unit: str = "h",
    undosed: bool = False,
    positive: Sequence[str] = (),
    exposure: str | None = None,
) -> PatientData:
    """Return the patients of a NONMEM-style file (CSV, CSV.gz, Parquet, XPT) or of a folder with adsl and its kin.

    ``dvid``, ``time_unit``, ``undosed``: of a NONMEM-style file (nonmem_tables.read_nonmem); ``positive``: covariates that
    must be above 0; ``exposure``: column of exposures (adam_tables.read_adam, nonmem_tables.read_nonmem).

    Raises
    ------
    InputError: no such file or folder, or everything that is wrong with it, a line each, at most 20.
    """
    if not path.exists():
        raise input_error(path, "there is no such file or folder", "name a table, or a folder with adsl and its kin")
    if path.is_dir():
        if dvid is not None:
            raise input_error(
                "--dvid", f"given, but {path} is a folder of ADaM-like tables", "leave it out, or name one file"
            )
        return read_adam(find_tables(path), positive, exposure=exposure)
    return read_nonmem(path, dvid, time_unit, undosed, positive, exposure)
