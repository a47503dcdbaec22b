"""Where a command reads and writes: the shipped fit, a posterior file, the folder for results."""

import tempfile
from importlib import resources
from pathlib import Path

from .errors import input_error

POSTERIOR, OTHERS = "posterior.nc", "structures"
"""A fit's file, and the folder beside it with those of other structures (mixture.py)."""
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def built_in_fit() -> Path:
    """Return the folder of the fit that ships with the package."""
    return Path(str(resources.files("mezikd.fits"))) / "successor2"


def find_posterior(fit: Path) -> Path:
    """Return the posterior file of a fit, named itself or by its folder.

    Raises
    ------
    InputError: there is none, or it is no netCDF file.
    """
    path = fit / POSTERIOR if fit.is_dir() else fit
    if not path.is_file():
        raise input_error(path, "there is no such file", "name the folder that `mezikd fit --out` wrote")
    with path.open("rb") as file:
        if file.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
            raise input_error(path, "not a netCDF file", f"name the {POSTERIOR} that `mezikd fit --out` wrote")
    return path


def check_out(out: Path) -> None:
    """Make sure that results can be written to ``out``, and leave no trace there.

    Raises
    ------
    InputError: a file, a folder whose parent does not exist, or not writable.
    """
    if out.exists() and not out.is_dir():
        raise input_error("--out", f"{out} is a file", "name a folder")
    place = out if out.is_dir() else out.absolute().parent
    if not place.is_dir():
        raise input_error("--out", f"the folder {place} does not exist", f"make it first: mkdir -p {place}")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise input_error("--out", f"{place} is not writable ({error.strerror})", "name another folder") from None
