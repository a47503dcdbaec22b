"""Steps of a patient's course between dosing records: where it is cut, what each step is given, who reads it.

Every dose, end of an infusion and change of a given concentration begins a step; steps grow from ``first`` after it to ``largest``. Order decides at equal
times, as in dosing_events.py: an observation in a row before a dose reads the step that ends there.

Resets, and steady-state doses that wipe out what was before (SS 1), begin a section: its course starts anew. That of a steady
state starts many intervals before the record, at the drug's own steady state, and the marrow comes to its own over these
intervals: the periodic course of the whole system, as NONMEM and Torsten have it for SS 1 with differential equations.

A lag of absorption shifts the course of a section where every dose goes into the depot: what is seen at t is what was there at
t - lag without a lag. So steps do not depend on the lag, and reading does (``lagged``).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .dosing_events import (
    CENTRAL,
    DEPOT,
    DOSE,
    OBSERVATION,
    RESET,
    RESET_AND_DOSE,
    SS_ADD,
    SS_RESET,
    Dose,
    Records,
    Unsupported,
    check,
    doses,
)

Numbers = np.ndarray | Array
NOTHING = 1e-9
"""Length in h of a step that is none: padding, or between two records of one time."""
_FURTHER, _IN_ROW, _END = 0, 1, 2
"""Order at one time: further doses (ADDL), then rows, then ends of infusions."""


class Steady(NamedTuple):
    """Steady states of the drug that steps begin with, padded with amounts of 0; fields of dosing_events.Schedule."""

    step: Int[Numbers, "events patients"]
    amount: Float[Numbers, "events patients"]
    duration: Float[Numbers, "events patients"]
    interval: Float[Numbers, "events patients"]
    to_central: Float[Numbers, "events patients"]


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
    """0 where a section begins."""
    start: Float[Numbers, "steps patients"]
    """When the step begins, h: the lengths of all steps before it, which no reset sets back."""
    kind: Int[Numbers, "steps"]
    """Which of ``kinds`` the step is, for all patients."""
    kinds: Float[Numbers, "kinds patients"]
    """Distinct rows of ``length``: what depends on the length alone is computed once for each."""
    steady: Steady | None = None
    level: Float[Numbers, "steps patients"] | None = None
    """Concentration during the step, where it is given (Records.level)."""


class Read(NamedTuple):
    """Where in the mesh an observation lies."""

    step: Int[Numbers, "patients observations"]
    elapsed: Float[Numbers, "patients observations"]
    """Time since that step began, h."""
    begin: Float[Numbers, "patients observations"] | float = 0.0
    """When its section begins, on the clock of ``Mesh.start``."""
    given: Float[Numbers, "patients observations"] | float = 1.0
    """0 where the section has no drug yet: the course is at its beginning."""


def lengths(gap: float, first: float, largest: float) -> np.ndarray:
    """Return the lengths of steps that fill ``gap``: each twice the one before it, at most ``largest``."""
    if gap <= first:
        return np.array([gap])
    sizes = [first]
    while sum(sizes) < gap:
        sizes.append(min(2.0 * sizes[-1], largest))
    return np.array(sizes) * (gap / sum(sizes))


def lagged(m: Mesh, read: Read, lag) -> Read:
    """Return where observations lie ``lag`` h earlier (``patients``), in their own section."""
    step, who = jnp.asarray(read.step), np.arange(read.step.shape[0])[:, None]
    start, begin = jnp.asarray(m.start), jnp.asarray(read.begin)
    at = start[step, who] + read.elapsed - lag[:, None]
    inside = jnp.maximum(at, begin)
    found = jax.vmap(lambda s, t: jnp.searchsorted(s, t, side="right") - 1, in_axes=(1, 0))(start, inside)
    found = jnp.clip(found, 0, step)
    return Read(found, inside - start[found, who], begin, jnp.where(at < begin, 0.0, 1.0))


class _Step(NamedTuple):
    start: float
    to_depot: float
    to_central: float
    rate: float
    keep: float
    level: float


class _Section(NamedTuple):
    """A course from its beginning; times are those of the records."""

    steps: list[_Step]
    at: list[int]
    """Step of each of its observations."""
    times: list[float]
    """Of these."""
    last: float
    steady: list[tuple[int, Dose]]
    """Steps that begin with a steady state, and its dose."""


def _sections(r: Records, intervals_before: float) -> list[_Section]:
    """Return the sections of a patient.

    Parameters
    ----------
    intervals_before: time (h) before a steady-state dose from which on its intervals are followed.
    """
    evid, size = np.asarray(r.evid), len(r.time)
    steady = np.isin(evid, (DOSE, RESET_AND_DOSE)) & (np.asarray(r.ss) == SS_RESET)
    begins = np.flatnonzero(np.isin(evid, (RESET, RESET_AND_DOSE)) | steady)
    rows = np.unique(np.append(0, begins))
    given, found = doses(r), []
    for a, b in zip(rows, [*rows[1:], size], strict=True):
        last = float(np.max(r.time[a:b]))
        mine = [d for d in given if a <= d.row < b and d.time <= last]
        times = r.time[a:b][evid[a:b] == OBSERVATION].tolist()
        start, of_steady = float(r.time[a]), []
        if steady[a]:
            first = next(d for d in mine if d.row == a)
            before = max(1, int(np.ceil(intervals_before / first.interval)))
            train = [first._replace(time=first.time - k * first.interval) for k in range(before, 0, -1)]
            mine, start = [*train, *mine], train[0].time
            of_steady.append((start, train[0]))
        of_steady += [(d.time, d) for d in mine if d.interval > 0.0 and r.ss[d.row] == SS_ADD]
        found.append(_section(r, a, b, mine, times, start, last, of_steady))
    return found


def _section(
    r: Records,
    a: int,
    b: int,
    given: list[Dose],
    times: list[float],
    start: float,
    last: float,
    steady: list[tuple[float, Dose]],
) -> _Section:
    """Return the steps of the records from row ``a`` to before row ``b``, whose course begins at ``start``."""
    events = []
    for d in given:
        own = d.time == r.time[d.row]
        events.append((d.time, _IN_ROW if own else _FURTHER, d.row, "dose", d))
        if d.duration > 0.0 and d.time + d.duration <= last:
            events.append((d.time + d.duration, _END, d.row, "end", d))
    if r.level is not None:
        changed = np.diff(r.level[a:b], prepend=np.nan) != 0.0
        events += [(float(r.time[i]), _IN_ROW, i, "level", float(r.level[i])) for i in a + np.flatnonzero(changed)]
    seen = a + np.flatnonzero(np.asarray(r.evid[a:b]) == OBSERVATION)
    events += [(float(r.time[i]), _IN_ROW, i, "read", None) for i in seen]
    events.sort(key=lambda e: e[:3])
    steps, at, of_steady = [_Step(start, 0.0, 0.0, 0.0, 0.0, 0.0)], [], []
    rate = 0.0
    fresh = True  # nothing has read the newest step at its beginning yet
    for time, _, _, what, d in events:
        if what == "read":
            at.append(len(steps) - 1)
            fresh = False
            continue
        if time > steps[-1].start or not fresh:
            steps.append(_Step(time, 0.0, 0.0, rate, 1.0, steps[-1].level))
            fresh = True
        if what == "level":
            steps[-1] = steps[-1]._replace(level=d)
            continue
        if what == "end" or d.duration > 0.0:
            rate += (1.0 if what == "dose" else -1.0) * d.amount / d.duration
            steps[-1] = steps[-1]._replace(rate=rate)
        else:
            into = "to_central" if d.to_central else "to_depot"
            steps[-1] = steps[-1]._replace(**{into: getattr(steps[-1], into) + d.amount})
        if what == "dose" and (time, d) in steady:
            of_steady.append((len(steps) - 1, d))
    return _Section(steps, at, times, last, of_steady)


def _supported(r: Records, marrow: bool, lag: bool) -> None:
    """Raise Unsupported where steady states or a lag meet what they cannot."""
    check(r)
    dose = np.isin(r.evid, (DOSE, RESET_AND_DOSE))
    if marrow and np.any(r.ss[dose] == SS_ADD):
        raise Unsupported("SS 2 together with neutrophil counts: steady states of the marrow do not add up")
    if lag and np.any(r.ss[dose] == SS_ADD):
        raise Unsupported("SS 2 together with a lag")
    if lag and np.any(np.asarray(r.cmt)[dose] == CENTRAL):
        raise Unsupported(f"a lag together with doses into central: it is that of compartment {DEPOT}, the depot")


def mesh(
    patients: list[Records],
    first: float,
    largest: float,
    intervals_before: float = 0.0,
    marrow: bool = True,
    lag: bool = False,
) -> tuple[Mesh, Read]:
    """Return the steps of all patients, and where their observations (EVID 0, in row order) lie.

    Parameters
    ----------
    first: length of the first step after a record, h.
    largest: of any step, h.
    intervals_before: time before a steady-state dose (SS 1) over which the marrow comes to its own steady state, h.
    marrow: whether counts are read.
    lag: whether absorption lags.

    Raises
    ------
    Unsupported: as ``dosing_events.schedule``; SS 2 with counts or a lag; a lag with doses into central.
    """
    columns, reads, steady = [], [], []
    for r in patients:
        _supported(r, marrow, lag)
        rows, within, of_steady, clock = [], [], [], 0.0
        for section in _sections(r, intervals_before):
            steps, begin, first_row = section.steps, clock, len(rows)
            ends = [*[s.start for s in steps[1:]], section.last]
            parts = [lengths(max(e - s.start, NOTHING), first, largest) for s, e in zip(steps, ends, strict=True)]
            # One step of no length more, at whose beginning the last observation is read.
            parts[-1] = np.append(parts[-1], NOTHING)
            number = first_row + np.concatenate([[0], np.cumsum([len(p) for p in parts])])
            for s, part in zip(steps, parts, strict=True):
                for j, h in enumerate(part):
                    given = (s.to_depot, s.to_central) if j == 0 else (0.0, 0.0)
                    rows.append((h, *given, s.rate, s.keep if j == 0 else 1.0, clock, s.level))
                    clock += h
            starts = np.array([row[5] for row in rows])
            for k, t in zip(section.at, section.times, strict=True):
                at = starts[number[k]] + (t - steps[k].start)
                # The sum of the lengths may fall short of the time by rounding: not beyond the step that ends there.
                mine = starts[number[k] : number[k + 1]]
                j = number[k] + max(int(np.searchsorted(mine, at - NOTHING, side="left")) - 1, 0)
                within.append((j, at - starts[j], begin))
            of_steady += [(number[k], d.amount, d.duration, d.interval, d.to_central) for k, d in section.steady]
        columns.append(np.array(rows))
        reads.append(within)
        steady.append(of_steady)
    size, most = max(len(c) for c in columns), max(1, *(len(x) for x in reads))
    arrays = np.zeros((7, size, len(patients)))
    arrays[0], arrays[4] = NOTHING, 1.0
    found = np.zeros((4, len(patients), most))
    found[3] = 1.0
    for p, (table, within) in enumerate(zip(columns, reads, strict=True)):
        arrays[:, : len(table), p] = table.T
        arrays[5, len(table) :, p] = table[-1, 5] + table[-1, 0]
        if within:
            found[:3, p, : len(within)] = np.array(within).T
    length, to_depot, to_central, rate, keep, start, level = arrays
    kinds, kind = np.unique(length.round(9), axis=0, return_inverse=True)
    given = level if any(r.level is not None for r in patients) else None
    whole = Mesh(length, to_depot, to_central, rate, keep, start, kind.ravel(), kinds, _padded(steady), given)
    return whole, Read(found[0].astype(int), *found[1:])


def _padded(steady: list[list[tuple]]) -> Steady | None:
    """Return the steady states of all patients, or None where there is none."""
    most = max(len(x) for x in steady)
    if not most:
        return None
    out = np.zeros((5, most, len(steady)))
    out[3] = 1.0
    for p, events in enumerate(steady):
        if events:
            out[:, : len(events), p] = np.array(events, float).T
    return Steady(out[0].astype(int), *out[1:])
