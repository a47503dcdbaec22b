"""From patients' tables and settings to the log-density and what it is given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import OBSERVATION, OTHER, Records
from mezikd.model.mesh import Mesh, Read, mesh
from mezikd.model.population import Information

from .covariate_columns import check_covariates, check_positive, multiplied
from .errors import input_error
from .patient_data import HOURS_PER_DAY, OBSERVABLES, PatientData
from .patient_settings import LAG, PatientFit
from .patient_target import Inputs, Observed, PatientTarget


def _observed(read: Read, table: pd.DataFrame, patients: int) -> dict[str, Observed]:
    """Return the observations by observable; ``read`` and ``table`` hold them all, in the same order."""
    place = table.groupby("patient").cumcount().to_numpy()
    who = table["patient"].to_numpy()
    below = table["censored"].to_numpy(bool)
    value = np.where(below, table["lloq"].to_numpy(float), table["value"].to_numpy(float))
    found = {}
    for name in OBSERVABLES:
        mine = (table["observable"] == name).to_numpy()
        if not mine.any():
            continue
        column = pd.Series(who[mine]).groupby(who[mine]).cumcount().to_numpy()
        shape = patients, int(column.max()) + 1
        # Padding reads the first state and counts nothing; 1 is a value whose logarithm is finite.
        values, low, counts = np.ones(shape), np.zeros(shape), np.zeros(shape)
        at, source = (who[mine], column), (who[mine], place[mine])
        where = [np.zeros(shape, np.asarray(x).dtype) for x in read]
        for mine_of, all_of in zip(where, read, strict=True):
            mine_of[at] = np.asarray(all_of)[source]
        values[at], low[at], counts[at] = value[mine], below[mine], 1.0
        found[name] = Observed(Read(*where), values, low, counts)
    return found


def steps_of(settings: PatientFit, tables: PatientData, records: list[Records]) -> tuple[Mesh, Read]:
    """Return the steps of patients with ``records`` in a fit of ``tables``, and where their observations lie.

    Where exposures are given, doses do nothing.

    Raises
    ------
    mezikd.model.dosing_events.Unsupported: records that the model does not handle.
    """
    m = settings.model
    if m.exposure is not None:
        records = [replace(r, evid=np.where(r.evid == OBSERVATION, r.evid, OTHER)) for r in records]
    marrow = bool((tables.observations["observable"] == "anc").any())
    before = HOURS_PER_DAY * m.steady_state_days if marrow else 0.0
    return mesh(records, m.first_step_hours, m.largest_step_hours, before, marrow, LAG in settings.parameters)


def check_columns(folder: Path, settings: PatientFit, tables: PatientData) -> None:
    """Raise InputError where a column of covariates, or of patients' own values, cannot be used.

    Nor can concentrations where an earlier analysis gave, or fit.toml fixes, all that they depend on, or the exposure itself.
    """
    check_covariates(folder, settings.parameters, tables)
    given = settings.given
    for name, column in given.items():
        check_positive(folder, tables, f"column '{column}' of {name}", column)
    exposure, seen = settings.model.exposure, set(tables.observations["observable"])
    if exposure is not None and "concentration" in seen:
        problem = f"holds concentrations, but counts are driven by column {exposure} ([model] exposure): there is no PK to fit to them"
        raise input_error(
            folder / settings.tables.file, problem, "set MDV to 1 in their rows, or fit PK: leave exposure out"
        )
    drug = [n for n in (*settings.model.pk, LAG) if n in settings.parameters]
    known = [n for n in drug if not (settings.parameters[n].prior_sd or settings.parameters[n].individual)]
    if set(given) & set(drug) and known == drug and "concentration" in seen:
        problem = (
            f"holds concentrations, but {', '.join(drug)} are all given or fixed: nothing is left to estimate from them"
        )
        remedy = "set MDV to 1 in their rows, or estimate one of these instead of giving its column"
        raise input_error(folder / settings.tables.file, problem, remedy)


def covariates_of(settings: PatientFit, tables: PatientData) -> dict[str, np.ndarray]:
    """Return what coefficients multiply, ``patients``, by 'parameter column' or 'parameter column level'."""
    return {f"{n} {t.key}": multiplied(t, tables) for n, p in settings.parameters.items() for t in p.terms}


def build(settings: PatientFit, tables: PatientData) -> tuple[PatientTarget, Inputs]:
    """Return the log-density and what it is given; effects not centred until a start says better.

    Raises
    ------
    mezikd.model.dosing_events.Unsupported: records that the model does not handle.
    """
    n = len(tables.ids)
    steps, read = steps_of(settings, tables, tables.records)
    observed = _observed(read, tables.observations, n)
    target = PatientTarget(settings, n, tuple(observed), bool(np.any(steps.rate)))
    k = len(target.effects)
    return target, Inputs(
        steps, observed, covariates_of(settings, tables), Information(np.zeros((n, k, k)), np.zeros((n, k)))
    )
