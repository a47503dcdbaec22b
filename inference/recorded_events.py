"""What times of events in patients' tables say of each other, where records do not agree to the hour as simulated ones do.

end of treatment   the last dose; progression is seen at the next visit and was its reason. On treatment until progression
death              free of progression where no progression was seen and PFS is an event then, or time to progression ends
                   within a day of it; else nobody knows whether progression came before
fatal infection    of grade 5; where no grade is known, within a day of the death
"""

from typing import NamedTuple

import numpy as np

from .patient_data import PatientData

BEYOND = 1e6
"""Day of an end of treatment that has not come."""
SAME = 1.0
"""Days between two times that are one: study days begin at 0 or 1, months are rounded."""
LATE = 56.0
"""Days, at most, between an end of treatment and the progression that was its reason."""
CYCLE = 28
FATAL = 5
"""Grade."""


def event(tables: PatientData, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return time (days; 0 where nothing is known) and 1 or 0 (seen or not) of an event, by patient."""
    mine = tables.events.loc[tables.events["kind"] == kind].set_index("patient")
    who = np.arange(len(tables.ids))
    time, seen = (mine[c].reindex(who).fillna(0.0).to_numpy(float) for c in ("time", "event"))
    return time, seen


class Ends(NamedTuple):
    """Ends of treatment, by patient."""

    stop: np.ndarray
    """Day from which the patient is off treatment; that of progression where it was the reason, BEYOND where none has come."""
    last: np.ndarray
    """Day of the end of treatment as recorded; BEYOND where none has come."""
    unexplained: np.ndarray
    """Whether progression follows within CYCLE days and the tables tell no reason for the end."""


def ends_of_treatment(tables: PatientData) -> Ends:
    """Return the ends of treatment.

    Doses end with the reason for their end. A week from the last dose to the visit at which progression was seen is not time off
    treatment: as if it were, progressions would crowd there, and ``tumour_effect`` would grow without bound.
    """
    last, ended = event(tables, "end of treatment")
    progression, progressed = event(tables, "progression")
    mine = tables.events.loc[tables.events["kind"] == "end of treatment"].set_index("patient")["reason"]
    reason = mine.reindex(np.arange(len(tables.ids))).fillna("").astype(str).str.upper()
    last, gap = np.where(ended > 0, last, BEYOND), progression - last
    follows = (ended > 0) & (progressed > 0) & (gap > 0)
    caused = follows & (gap <= LATE) & reason.str.contains("PROGRESS", regex=False).to_numpy(bool)
    unexplained = follows & (gap > SAME) & (gap <= CYCLE) & ((reason == "") | (reason == "COMPLETED")).to_numpy(bool)
    return Ends(np.where(caused, progression, last), last, unexplained)


def as_if_given(dose: np.ndarray, ends: Ends) -> np.ndarray:
    """Return ``dose`` (mg, ``days patients``) as if, from the last one to ``ends.stop``, those of the cycle before went on."""
    out = dose.copy()
    first, stop = np.ceil(ends.last), np.where(ends.stop > ends.last, ends.stop, -1.0)
    for day in range(CYCLE, len(out)):
        out[day] = np.where((day >= first) & (day < stop) & (out[day] == 0.0), out[day - CYCLE], out[day])
    return out


class DiedFree(NamedTuple):
    """Deaths without progression, by patient."""

    before: np.ndarray
    """Whether there was one."""
    fatal: np.ndarray
    """Whether it was of the first severe infection."""
    free: np.ndarray
    """Until when the patient is known to be free of progression: progression, its censoring, or the death."""
    unknown: np.ndarray
    """Died, with no progression seen, later than followed for it."""


def died_free(tables: PatientData) -> DiedFree:
    """Return the deaths that are known to have come without progression."""
    death, died = event(tables, "death")
    progression, progressed = event(tables, "progression")
    pfs, failed = event(tables, "pfs")
    infection, infected = event(tables, "infection")
    alone = (died > 0) & (progressed == 0)
    before = alone & ((death - progression < SAME) | ((failed > 0) & (np.abs(pfs - death) < SAME)))
    mine = tables.events.loc[tables.events["kind"] == "infection"].set_index("patient")["grade"]
    grade = mine.reindex(np.arange(len(tables.ids))).to_numpy(float, na_value=np.nan)
    of_it = np.where(np.isnan(grade), np.abs(infection - death) < SAME, grade == FATAL)
    free = np.where(before & (death - progression >= SAME), death, progression)
    return DiedFree(before, before & (infected > 0) & of_it, free, alone & ~before)


def event_notes(tables: PatientData) -> list[str]:
    """Return what a fit assumes of times that do not agree, and what enters no likelihood."""
    ends, unknown = ends_of_treatment(tables), int(died_free(tables).unknown.sum())
    moved, unexplained = int((ends.stop > ends.last).sum()), int(ends.unexplained.sum())
    told = {
        f"treatment that ended for progression (DCTREAS) lasts until the progression, which was seen later (assumed): {moved} x": moved,
        f"treatment that ended up to {CYCLE} days before a progression, without a reason (DCTREAS), {unexplained} x: these days "
        "count as without treatment; if progression was the reason, tumour_effect will be too high": unexplained,
        f"death without progression, later than followed for it, enters no likelihood, {unknown} x: whether progression came before "
        "is not known (PFS in adtte tells, where it is an event at the death)": unknown,
    }
    return [note for note, number in told.items() if number]
