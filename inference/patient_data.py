"""What is known of patients, whatever tables it came in: doses, observations, events, covariates in the model's units."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import DOSE, RESET_AND_DOSE, Records

HOURS_PER_DAY = 24.0
OBSERVABLES = ("concentration", "anc")
OBSERVATION_COLUMNS = ("patient", "id", "time", "observable", "value", "censored", "lloq", "source_row")
EVENT_COLUMNS = ("patient", "id", "kind", "time", "event", "grade", "reason")
EXPOSURE_COLUMNS = ("patient", "id", "start", "days", "planned_mg", "prescribed_mg", "taken_mg", "held")
BY_RECORD = "exposure"
"""Further column of the table of exposure, where the exposure of each record's dose is given."""
EVENT_KINDS = ("infection", "progression", "death", "pfs", "end of treatment")


@dataclass(frozen=True)
class PatientData:
    """Patients in the order of their first appearance. Time zero is the patient's own: study day 1, or TIME 0."""

    ids: tuple[str, ...]
    """As the file writes them; text that looks like a formula is text."""
    records: list[Records]
    """One a patient, NONMEM's records in row order: h, h^-1. An observation row without a value (MDV 1) has EVID 2.

    ``level``: the exposure from each row on, where a column of it was asked for.
    """
    observations: pd.DataFrame
    """One row for each EVID 0 row of ``records``, in that order.

    patient (index into ``ids``), id, time (h), observable (concentration: amount unit of AMT per L; anc: 10^9/L), value (where
    censored: the limit below which it lies), censored (bool), lloq (NaN where not given), source_row (line of a CSV file,
    header 1; record of another file, from 1).
    """
    events: pd.DataFrame
    """Times to event: patient, id, kind (EVENT_KINDS), time (days), event (1, or 0 censored), grade (nullable), reason."""
    covariates: pd.DataFrame
    """One row a patient, indexed by id: numbers as float (NaN: missing), words as text (None: missing)."""
    exposure: pd.DataFrame
    """Daily doses as planned, prescribed and taken, where the tables have them (ADaM): patient, id, start (days), days,
    planned_mg, prescribed_mg, taken_mg a day (NaN: not given), held (bool)."""
    notes: tuple[str, ...] = ()
    """What was assumed or not used, one line each."""

    def doses(self) -> np.ndarray:
        """Return the number of doses of each patient, ADDL written out."""
        return np.array([int((1 + r.addl[is_dose(r)]).sum()) for r in self.records])

    def follow_up(self) -> np.ndarray:
        """Return the last time known of each patient, days: of a record, an observation or an event."""
        last = pd.Series([r.time.max() / HOURS_PER_DAY if len(r.time) else 0.0 for r in self.records])
        events = self.events.groupby("patient")["time"].max().reindex(last.index)
        return np.fmax(last.to_numpy(), events.to_numpy(float))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return everything as flat tables by name: observations, records, events, covariates, exposure."""
        sizes = [len(r.time) for r in self.records]
        patient = np.repeat(np.arange(len(self.ids)), sizes)
        columns = {
            name: np.concatenate([getattr(r, name) for r in self.records]) if self.records else np.empty(0)
            for name in ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss", "level")
            if not self.records or getattr(self.records[0], name) is not None
        }
        ids = np.array(self.ids, dtype=object)
        return {
            "records": pd.DataFrame({"patient": patient, "id": ids[patient], **columns}),
            "observations": self.observations,
            "events": self.events,
            "covariates": self.covariates.reset_index(),
            "exposure": self.exposure,
        }


def is_dose(r: Records) -> np.ndarray:
    """Return which records give a dose."""
    return (r.evid == DOSE) | (r.evid == RESET_AND_DOSE)


def empty(columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of ``columns`` without rows."""
    whole = {"patient", "event", "source_row", "days"}
    words = {"id", "kind", "observable", "reason"}
    kinds = {"grade": "Int64", "held": bool, "censored": bool}
    return pd.DataFrame(
        {c: pd.Series(dtype=kinds.get(c, int if c in whole else object if c in words else float)) for c in columns}
    )


def split_records(patient: np.ndarray, count: int, **columns: np.ndarray) -> list[Records]:
    """Return the records of ``count`` patients from columns sorted by ``patient`` (index), a view of each."""
    bounds = np.searchsorted(patient, np.arange(count + 1))
    return [Records(**{k: v[i:j] for k, v in columns.items()}) for i, j in pairwise(bounds)]
