"""A checksum at the end of a file: a file cut off or with a flipped bit is told before anything reads it.

HDF5 takes a flipped bit in the data for data, and may crash on one in its own structures. Readers of HDF5 pass over what
follows the file that they know, so a sealed file stays an ordinary netCDF file.
"""

import hashlib
from pathlib import Path

from .errors import input_error

MARK = b"\nsha256:"
LENGTH = len(MARK) + 64


def seal(path: Path) -> None:
    """Append the SHA-256 of the file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    with path.open("ab") as file:
        file.write(MARK + digest)


def check_seal(path: Path, data: bytes, remedy: str) -> None:
    """Make sure that ``data``, the bytes of ``path``, is what was sealed.

    Without a seal a file passes. One that lost its seal, or the beginning of it, has kept what was sealed.

    Raises
    ------
    InputError: it is not.
    """
    body, end = data[:-LENGTH], data[-LENGTH:]
    if end.startswith(MARK) and hashlib.sha256(body).hexdigest().encode() != end.removeprefix(MARK):
        raise input_error(path, "damaged: the checksum at its end is that of other content", remedy)
