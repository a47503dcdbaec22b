"""Which structures predictions come from: one, or the stacked mixture of those that fit equally well (structures.py).

A fit whose folder also holds structures.csv, as `mezikd compare` writes it, predicts from the mixture by its weights; the
other structures' posteriors lie beside it in structures/.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from .errors import input_error, shown
from .figures_course import thinned
from .posterior_file import load
from .prediction import allocated
from .problem import Problem
from .structures import structure_name

TABLE, FOLDER, STACKED = "structures.csv", "structures", "stacked"
LEAST = 0.01
"""Weight below which a structure is left out of the mixture."""


class Member(NamedTuple):
    """One structure of a prediction."""

    name: str
    problem: Problem
    z: np.ndarray
    """Coordinates of its draws, shape ``(draws, parameter)``."""


def file_of(folder: Path, name: str) -> Path:
    """Return where the posterior of a structure lies beside another one's."""
    return folder / FOLDER / f"{name.replace(', ', '_').replace(' ', '_')}.nc"


def weights_beside(posterior: Path) -> dict[str, float]:
    """Return the weights of the structures by name; empty without structures.csv beside the posterior."""
    path = posterior.parent / TABLE
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path).drop_duplicates("structure")
        weights = {str(k): float(v) for k, v in zip(table["structure"], table["weight"], strict=True)}
    except (KeyError, ValueError) as error:
        raise input_error(path, f"cannot be read ({error})", "write it again: mezikd compare") from None
    return {k: v for k, v in weights.items() if v >= LEAST}


def members(posterior: Path, tree: xr.DataTree, problem: Problem, draws: int, structure: str) -> list[Member]:
    """Return the structures to predict from, ``draws`` draws among them by weight.

    Parameters
    ----------
    structure: 'stacked', or the name of one structure. Without structures.csv the fit's own is all there is.

    Raises
    ------
    InputError: an unknown structure, or a posterior that is missing.
    """
    own, weights = structure_name(problem.settings.model), weights_beside(posterior)
    known = [STACKED, *(weights or [own])]
    if structure not in (*known, own):
        raise input_error("--structure", f"value {shown(structure)} is not known", "name one", allowed=", ".join(known))
    if structure != STACKED or not weights:
        weights = {own if structure == STACKED else structure: 1.0}
    counts = np.bincount(allocated(tuple(weights.values()), draws), minlength=len(weights))
    found = []
    for name, count in zip(weights, counts, strict=True):
        if not count:
            continue
        if name == own:
            found.append(Member(name, problem, thinned(tree, int(count))))
            continue
        path = file_of(posterior.parent, name)
        if not path.is_file():
            raise input_error(path, "there is no such file", "write it again: mezikd compare, or --structure another")
        other, of = load(path)
        found.append(Member(name, of, thinned(other, int(count))))
    return found


def said(found: list[Member]) -> str:
    """Return one line that says which structures a prediction comes from."""
    total = sum(len(m.z) for m in found)
    if len(found) == 1:
        return f"Structure: {found[0].name}."
    parts = ", ".join(f"{m.name} {100 * len(m.z) / total:.0f} %" for m in found)
    return (
        f"Structures: stacked mixture of {parts} of the draws. They predict the reported numbers equally well and other "
        "regimens differently (structures.csv); --structure picks one."
    )
