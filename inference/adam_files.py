"""Which ADaM-like tables a folder holds."""

from pathlib import Path

from .errors import InputError, input_error
from .patient_files import SUFFIXES

NAMES = ("adsl", "adex", "adlb", "adae", "adtte")


def find_tables(folder: Path) -> dict[str, Path]:
    """Return the ADaM-like tables of a folder by name; names in any case.

    Raises
    ------
    InputError: none of them, no adsl, nothing but adsl, or one of them in two formats.
    """
    found: dict[str, list[Path]] = {}
    for p in sorted(folder.iterdir()):
        for name in NAMES:
            if p.name.lower() in [name + s for s in SUFFIXES]:
                found.setdefault(name, []).append(p)
    wanted = f"{', '.join(NAMES)} as {', '.join(SUFFIXES)}"
    if not found:
        raise input_error(
            folder,
            "the folder holds none of the tables",
            "name the folder that holds them, or one NONMEM-style file",
            allowed=wanted,
        )
    errors = [
        input_error(
            folder, f"{name} is there {len(paths)} times ({', '.join(p.name for p in paths)})", "keep one of them"
        )
        for name, paths in found.items()
        if len(paths) > 1
    ]
    if "adsl" not in found:
        errors.append(input_error(folder, "there is no adsl, the table of subjects", "add it", allowed=wanted))
    elif not {"adlb", "adae", "adtte"} & set(found):
        errors.append(
            input_error(folder, "there is nothing observed: no adlb, adae or adtte", "add one of them", allowed=wanted)
        )
    if errors:
        raise InputError("\n".join(map(str, errors)))
    return {name: paths[0] for name, paths in found.items()}
