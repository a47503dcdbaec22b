"""What the rows of a NONMEM-style table must agree on, beyond each cell; every rule over whole columns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mezikd.model.dosing_events import CENTRAL, DEPOT, DOSE, OBSERVATION, RESET, RESET_AND_DOSE

from .patient_files import RawTable
from .patient_mistakes import Mistakes
from .patient_units import LARGEST_COUNT, count_unit

CELLS_REMEDY = "neutrophil counts are in 10^9/L: if these are cells/uL, multiply by 1e-3"


@dataclass(frozen=True)
class Rows:
    """A table's rows as arrays of one length, in file order and as written (time in the file's unit)."""

    raw: RawTable
    id: np.ndarray
    patient: np.ndarray
    """Index in order of first appearance; -1 without an ID."""
    observable: np.ndarray
    """'concentration', 'anc', or '' where the row is no observation with a value, or its kind is unknown."""
    code: np.ndarray
    """What tells the observable (DVID, or CMT); NaN where missing."""
    code_column: str
    time: np.ndarray
    amt: np.ndarray
    rate: np.ndarray
    ii: np.ndarray
    addl: np.ndarray
    ss: np.ndarray
    evid: np.ndarray
    cmt: np.ndarray
    dv: np.ndarray
    mdv: np.ndarray
    cens: np.ndarray
    lloq: np.ndarray
    sound: np.ndarray
    """Rows of which every cell could be read: the others are told once, by their cell."""

    @property
    def dose(self) -> np.ndarray:
        """Rows that give a dose."""
        return (self.evid == DOSE) | (self.evid == RESET_AND_DOSE)

    @property
    def reset(self) -> np.ndarray:
        """Rows after which time may begin anew."""
        return (self.evid == RESET) | (self.evid == RESET_AND_DOSE)

    @property
    def observed(self) -> np.ndarray:
        """Observation rows with a value or a limit."""
        return (self.evid == OBSERVATION) & (self.mdv == 0)

    @property
    def follows(self) -> np.ndarray:
        """Rows whose predecessor is of the same patient."""
        return np.append(False, self.patient[1:] == self.patient[:-1])[: len(self.patient)]


@dataclass(frozen=True)
class Options:
    """What a user says about a table."""

    dvid: Mapping[int, str]
    undosed: bool


class _Say:
    """Adds mistakes of rows that are sound."""

    def __init__(self, mistakes: Mistakes, t: Rows) -> None:
        self.mistakes, self.t = mistakes, t

    def __call__(self, where, column: str, problem, remedy: str, allowed: str | None = None) -> None:
        self.mistakes.add(self.t.raw, where & self.t.sound, column, problem, remedy, patient=self.t.id, allowed=allowed)


def doses(t: Rows, options: Options, say: _Say) -> None:
    """Every dose has an amount and goes where the engine can give it."""
    d = t.dose
    say(d & ~(t.amt > 0), "AMT", "value {value} on a dose", "give the dose, or EVID 0 for an observation", "above 0")
    say(~d & (t.amt > 0), "AMT", lambda i: f"value {t.raw.cell(i, 'AMT')} on {_event(int(t.evid[i]))}",
        "leave AMT blank, or make it a dose (EVID 1) in a row of its own", "0, . or blank")  # fmt: skip
    say(t.rate < 0, "RATE", "value {value}: rates and durations that are parameters (-1, -2) are not supported",
        "give the rate of the infusion, amount per unit of TIME", "0 or more")  # fmt: skip
    say(
        ~d & (t.rate > 0),
        "RATE",
        lambda i: f"value {t.raw.cell(i, 'RATE')} on {_event(int(t.evid[i]))}",
        "leave it blank",
        "0, . or blank",
    )
    known = (t.cmt == DEPOT) | (t.cmt == CENTRAL)
    say(
        d & ~known,
        "CMT",
        "a dose into compartment {value}",
        "1: depot, 2: central; other compartments are not supported",
        "1, 2",
    )
    say(d & (t.rate > 0) & (t.cmt == DEPOT), "RATE", "value {value}, an infusion into the depot, is not supported",
        "give CMT 2 (central), or RATE 0 for an oral dose", "0 with CMT 1")  # fmt: skip
    say(d & (t.addl > 0) & ~(t.ii > 0), "II", "value {value}, but ADDL asks for further doses",
        "give the interval between doses, or ADDL 0", "above 0")  # fmt: skip
    say(d & (t.ss > 0) & ~(t.ii > 0), "II", "value {value}, but SS asks for a steady state",
        "give the interval between doses, or SS 0", "above 0")  # fmt: skip
    say(
        ~d & ((t.addl > 0) | (t.ss > 0)),
        "ADDL",
        lambda i: f"ADDL or SS on {_event(int(t.evid[i]))}",
        "leave both blank",
        "0, . or blank",
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        long = d & (t.ss > 0) & (t.rate > 0) & (t.ii > 0) & (t.amt / t.rate > t.ii)
    say(
        long,
        "RATE",
        "value {value}: at steady state the infusion lasts longer than II",
        "this is not supported: write the doses out",
    )


def order(t: Rows, options: Options, say: _Say) -> None:
    """Rows of a patient stand together, in order of time."""
    begins = ~t.follows & (t.patient >= 0)
    first = pd.Series(t.patient).drop_duplicates().index.to_numpy()
    again = begins.copy()
    again[first] = False
    say(
        again,
        "ID",
        "value {value} again after other patients' rows",
        "sort the file by patient; row order within a patient stays",
    )
    before = np.append(np.nan, t.time[:-1])
    pair_sound = np.append(True, t.sound[:-1])[: len(t.sound)]
    back = t.follows & pair_sound & (t.time < before) & ~t.reset
    say(back, "TIME", lambda i: f"value {t.raw.cell(i, 'TIME')} goes back from {t.raw.cell(i - 1, 'TIME')} without a reset",
        "sort the patient's rows by TIME, or give EVID 3 or 4 where time begins anew", "at least the TIME of the row before")  # fmt: skip


def values(t: Rows, options: Options, say: _Say) -> None:
    """Every observation has a value of a known kind."""
    o = (t.evid == OBSERVATION) & t.sound
    say((t.mdv == 0) & ~o & np.isfinite(t.mdv), "MDV", lambda i: f"value 0 on {_event(int(t.evid[i]))}",
        "give 1: only observations (EVID 0) have a DV", "1")  # fmt: skip
    observed, limit = t.observed, np.isfinite(t.lloq)
    say(observed & (t.cens != 1) & np.isnan(t.dv), "DV", "value {value} on an observation (EVID 0, MDV 0)",
        "give the value, or MDV 1 where there is none", "a number")  # fmt: skip
    say(observed & (t.cens == 1) & np.isnan(t.dv) & ~limit, "LLOQ", "CENS is 1, but there is neither LLOQ nor DV",
        "give the limit of quantification in LLOQ (or in DV)", "above 0")  # fmt: skip
    say(observed & (t.cens == 1) & (t.dv <= 0) & ~limit, "DV", "value {value} with CENS 1 and no LLOQ is no limit of quantification",
        "give the limit in LLOQ (or in DV)", "above 0")  # fmt: skip
    known = ", ".join(f"{k}={v}" for k, v in options.dvid.items())
    say(observed & ~np.isfinite(t.code), t.code_column, "value {value} on an observation",
        "give the kind of observation", f"the codes of --dvid: {known}")  # fmt: skip
    unknown = observed & np.isfinite(t.code) & (t.observable == "")
    say(unknown, t.code_column, "value {value} is not a known kind of observation",
        f"name it with --dvid CODE=concentration or CODE=anc, or give MDV 1; given: {known}", ", ".join(map(str, options.dvid)))  # fmt: skip
    quantified = observed & (t.cens != 1)
    low = quantified & (t.dv <= 0)
    say(low, "DV", lambda i: f"value {t.raw.cell(i, 'DV')} of {t.observable[i] or 'an observation'}",
        "correct it; a value below the limit of quantification is CENS 1 with LLOQ, one that was not measured MDV 1", "above 0")  # fmt: skip
    say(quantified & limit & (t.dv > 0) & (t.dv < t.lloq), "DV", lambda i: f"value {t.raw.cell(i, 'DV')} lies below LLOQ {t.lloq[i]:g}, but CENS is 0",
        "give CENS 1, or correct LLOQ", "at least LLOQ with CENS 0")  # fmt: skip
    above = observed & (t.cens == 1) & limit & (t.dv > t.lloq)
    say(above, "DV", lambda i: f"value {t.raw.cell(i, 'DV')} lies above LLOQ {t.lloq[i]:g}, but CENS is 1",
        "give CENS 0, or correct LLOQ", "at most LLOQ with CENS 1")  # fmt: skip
    say(
        (t.evid != OBSERVATION) & (t.cens == 1),
        "CENS",
        lambda i: f"value 1 on {_event(int(t.evid[i]))}",
        "leave it blank",
        "0, . or blank",
    )
    say(
        o & (t.mdv == 1) & (t.cens == 1),
        "MDV",
        "value {value}, but CENS is 1",
        "give MDV 0 where a limit is known, or CENS 0",
    )
    frame = pd.DataFrame({"p": t.patient, "c": _courses(t), "t": t.time, "o": t.observable})
    repeated = observed & (t.observable != "") & t.sound & (t.patient >= 0)
    part = frame[repeated]
    twice = np.zeros(len(frame), bool)
    twice[part.index[part.duplicated()]] = True
    say(twice, "TIME", lambda i: f"value {t.raw.cell(i, 'TIME')}: a second {t.observable[i]} at this time",
        "keep one, or correct its TIME", "one value a patient, time and observable")  # fmt: skip


def units(t: Rows, options: Options, say: _Say) -> None:
    """Counts are in 10^9/L: by their size, and by a column that names the unit of DV."""
    counts = t.observed & t.sound & (t.observable == "anc") & np.isfinite(t.dv)
    large = counts & (t.dv > LARGEST_COUNT)
    if large.any() and np.median(t.dv[counts]) > LARGEST_COUNT:
        median = float(np.median(t.dv[counts]))
        say.mistakes.one(t.raw, f"the neutrophil counts have the median {median:g}, as if in cells/uL", CELLS_REMEDY, column="DV",
                         allowed=f"10^9/L, at most {LARGEST_COUNT:g}")  # fmt: skip
    else:
        say(
            large,
            "DV",
            "value {value} of anc: two units in one column?",
            CELLS_REMEDY,
            f"10^9/L, at most {LARGEST_COUNT:g}",
        )


def unit_column(t: Rows, say: _Say, column: str, unit: np.ndarray) -> None:
    """A column with the unit of DV says 10^9/L for counts, and one unit for concentrations."""
    counts = t.observed & (t.observable == "anc")
    kinds = {u: count_unit(str(u)) for u in pd.unique(unit[counts])}
    kind = np.array([kinds.get(u, "") for u in unit], dtype=object)
    say(counts & (kind == "cells"), column, "value {value}", CELLS_REMEDY, "10^9/L")
    say(
        counts & (kind == "unknown"),
        column,
        "value {value} is not a known unit of counts",
        "give counts in 10^9/L",
        "10^9/L",
    )
    drug = np.flatnonzero(t.observed & (t.observable == "concentration"))
    if len(drug):
        other = np.zeros(len(unit), bool)
        other[drug] = unit[drug] != unit[drug[0]]
        say(other, column, f"value {{value}}, but concentrations before are in {unit[drug[0]]!r}",
            "give all concentrations in one unit: that of AMT per litre", f"{unit[drug[0]]}")  # fmt: skip


def patients(t: Rows, options: Options, say: _Say) -> None:
    """Every patient has a dose and an observation."""
    known = t.patient >= 0
    count = int(t.patient.max(initial=-1)) + 1

    def have(rows: np.ndarray) -> np.ndarray:
        return np.bincount(t.patient[rows & known], minlength=count) > 0

    unsound = have(~t.sound)
    first = np.zeros(len(t.patient), bool)
    first[pd.Series(t.patient).drop_duplicates().index] = True
    rows = np.maximum(t.patient, 0)
    if count == 0:
        return
    if not options.undosed:
        say(first & known & ~(have(t.dose) | unsound)[rows], "AMT", "the patient has no dose",
            "give the doses, delete the patient, or say --undosed where such patients are controls")  # fmt: skip
    say(
        first & known & ~(have(t.observed) | unsound)[rows],
        "DV",
        "the patient has no observation",
        "give one, or delete the patient",
    )


def _courses(t: Rows) -> np.ndarray:
    """Return a number that grows with every reset."""
    return np.cumsum(t.reset)


def _event(evid: int) -> str:
    return {OBSERVATION: "an observation (EVID 0)", DOSE: "a dose (EVID 1)", RESET: "a reset (EVID 3)", RESET_AND_DOSE: "a reset and dose (EVID 4)"}.get(
        evid, "a record of another kind (EVID 2)"
    )  # fmt: skip


RULES: tuple[Callable[[Rows, Options, _Say], None], ...] = (doses, order, values, units, patients)


def check_rows(mistakes: Mistakes, t: Rows, options: Options, unit: tuple[str, np.ndarray] | None) -> None:
    """Add everything that is wrong between the cells of ``t``; ``unit`` is the column with the unit of DV, if there is one."""
    say = _Say(mistakes, t)
    for rule in RULES:
        rule(t, options, say)
    if unit is not None:
        unit_column(t, say, *unit)
