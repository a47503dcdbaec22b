"""Which structures predictions come from: one, or the stacked mixture of those that fit equally well (structures.py).

A fit whose folder also holds structures.csv, as `mezikd compare` writes it, predicts from the mixture by its weights; the
other structures' posteriors lie beside it in structures/.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from .errors import input_error, shown
from .places import OTHERS
from .posterior_file import caution, load_draws
from .prediction import allocated
from .problem import Problem
from .structures import GROUPS
from .variants import structure_name

TABLE, STACKED = "structures.csv", "stacked"
LEAST = 0.01
"""Weight below which a structure is left out of the mixture."""
COLUMNS = ("structure", "left_out", "difference", "weight", "differs", "created_at")


class Member(NamedTuple):
    """One structure of a prediction."""

    name: str
    problem: Problem
    z: np.ndarray
    """Coordinates of its draws, shape ``(draws, parameter)``."""
    about: str = ""
    """How it fits and what it predicts, beside the best one."""
    caution: str = ""
    """As ``posterior_file.caution``."""


@dataclass(frozen=True)
class Compared:
    """What structures.csv says of each structure, by name."""

    path: Path
    lines: dict[str, dict]

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the mixture's structures."""
        return {name: float(x["weight"]) for name, x in self.lines.items() if float(x["weight"]) >= LEAST}

    def about(self, name: str) -> str:
        """Return how a structure fits and what it predicts, beside the best one."""
        x = self.lines[name]
        if float(x["difference"]) == 0.0:
            return "the best by prediction of numbers left out"
        if np.isnan(float(x["difference"])):
            return "not compared: its fit misses the convergence gate"
        differs = f"; {x['differs']}" if isinstance(x["differs"], str) and x["differs"] else "; predicts about the same"
        return f"elpd {float(x['difference']):+.1f}{differs}"

    def check(self, name: str, tree: xr.DataTree, posterior: Path) -> None:
        """Make sure that a posterior is the one that was compared.

        Raises
        ------
        InputError: it was made at another time.
        """
        if str(tree.attrs.get("created_at")) != str(self.lines[name]["created_at"]):
            raise input_error(
                self.path, f"compares another fit of '{name}' than {posterior}",
                "write it again: mezikd compare, or name one: --structure",
            )  # fmt: skip


def file_of(folder: Path, name: str) -> Path:
    """Return where the posterior of a structure lies beside another one's."""
    return folder / OTHERS / f"{re.sub(r'\W+', '_', name)}.nc"


def compared_beside(posterior: Path) -> Compared:
    """Return what structures.csv beside the posterior says; nothing without it.

    Raises
    ------
    InputError: the table cannot be read, a column is missing, or weights do not add up to 1.
    """
    path = posterior.parent / TABLE
    if not path.is_file():
        return Compared(path, {})
    remedy = "write it again: mezikd compare"
    try:
        table = pd.read_csv(path)
        whole = table.loc[table["left_out"] == GROUPS, list(COLUMNS)]
        lines = {str(x["structure"]): x for x in whole.to_dict("records")}
        total = sum(float(x["weight"]) for x in lines.values())
    except (KeyError, ValueError) as error:
        raise input_error(path, f"cannot be read ({error})", remedy) from None
    if not abs(total - 1.0) < 1e-3:
        raise input_error(path, f"weights add up to {total:.4g}", remedy, column="weight", allowed="a sum of 1")
    return Compared(path, lines)


def spaced(tree: xr.DataTree, draws: int) -> np.ndarray:
    """Return ``draws`` evenly spaced draws of the coordinates, shape ``(draws, parameter)``.

    Where fewer were kept, some come twice, so that the mixture has its weights; patients and luck are new each time.
    """
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    flat = z.reshape(-1, z.shape[-1])
    return flat[np.floor((np.arange(draws) + 0.5) * len(flat) / draws).astype(int)]


def members(posterior: Path, tree: xr.DataTree, problem: Problem, draws: int, structure: str) -> list[Member]:
    """Return the structures to predict from, ``draws`` draws among them by weight.

    Parameters
    ----------
    structure: 'stacked', or the name of one structure. Without structures.csv the fit's own is all there is.

    Raises
    ------
    InputError: an unknown structure, a posterior that is missing, or one that is not the one compared.
    """
    own, compared = structure_name(problem.settings.model), compared_beside(posterior)
    known = list(dict.fromkeys([STACKED, own, *compared.lines]))
    if structure not in known:
        raise input_error("--structure", f"value {shown(structure)} is not known", "name one", allowed="; ".join(known))
    if structure == own or not compared.lines:
        return [Member(own, problem, spaced(tree, draws), caution=caution(tree))]
    if compared.lines and own not in compared.lines:
        raise input_error(
            compared.path, f"says nothing of '{own}', the fit beside it", "write it again: mezikd compare"
        )
    weights = compared.weights if structure == STACKED else {structure: 1.0}
    counts = np.bincount(np.asarray(allocated(tuple(weights.values()), draws)), minlength=len(weights))
    found = []
    for name, count in zip(weights, counts, strict=True):
        if not count:
            continue
        at, other, of = posterior, tree, problem
        if name != own:
            at = file_of(posterior.parent, name)
            if not at.is_file():
                raise input_error(at, "there is no such file", "write it again: mezikd compare, or --structure another")
            other, of = load_draws(at)
        compared.check(name, other, at)
        found.append(Member(name, of, spaced(other, int(count)), compared.about(name), caution(other)))
    return found


def alone(posterior: Path, problem: Problem) -> str:
    """Return one line on the structure of a simulation from this posterior alone, and on those that it leaves out.

    Raises
    ------
    InputError: as ``compared_beside``.
    """
    own = structure_name(problem.settings.model)
    others = [name for name in compared_beside(posterior).weights if name != own]
    if not others:
        return f"{own}"
    return f"{own} alone; predictions also draw from {'; '.join(others)}, which fit about equally well (structures.csv)"


def said(found: list[Member]) -> str:
    """Return one line that says which structures a prediction comes from, and which fits missed their gate."""
    return " ".join([_structures(found), *(f"**{m.name}: {m.caution}**" for m in found if m.caution)])


def _structures(found: list[Member]) -> str:
    total = sum(len(m.z) for m in found)
    if len(found) == 1:
        return f"Structure: {found[0].name}{f' ({found[0].about})' if found[0].about else ''}."
    parts = "; ".join(f"{m.name}, {100 * len(m.z) / total:.0f} % of the draws ({m.about})" for m in found)
    return (
        f"Structures: stacked mixture of {parts}. They predict reported numbers left out about equally well "
        "(structures.csv); --structure picks one."
    )
