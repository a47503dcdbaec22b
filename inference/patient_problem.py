"""From patients' tables and settings to the log-density and what it is given."""

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import Records
from mezikd.model.mesh import Mesh, Read, mesh
from mezikd.model.population import Information

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

    Raises
    ------
    mezikd.model.dosing_events.Unsupported: records that the model does not handle.
    """
    m = settings.model
    marrow = bool((tables.observations["observable"] == "anc").any())
    before = HOURS_PER_DAY * m.steady_state_days if marrow else 0.0
    return mesh(records, m.first_step_hours, m.largest_step_hours, before, marrow, LAG in settings.parameters)


def covariates_of(settings: PatientFit, tables: PatientData) -> dict[str, np.ndarray]:
    """Return what coefficients multiply, ``patients``, by 'parameter column' or 'parameter column level'.

    log(x / reference) of a power; 1 for patients of the level of a category, else 0.
    """
    found = {}
    for name, p in settings.parameters.items():
        for t in p.terms:
            values = tables.covariates.loc[list(tables.ids), t.column]
            if t.kind == "power":
                found[f"{name} {t.key}"] = np.log(values.to_numpy(float) / (p.covariates[t.column].reference or 1.0))
            else:
                found[f"{name} {t.key}"] = np.array([x == t.level for x in in_words(pd.Series(values))], float)
    return found


def in_words(values: pd.Series) -> list[str]:
    """Return a covariate as text, numbers as short as they can be; blank where missing."""
    return ["" if pd.isna(x) else f"{x:g}" if isinstance(x, float) else str(x).strip() for x in values]


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
