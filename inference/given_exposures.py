"""Exposures from an earlier PK analysis, in fits of the arrest model: one a patient (adsl), or one a record of doses (adex).

The course of a patient depends on dose x exposure alone, so a day counts its exposure over that of 1 mg in the reference, whatever
share of that is called the patient's own. With r = exposure / (dose x reference) of each record it is here

    own exposure e = sum(dose days r) / sum(dose days)      what 1 mg is to the patient, on average: that of doses to come
    a record's mg count r / e times                         dose (r / e) e = exposure / reference
"""

from pathlib import Path

import numpy as np

from .arrest_settings import Prior
from .errors import input_error
from .patient_data import BY_RECORD, PatientData

FAR = 20.0
"""Times the reference: a median exposure beyond is likely to be in another unit."""


def given_exposures(
    folder: Path, given: Prior, tables: PatientData, dosed: np.ndarray
) -> tuple[np.ndarray, np.ndarray | float]:
    """Return the log of each patient's exposure to 1 mg over the reference, and what the mg of each record of doses count.

    ``patients`` (0 for those who take no dose), and ``records`` of tables.exposure, or 1 where exposures are by patient.

    Raises
    ------
    InputError: a column that is not there, a patient with a dose and without an exposure, or a reference in another unit.
    """
    path = folder / "fit.toml"
    if BY_RECORD not in tables.exposure:
        relative = _of_patients(path, given, tables, dosed)
        _check_unit(path, given, relative[dosed])
        return np.log(relative), 1.0
    if given.dose is not None:
        problem = (
            f"dose '{given.dose}' of exposure: column '{given.column}' is of adex, where each exposure is of EXDOSE"
        )
        raise input_error(path, problem, "leave dose out")
    mg, days, who = (tables.exposure[c].to_numpy(float) for c in ("taken_mg", "days", "patient"))
    taken = mg > 0.0
    each = np.where(taken, tables.exposure[BY_RECORD].to_numpy(float), 0.0) / (given.reference or 1.0)
    exposure, dose = (np.bincount(who.astype(int), x * days, len(tables.ids)) for x in (each, mg))
    relative = np.where(dose > 0.0, exposure, 1.0) / np.where(dose > 0.0, dose, 1.0)
    _check_unit(path, given, relative[dose > 0.0])
    return np.log(relative), np.where(taken, each, 1.0) / np.where(taken, mg, 1.0) / relative[who.astype(int)]


def _of_patients(path: Path, given: Prior, tables: PatientData, dosed: np.ndarray) -> np.ndarray:
    """Return each patient's exposure to 1 mg over the reference; 1 for patients who take no dose."""
    columns, known = (given.column, given.dose), tables.covariates
    values = []
    for column in (c for c in columns if c is not None):
        if column not in known or known[column].dtype.kind != "f":
            raise input_error(
                path, f"column '{column}' of exposure cannot be used", "name a column of numbers of adsl, or of adex",
                allowed=f"of adsl {', '.join(str(c) for c in known if known[c].dtype.kind == 'f') or 'none'}",
            )  # fmt: skip
        x = known.loc[list(tables.ids), column].to_numpy(float)
        if (bad := np.flatnonzero(dosed & ~(x > 0.0))).size:
            patient, value = tables.ids[bad[0]], x[bad[0]]
            problem = f"column '{column}' of exposure: patient {patient} takes doses and has {'no value' if np.isnan(value) else f'{value:g}'}"
            remedy = "complete it, or leave the patient out: an exposure that is given is not estimated for anybody"
            raise input_error(path, problem, remedy, allowed="above 0 for every patient with a dose")
        values.append(np.where(dosed, x, 1.0))
    of_dose = values[1] if given.dose is not None else 1.0
    return np.where(dosed, values[0] / of_dose / (given.reference or 1.0), 1.0)


def _check_unit(path: Path, given: Prior, relative: np.ndarray) -> None:
    """Raise InputError where the exposures of patients with doses are far from the reference."""
    if len(relative) and not 1.0 / FAR <= np.median(relative) <= FAR:
        problem = f"exposure: the median of column '{given.column}', for 1 mg, is {np.median(relative):.3g} times the reference"
        remedy = "give as reference the typical exposure of a dose of 1 mg, in the unit of the column"
        raise input_error(path, problem, remedy, allowed=f"{1.0 / FAR:g} to {FAR:g}")
