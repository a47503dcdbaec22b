"""From patients' tables and settings to the log-density and what it is given."""

from typing import Protocol

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import Records
from mezikd.model.mesh import Read, mesh

from .patient_settings import PatientFit
from .patient_target import OBSERVABLES, Inputs, Observed, PatientTarget


class Tables(Protocol):
    """What a fit needs of patients' tables (patient_data.py)."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Patients in order."""
        ...

    @property
    def records(self) -> list[Records]:
        """Records of each patient."""
        ...

    @property
    def observations(self) -> pd.DataFrame:
        """Columns patient, observable, value, censored, lloq: one line an EVID 0 row, in order of patients and rows."""
        ...

    @property
    def covariates(self) -> pd.DataFrame:
        """One line a patient, by id."""
        ...


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


def build(settings: PatientFit, tables: Tables) -> tuple[PatientTarget, Inputs]:
    """Return the log-density and what it is given; no effect centred until a start says better.

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
    target = PatientTarget(settings, n, bool(np.any(steps.rate)))
    k = len(target.effects)
    observed = _observed(read, tables.observations, n)
    return target, Inputs(steps, observed, covariates, np.zeros(k), np.arange(k))
