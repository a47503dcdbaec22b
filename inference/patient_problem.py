"""From patients' tables and settings to the log-density and what it is given."""

import numpy as np
import pandas as pd
from mezikd.model.mesh import Read, mesh
from mezikd.model.population import Information

from .patient_data import OBSERVABLES, PatientData
from .patient_settings import PatientFit
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
        step, elapsed = np.zeros(shape, int), np.zeros(shape)
        # Padding reads the first state and counts nothing; 1 is a value whose logarithm is finite.
        values, low, counts = np.ones(shape), np.zeros(shape), np.zeros(shape)
        at, source = (who[mine], column), (who[mine], place[mine])
        step[at], elapsed[at] = read.step[source], read.elapsed[source]
        values[at], low[at], counts[at] = value[mine], below[mine], 1.0
        found[name] = Observed(Read(step, elapsed), values, low, counts)
    return found


def build(settings: PatientFit, tables: PatientData) -> tuple[PatientTarget, Inputs]:
    """Return the log-density and what it is given; effects not centred until a start says better.

    Raises
    ------
    mezikd.model.dosing_events.Unsupported: records that the model does not handle.
    """
    n = len(tables.ids)
    steps, read = mesh(tables.records, settings.model.first_step_hours, settings.model.largest_step_hours)
    covariates = {
        f"{name} {c}": np.log(tables.covariates.loc[list(tables.ids), c].to_numpy(float) / v.reference)
        for name, p in settings.parameters.items()
        for c, v in p.covariates.items()
    }
    observed = _observed(read, tables.observations, n)
    target = PatientTarget(settings, n, tuple(observed), bool(np.any(steps.rate)))
    k = len(target.effects)
    return target, Inputs(steps, observed, covariates, Information(np.zeros((n, k, k)), np.zeros((n, k))))
