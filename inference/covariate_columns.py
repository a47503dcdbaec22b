"""From columns of patients' tables to what coefficients of covariates multiply; what cannot be used is told."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from .covariates import Category, Term, WithCovariates
from .errors import input_error, shown
from .patient_data import PatientData


def check_covariates(folder: Path, parameters: Mapping[str, WithCovariates], tables: PatientData) -> None:
    """Raise InputError where a covariate is no column, has gaps or values that it cannot have, or a level of nobody."""
    for name, p in parameters.items():
        for column, c in p.covariates.items():
            if c.category is not None:
                _check_category(folder, tables, name, column, c.category)
            else:
                check_positive(folder, tables, f"covariate '{column}' of {name}", column)


def check_positive(folder: Path, tables: PatientData, what: str, column: str) -> np.ndarray:
    """Return the values of ``column``, ``patients``; ``what`` names it in the error.

    Raises
    ------
    InputError: it is no column of numbers above 0 without gaps.
    """
    known = tables.covariates
    if column not in known or known[column].dtype.kind != "f" or not (known[column] > 0).all():
        raise input_error(
            folder / "fit.toml", f"{what} cannot be used", "name a column of numbers above 0 without gaps",
            allowed=", ".join(str(c) for c in known if known[c].dtype.kind == "f") or "none in the table",
        )  # fmt: skip
    return known.loc[list(tables.ids), column].to_numpy(float)


def _check_category(folder: Path, tables: PatientData, name: str, column: str, category: Category) -> None:
    """Raise InputError where a category has a level that fit.toml or the table lacks, or a patient without one."""
    path, what = folder / "fit.toml", f"covariate '{column}' of {name}"
    if column not in tables.covariates:
        allowed = ", ".join(map(str, tables.covariates)) or "none in the table"
        raise input_error(path, f"{what} is no column of the table", "name one", allowed=allowed)
    words, levels = in_words(pd.Series(tables.covariates[column])), (category.reference, *category.levels)
    for patient, word in zip(tables.ids, words, strict=True):
        if word not in levels:
            problem = f"{what}: patient {patient} has {shown(word)}, which is no declared level"
            remedy = "declare the level in category.levels" if word else "give every patient a level"
            raise input_error(path, problem, remedy, allowed=", ".join(levels))
    if empty := [x for x in levels if x not in words]:
        known = ", ".join(sorted(set(words)))
        raise input_error(path, f"{what}: no patient has level {shown(empty[0])}", "leave it out", allowed=known)


def multiplied(term: Term, tables: PatientData) -> np.ndarray:
    """Return what the coefficient of ``term`` multiplies, ``patients``: log(x / reference), or 1 for patients of the level."""
    values = tables.covariates.loc[list(tables.ids), term.column]
    if term.kind == "power":
        return np.log(values.to_numpy(float) / term.reference)
    return np.array([x == term.level for x in in_words(pd.Series(values))], float)


def in_words(values: pd.Series) -> list[str]:
    """Return a covariate as text, numbers as short as they can be; blank where missing."""
    return ["" if pd.isna(x) else f"{x:g}" if isinstance(x, float) else str(x).strip() for x in values]
