"""What was understood of patient tables, in lines to read; and the same as CSV tables."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .patient_data import HOURS_PER_DAY, OBSERVABLES, PatientData, is_dose
from .recorded_events import event_notes
from .results_folder import new_results, publish
from .spreadsheet import inert

UNITS = {"concentration": "amount unit/L", "anc": "10^9/L"}
MOST_WORDS = 6


def _range(x: np.ndarray) -> str:
    return f"{x.min():.4g} to {x.max():.4g}, median {np.median(x):.4g}"


def how_read(data: PatientData) -> list[str]:
    """Return the section of a fit's summary.md on what was assumed of the tables and left out of them; nothing where nothing was."""
    notes = notes_of(data)
    return ["", "## How the tables were read", "", *(f"- {note}" for note in notes)] if notes else []


def notes_of(data: PatientData) -> list[str]:
    """Return what was assumed of the tables and left out of them."""
    return [*data.notes, *event_notes(data)]


def summary(data: PatientData) -> Iterator[str]:
    """Yield the lines that tell patients, doses, observations, events, covariates, follow-up and notes."""
    n, doses = len(data.ids), data.doses()
    yield f"patients: {n}"
    yield f"doses: {doses.sum()} (ADDL written out) in {(doses > 0).sum()} patients; {(doses == 0).sum()} without a dose"
    rows = [(r.evid, r.ss, r.rate) for r in data.records]
    steady, infused, resets = (
        sum(int((f(e, s, r)).sum()) for e, s, r in rows)
        for f in (lambda e, s, r: s > 0, lambda e, s, r: r > 0, lambda e, s, r: (e == 3) | (e == 4))
    )
    if steady or infused or resets:
        yield f"  of the records, {steady} at steady state, {infused} infusions, {resets} resets"
    amounts = np.concatenate([r.amt[is_dose(r)] for r in data.records])
    if len(amounts):
        yield f"  amount {_range(amounts)}"
    for observable in OBSERVABLES:
        o = data.observations.loc[data.observations["observable"] == observable]
        if len(o) == 0:
            yield f"{observable}: none"
            continue
        censored = o["censored"].to_numpy(bool)
        value = o.loc[~censored, "value"].to_numpy(float)
        measured = f"{_range(value)} {UNITS[observable]}" if len(value) else "none above the limit"
        yield (
            f"{observable}: {len(o)} in {o['patient'].nunique()} patients; {measured}; "
            f"{int(censored.sum())} below the limit of quantification"
        )
        days = o["time"].to_numpy(float) / HOURS_PER_DAY
        yield f"  days {days.min():.4g} to {days.max():.4g}"
    for kind, e in data.events.groupby("kind", sort=False):
        yield f"{kind}: {int(e['event'].sum())} events, {int((e['event'] == 0).sum())} censored; days {_range(e['time'].to_numpy(float))}"
    if len(data.exposure):
        x = data.exposure
        held = int(x.loc[x["held"], "days"].sum())
        yield f"daily doses: {int(x['days'].sum())} planned days, {held} of them on hold"
    for name in data.covariates.columns:
        yield _covariate(str(name), pd.Series(data.covariates[name]))
    follow_up = data.follow_up()
    yield f"follow-up: days {_range(follow_up)}"
    for note in notes_of(data):
        yield f"note: {note}"


def _covariate(name: str, column: pd.Series) -> str:
    missing = int(column.isna().sum())
    lacking = f"; missing in {missing}" if missing else ""
    there = column.dropna()
    if len(there) == 0:
        return f"covariate {name}: missing in all"
    if is_numeric_dtype(column):
        return f"covariate {name}: {_range(there.to_numpy(float))}{lacking}"
    counts = there.value_counts()
    told = ", ".join(f"{word!r} {count}" for word, count in counts.head(MOST_WORDS).items())
    more = f" and {len(counts) - MOST_WORDS} more" if len(counts) > MOST_WORDS else ""
    return f"covariate {name}: {told}{more}{lacking}"


def write_tables(data: PatientData, out: Path) -> list[str]:
    """Write the canonical tables as CSV into ``out``, all of them or none; return their names with rows."""
    new, told = new_results(out), []
    for name, table in data.tables().items():
        inert(table).to_csv(new / f"{name}.csv", index=False, lineterminator="\n")
        told.append(f"{name} {len(table)}")
    publish(out)
    return told
