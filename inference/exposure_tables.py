"""Doses: adex, a row for each run of days with one prescribed dose, and the NONMEM-style table of doses and counts."""

import numpy as np
import pandas as pd

from .subject_tables import DECIMALS, REGION_TEXTS, completed, study_day, subject_ids
from .table_columns import names
from .virtual_trial import VirtualArm

MISSING = "."
DRUG, BLOOD = 1, 2
"""Compartments of the NONMEM-style table."""


def _daily(x: np.ndarray) -> np.ndarray:
    """Return a weekly field (weeks, patients) by patient and day."""
    return np.repeat(x, 7, axis=0).T


def adex(arm: VirtualArm, study: str) -> pd.DataFrame:
    """Return the dosing records of an arm; empty in the arm without mezigdomide.

    A day counts where a dose was planned and it began before the end of the drug: the record has the whole week in which it ends.
    Holds are records with dose 0.
    """
    r, regimen = arm.record, arm.scenario.regimen
    weeks = r.on.shape[0]
    planned = regimen.planned(weeks).ravel() * (arm.name == "mezikd")
    day = np.arange(7 * weeks)
    taken = r.dose.reshape(7 * weeks, -1).T
    held, level = _daily(r.held), _daily(r.level)
    inside = (planned > 0.0) & (day < arm.drug_end[:, None]) & arm.treated[:, None]
    cycle = np.broadcast_to(day // regimen.cycle_days, inside.shape)
    before = np.zeros_like(inside)
    same = (held[:, 1:] == held[:, :-1]) & (level[:, 1:] == level[:, :-1]) & (cycle[:, 1:] == cycle[:, :-1])
    before[:, 1:] = inside[:, :-1] & same
    begins = inside & ~before
    patient, first = np.nonzero(begins)
    run = np.cumsum(begins.ravel()).reshape(begins.shape)[inside] - 1
    days = np.bincount(run, minlength=len(first))
    on_hold = held[patient, first]
    factor = regimen.level_factors()[level[patient, first]]
    prescribed = np.where(on_hold, 0.0, planned[first] * factor)
    why = np.where(on_hold, "HELD", np.where(level[patient, first] > 0, "REDUCED", ""))
    data = {
        "USUBJID": subject_ids(arm)[patient],
        "EXSEQ": sequence(patient),
        "EXTRT": np.full(len(first), "MEZIGDOMIDE", dtype=object),
        "CYCLE": cycle[patient, first] + 1,
        "ASTDY": study_day(first),
        "AENDY": study_day(first + days - 1),
        "NDAYS": days,
        "PLANDOSE": planned[first],
        "LVLDOSE": prescribed.round(DECIMALS),
        "EXDOSE": taken[patient, first].round(DECIMALS),
        "EXADJ": why.astype(object),
    }
    return completed(data, "adex", study)


def sequence(group: np.ndarray) -> np.ndarray:
    """Return 1, 2, ... within each run of equal numbers in the sorted ``group``."""
    start = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(start, np.diff(np.append(start, len(group)))) + 1


def nonmem(adsl: pd.DataFrame, adex: pd.DataFrame, adlb: pd.DataFrame) -> pd.DataFrame:
    """Return doses and counts of all arms in one table, in the order in which NONMEM reads them.

    A record of adex is one dose row with additional doses at an interval of a day; records with dose 0 have no row.
    """
    number = {subject: i for i, subject in enumerate(adsl["USUBJID"], start=1)}
    given = adex.loc[adex["EXDOSE"] > 0.0]
    n = given["NDAYS"].to_numpy(int)
    doses = pd.DataFrame(
        {
            "ID": [number[x] for x in given["USUBJID"]], "TIME": given["ASTDY"].astype(int) - 1,
            "AMT": [repr(x) for x in given["EXDOSE"].tolist()], "RATE": "0",
            "II": np.where(n > 1, "1", "0"), "ADDL": (n - 1).astype(str), "SS": "0", "EVID": 1, "CMT": DRUG,
            "DV": MISSING, "MDV": 1, "DVID": MISSING, "CENS": MISSING,
        }
    )  # fmt: skip
    blank = dict.fromkeys(("AMT", "RATE", "II", "ADDL", "SS"), MISSING)
    counts = pd.DataFrame(
        {
            "ID": [number[x] for x in adlb["USUBJID"]], "TIME": adlb["ADY"].astype(int) - 1, **blank, "EVID": 0,
            "CMT": BLOOD,
            "DV": [repr(x) for x in adlb["AVAL"].tolist()], "MDV": 0, "DVID": "1", "CENS": "0",
        }
    )  # fmt: skip
    both = pd.concat([counts, doses], ignore_index=True).sort_values(["ID", "TIME", "EVID"], kind="stable")
    subject = adsl.assign(
        ID=np.arange(1, len(adsl) + 1),
        ARMN=(adsl["ARMCD"] == "MEZIKD").astype(int),
        REGIONN=[1 + list(REGION_TEXTS).index(x) for x in adsl["REGION"]],
    ).loc[:, ["ID", "ARMN", "REGIONN", "BNEUT"]]
    return both.merge(subject, on="ID", how="left", validate="many_to_one").loc[:, names("nonmem")]
