"""From patients' tables to what the log-density of the arrest model is given."""

from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.delivered import Counts, Deaths, Ledger
from mezikd.model.parameters import REGIONS
from mezikd.model.population import Information
from mezikd.model.progression import MONTH_DAYS

from .arrest_settings import REGIONAL, ArrestFit
from .arrest_target import GIVEN, ArrestInputs, ArrestTarget
from .covariate_columns import check_covariates, multiplied
from .errors import input_error
from .given_exposures import given_exposures
from .patient_data import HOURS_PER_DAY, PatientData
from .patient_tables import read_patients
from .recorded_events import DiedFree, as_if_given, died_free, ends_of_treatment, event

WEEK = 7


def read_tables(folder: Path, settings: ArrestFit) -> PatientData:
    """Return the patients' tables.

    Raises
    ------
    InputError: a mistake in a table, or one that lacks what the settings fit.
    """
    path = folder / settings.tables.file
    if path.exists() and not path.is_dir():
        raise input_error(path, "is no folder", "name the folder of adsl, adex, adlb, adtte")
    given = settings.exposure
    tables = read_patients(path, exposure=None if given is None else given.column)
    kinds = set(tables.events["kind"])
    for key, kind in (("infection", "infection"), ("progression", "progression"), ("death", "death")):
        if getattr(settings.model, key) and kind not in kinds:
            remedy = f"give them in adtte, or set {key} = false in [model]"
            raise input_error(path, f"no times to {kind}", remedy)
    if not (tables.observations["observable"] == "anc").any():
        raise input_error(path, "holds no neutrophil count", "give adlb with PARAMCD NEUT")
    return tables


def daily_doses(tables: PatientData, days: int, counted: np.ndarray | float = 1.0) -> np.ndarray:
    """Return mg a day, ``days patients``.

    Parameters
    ----------
    counted: what each record's mg is multiplied by, ``records`` of tables.exposure.
    """
    x = tables.exposure.assign(taken_mg=tables.exposure["taken_mg"].astype(float) * counted)
    out = np.zeros((days, len(tables.ids)))
    length = x["days"].to_numpy(int)
    day = (
        np.repeat(x["start"].to_numpy(int), length)
        + np.arange(length.sum())
        - np.repeat(np.cumsum(length) - length, length)
    )
    who, mg = (np.repeat(x[c].to_numpy(), length) for c in ("patient", "taken_mg"))
    inside = (day >= 0) & (day < days)
    np.add.at(out, (day[inside], who[inside].astype(int)), np.nan_to_num(mg[inside].astype(float)))
    return out


def going_on(dose: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return ``dose`` (mg, ``days patients``) as if the last day before ``end`` were repeated up to the end of that week."""
    day = np.arange(len(dose))[:, None]
    last = np.clip(np.ceil(end).astype(int) - 1, 0, len(dose) - 1)
    after = (day > last) & (day < WEEK * (end // WEEK + 1.0))
    return np.where(after, dose[last, np.arange(len(end))], dose)


def counts_of(tables: PatientData) -> Counts:
    """Return the neutrophil counts of all patients."""
    o = tables.observations.loc[tables.observations["observable"] == "anc"]
    who, place = o["patient"].to_numpy(int), o.groupby("patient").cumcount().to_numpy()
    shape = len(tables.ids), int(place.max()) + 1
    day, log_value, below, there = np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    day[who, place] = np.round(o["time"].to_numpy(float) / HOURS_PER_DAY)
    log_value[who, place] = np.log(o["value"].to_numpy(float))
    below[who, place], there[who, place] = o["censored"].to_numpy(float), 1.0
    return Counts(day, log_value, below, there)


def _deaths(ledger: Ledger, death: np.ndarray, died: np.ndarray, alone: DiedFree) -> Deaths:
    """Return what the rates of death need of each patient; who is lost to progression is followed no further."""
    progressed, infected = ledger.progressed > 0, ledger.infected > 0
    after = np.where(progressed, np.maximum(death - ledger.progression, 0.0), 0.0)
    return Deaths(
        before=(alone.before & ~alone.fatal).astype(float),
        months_before=alone.free / MONTH_DAYS,
        after=(progressed & (died > 0)).astype(float),
        months_after=after / MONTH_DAYS,
        fatal=alone.fatal.astype(float),
        not_fatal=(infected & ~alone.fatal & (ledger.infection < alone.free)).astype(float),
    )


def _regions(folder: Path, settings: ArrestFit, tables: PatientData) -> np.ndarray:
    """Return the index into REGIONS of each patient; 0 where no effect of a region is fitted or known."""
    if not any(n in REGIONAL for n in settings.parameters):
        return np.zeros(len(tables.ids), int)
    known = {r.replace("_", " ").upper(): i for i, r in enumerate(REGIONS)}
    words = tables.covariates["REGION"] if "REGION" in tables.covariates else pd.Series([None] * len(tables.ids))
    found = [known.get(str(w).strip().upper(), -1) for w in words]
    if min(found) < 0:
        allowed = ", ".join(known)
        at = found.index(-1)
        raise input_error(
            folder / settings.tables.file, f"patient {tables.ids[at]} has no known REGION, and effects of regions are fitted",
            "complete adsl, or leave these parameters out", allowed=allowed,
        )  # fmt: skip
    return np.array(found)


def _covariates(folder: Path, settings: ArrestFit, tables: PatientData) -> dict[str, np.ndarray]:
    """Return what coefficients of covariates multiply, by their name."""
    check_covariates(folder, settings.parameters, tables)
    return {t.coefficient(n): multiplied(t, tables) for n, p in settings.parameters.items() for t in p.terms}


def build(folder: Path, settings: ArrestFit, tables: PatientData) -> tuple[ArrestTarget, ArrestInputs]:
    """Return the log-density and what it is given; effects not centred until a start says better.

    Raises
    ------
    InputError: effects of regions are fitted and a patient's region is not known, or a column that cannot be used.
    """
    n, k = len(tables.ids), len(settings.differs)
    counts = counts_of(tables)
    infection, infected = event(tables, "infection")
    progression, progressed = event(tables, "progression")
    ends = ends_of_treatment(tables)
    last = max(counts.day.max() + 1, infection.max(), progression.max())
    weeks = int(last // WEEK) + 1
    drug = np.zeros(n)
    drug[tables.exposure["patient"].unique().astype(int)] = 1.0
    covariates, counted = _covariates(folder, settings, tables), 1.0
    if settings.exposure is not None:
        covariates[GIVEN], counted = given_exposures(folder, settings.exposure, tables, drug > 0.0)
    dose = daily_doses(tables, WEEK * weeks, counted)
    every = going_on(as_if_given(dose, ends), np.minimum(ends.stop, progression)).reshape(weeks, WEEK, n)
    ledger = Ledger(dose.reshape(weeks, WEEK, n), ends.stop, infection, infected, progression, progressed, every)
    inputs = ArrestInputs(
        ledger, counts, _regions(folder, settings, tables), drug, _deaths(ledger, *event(tables, "death"), died_free(tables)),
        Information(np.zeros((n, k, k)), np.zeros((n, k))), covariates,
    )  # fmt: skip
    return ArrestTarget(settings, n, tuple(np.flatnonzero(drug == 0.0).tolist())), inputs
