"""From patients' tables to what the log-density of the arrest model is given."""

from pathlib import Path

import numpy as np
import pandas as pd
from mezikd.model.delivered import Counts, Deaths, Ledger
from mezikd.model.parameters import REGIONS
from mezikd.model.population import Information
from mezikd.model.progression import MONTH_DAYS

from .arrest_settings import REGIONAL, ArrestFit, Prior
from .arrest_target import GIVEN, ArrestInputs, ArrestTarget
from .covariate_columns import check_covariates, multiplied
from .errors import input_error
from .patient_data import HOURS_PER_DAY, PatientData
from .patient_tables import read_patients

BEYOND = 1e6
"""Day of an end of treatment that has not come."""
SAME = 1e-3
"""Days between two times that are one."""
WEEK = 7
FAR = 20.0
"""Times the reference: a median exposure beyond is likely to be in another unit."""


def read_tables(folder: Path, settings: ArrestFit) -> PatientData:
    """Return the patients' tables.

    Raises
    ------
    InputError: a mistake in a table, or one that lacks what the settings fit.
    """
    path = folder / settings.tables.file
    if path.exists() and not path.is_dir():
        raise input_error(path, "is no folder", "name the folder of adsl, adex, adlb, adtte")
    tables = read_patients(path)
    kinds = set(tables.events["kind"])
    for key, kind in (("infection", "infection"), ("progression", "progression"), ("death", "death")):
        if getattr(settings.model, key) and kind not in kinds:
            remedy = f"give them in adtte, or set {key} = false in [model]"
            raise input_error(path, f"no times to {kind}", remedy)
    if not (tables.observations["observable"] == "anc").any():
        raise input_error(path, "holds no neutrophil count", "give adlb with PARAMCD NEUT")
    return tables


def event(tables: PatientData, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return time (days; 0 where nothing is known) and 1 or 0 (seen or not) of an event, by patient."""
    mine = tables.events.loc[tables.events["kind"] == kind].set_index("patient")
    who = np.arange(len(tables.ids))
    time, seen = (mine[c].reindex(who).fillna(0.0).to_numpy(float) for c in ("time", "event"))
    return time, seen


def _doses(tables: PatientData, days: int) -> np.ndarray:
    """Return mg a day, ``days patients``."""
    x = tables.exposure
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


def _deaths(ledger: Ledger, death: np.ndarray, died: np.ndarray) -> Deaths:
    """Return the totals of deaths; who is lost to progression is followed no further."""
    progressed, infected = ledger.progressed > 0, ledger.infected > 0
    free_of_it = ledger.progression
    before = (died > 0) & ~progressed & (np.abs(death - free_of_it) < SAME)
    fatal = before & infected & (np.abs(ledger.infection - death) < SAME)
    after = np.where(progressed, np.maximum(death - free_of_it, 0.0), 0.0)
    return Deaths(
        before=float((before & ~fatal).sum()),
        months_before=float(free_of_it.sum() / MONTH_DAYS),
        after=float((progressed & (died > 0)).sum()),
        months_after=float(after.sum() / MONTH_DAYS),
        fatal=float(fatal.sum()),
        not_fatal=float((infected & ~fatal & (ledger.infection < free_of_it)).sum()),
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


def _covariates(folder: Path, settings: ArrestFit, tables: PatientData, dosed: np.ndarray) -> dict[str, np.ndarray]:
    """Return what coefficients of covariates multiply, by their name, and the log of exposures that are given."""
    check_covariates(folder, settings.parameters, tables)
    found = {t.coefficient(n): multiplied(t, tables) for n, p in settings.parameters.items() for t in p.terms}
    if settings.exposure is not None:
        found[GIVEN] = _given_exposure(folder, settings.exposure, tables, dosed)
    return found


def _given_exposure(folder: Path, given: Prior, tables: PatientData, dosed: np.ndarray) -> np.ndarray:
    """Return the log of each patient's exposure to 1 mg over the reference; 0 for patients who take no dose.

    Raises
    ------
    InputError: a column that is not there, a patient with a dose and without an exposure, or a reference in another unit.
    """
    path, columns, known = folder / "fit.toml", (given.column, given.dose), tables.covariates
    values = []
    for column in (c for c in columns if c is not None):
        if column not in known or known[column].dtype.kind != "f":
            raise input_error(
                path, f"column '{column}' of exposure cannot be used", "name a column of numbers",
                allowed=", ".join(str(c) for c in known if known[c].dtype.kind == "f") or "none in the table",
            )  # fmt: skip
        x = known.loc[list(tables.ids), column].to_numpy(float)
        if (bad := np.flatnonzero(dosed & ~(x > 0.0))).size:
            patient, value = tables.ids[bad[0]], x[bad[0]]
            problem = f"column '{column}' of exposure: patient {patient} takes doses and has {'no value' if np.isnan(value) else f'{value:g}'}"
            remedy = "complete it, or leave the patient out: an exposure that is given is not estimated for anybody"
            raise input_error(path, problem, remedy, allowed="above 0 for every patient with a dose")
        values.append(np.where(dosed, x, 1.0))
    of_dose = values[1] if given.dose is not None else 1.0
    relative = np.where(dosed, values[0] / of_dose / (given.reference or 1.0), 1.0)
    if dosed.any() and not 1.0 / FAR <= np.median(relative[dosed]) <= FAR:
        problem = (
            f"exposure: the median of column '{given.column}' is {np.median(relative[dosed]):.3g} times the reference"
        )
        remedy = "give as reference the typical exposure of a dose of 1 mg, in the unit of the column"
        raise input_error(path, problem, remedy, allowed=f"{1.0 / FAR:g} to {FAR:g}")
    return np.log(relative)


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
    stop, ended = event(tables, "end of treatment")
    last = max(counts.day.max() + 1, infection.max(), progression.max())
    weeks = int(last // WEEK) + 1
    dose = _doses(tables, WEEK * weeks)
    ledger = Ledger(
        dose.reshape(weeks, WEEK, n), np.where(ended > 0, stop, BEYOND), infection, infected, progression, progressed
    )
    drug = np.zeros(n)
    drug[tables.exposure["patient"].unique().astype(int)] = 1.0
    inputs = ArrestInputs(
        ledger, counts, _regions(folder, settings, tables), drug, _deaths(ledger, *event(tables, "death")),
        Information(np.zeros((n, k, k)), np.zeros((n, k))), _covariates(folder, settings, tables, drug > 0.0),
    )  # fmt: skip
    return ArrestTarget(settings, n, tuple(np.flatnonzero(drug == 0.0).tolist())), inputs
