"""Steps of a patient's course between dosing records: where it is cut, what each step is given, who reads it.

Every dose, end of an infusion and reset begins a step; steps grow from ``first`` after it to ``largest``. Order decides at
equal times, as in dosing_events.py: an observation in a row before a dose reads the step that ends there.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from .dosing_events import OBSERVATION, RESET, RESET_AND_DOSE, Records, Unsupported, check, doses

Numbers = np.ndarray | Array
NOTHING = 1e-9
"""Length in h of a step that is none: padding, or between two records of one time."""
_FURTHER, _IN_ROW, _END = 0, 1, 2
"""Order at one time: further doses (ADDL), then rows, then ends of infusions."""


class Mesh(NamedTuple):
    """Steps of all patients; those with fewer end in steps of no length."""

    length: Float[Numbers, "steps patients"]
    """h."""
    to_depot: Float[Numbers, "steps patients"]
    """Amount that a step begins with."""
    to_central: Float[Numbers, "steps patients"]
    rate: Float[Numbers, "steps patients"]
    """Of infusion during the step, amount/h."""
    keep: Float[Numbers, "steps patients"]
    """0 where a reset begins the step."""
    start: Float[Numbers, "steps patients"]
    """Time at which the step begins, h."""
    kind: Int[Numbers, "steps"]
    """Which of ``kinds`` the step is, for all patients."""
    kinds: Float[Numbers, "kinds patients"]
    """Distinct rows of ``length``: what depends on the length alone is computed once for each."""


class Read(NamedTuple):
    """Where in the mesh an observation lies."""

    step: Int[Numbers, "patients observations"]
    elapsed: Float[Numbers, "patients observations"]
    """Time since that step began, h."""


def lengths(gap: float, first: float, largest: float) -> np.ndarray:
    """Return the lengths of steps that fill ``gap``: each twice the one before it, at most ``largest``."""
    if gap <= first:
        return np.array([gap])
    sizes = [first]
    while sum(sizes) < gap:
        sizes.append(min(2.0 * sizes[-1], largest))
    return np.array(sizes) * (gap / sum(sizes))


class _Step(NamedTuple):
    start: float
    to_depot: float
    to_central: float
    rate: float
    keep: float


def _breaks(r: Records) -> tuple[list[_Step], np.ndarray]:
    """Return the steps that records begin, and which of them each observation belongs to."""
    wiping = [i for i in range(len(r.time)) if r.evid[i] in (RESET, RESET_AND_DOSE)]
    events = []
    for d in doses(r):
        if d.wiped_at < len(r.time) and d.time > r.time[d.wiped_at]:
            continue  # a further dose that a reset has called off
        own = d.time == r.time[d.row]
        events.append((d.time, _IN_ROW if own else _FURTHER, d.row, "dose", d))
        if d.duration > 0.0:
            end = d.time + d.duration
            if d.wiped_at < len(r.time):
                end = min(end, float(r.time[d.wiped_at]))
            events.append((end, _END, d.row, "end", d))
    events += [(float(r.time[i]), _IN_ROW, i - 0.5, "reset", None) for i in wiping]
    seen = np.flatnonzero(np.asarray(r.evid) == OBSERVATION)
    events += [(float(r.time[i]), _IN_ROW, i, "read", None) for i in seen]
    events.sort(key=lambda e: e[:3])

    steps, rate, running = [_Step(float(r.time[0]), 0.0, 0.0, 0.0, 1.0)], 0.0, set()
    at, fresh = [], True  # fresh: nothing has read the newest step at its beginning yet
    for time, _, row, what, d in events:
        if what == "read":
            at.append(len(steps) - 1)
            fresh = False
            continue
        if time > steps[-1].start or not fresh:
            steps.append(_Step(time, 0.0, 0.0, rate, 1.0))
            fresh = True
        if what == "reset":
            rate, running = 0.0, set()
            steps[-1] = _Step(time, 0.0, 0.0, 0.0, 0.0)
        elif what == "end" and (row, d.time) in running:
            rate -= d.amount / d.duration
            running.discard((row, d.time))
            steps[-1] = steps[-1]._replace(rate=rate)
        elif what == "dose" and d.duration > 0.0:
            rate += d.amount / d.duration
            running.add((row, d.time))
            steps[-1] = steps[-1]._replace(rate=rate)
        elif what == "dose":
            into = "to_central" if d.to_central else "to_depot"
            steps[-1] = steps[-1]._replace(**{into: getattr(steps[-1], into) + d.amount})
    return steps, np.array(at, int)


def mesh(patients: list[Records], first: float, largest: float) -> tuple[Mesh, Read]:
    """Return the steps of all patients, and where their observations (EVID 0, in row order) lie.

    Parameters
    ----------
    first: length of the first step after a record, h.
    largest: of any step, h.

    Raises
    ------
    Unsupported: as ``dosing_events.schedule``, and steady state (SS): the marrow's own steady state is not known.
    """
    columns, reads = [], []
    for r in patients:
        check(r)
        if np.any(r.ss):
            raise Unsupported("steady state (SS) together with neutrophil counts")
        steps, at = _breaks(r)
        times = r.time[np.asarray(r.evid) == OBSERVATION]
        last = max([s.start for s in steps] + times.tolist())
        ends = [*[s.start for s in steps[1:]], last]
        parts = [lengths(max(e - s.start, NOTHING), first, largest) for s, e in zip(steps, ends, strict=True)]
        begin = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
        rows = []
        for s, part in zip(steps, parts, strict=True):
            starts = s.start + np.concatenate([[0.0], np.cumsum(part)[:-1]])
            rows += [
                (h, s.to_depot * (j == 0), s.to_central * (j == 0), s.rate, s.keep if j == 0 else 1.0, starts[j])
                for j, h in enumerate(part)
            ]
        table = np.array(rows)
        within = []
        for k, t in zip(at, times, strict=True):
            starts = table[begin[k] : begin[k + 1], 5]
            j = begin[k] + max(int(np.searchsorted(starts, t, side="left")) - 1, 0)
            within.append((j, t - table[j, 5]))
        columns.append(table)
        reads.append(within)
    # One step of no length more, at whose beginning the last observation is read.
    size, most = max(len(c) for c in columns) + 1, max(1, *(len(x) for x in reads))
    arrays = np.zeros((6, size, len(patients)))
    arrays[0], arrays[4] = NOTHING, 1.0
    step, elapsed = np.zeros((len(patients), most), int), np.zeros((len(patients), most))
    for p, (table, within) in enumerate(zip(columns, reads, strict=True)):
        arrays[:, : len(table), p] = table.T
        arrays[5, len(table) :, p] = table[-1, 5] + table[-1, 0]
        for j, (k, t) in enumerate(within):
            step[p, j], elapsed[p, j] = k, t
    length, to_depot, to_central, rate, keep, start = arrays
    kinds, kind = np.unique(length.round(9), axis=0, return_inverse=True)
    return Mesh(length, to_depot, to_central, rate, keep, start, kind.ravel(), kinds), Read(step, elapsed)
