"""What reported numbers must satisfy: each alone, against the trial's size, against each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import isnan
from typing import TYPE_CHECKING

from .errors import nearest_first, shown
from .settings import FitSettings
from .vocabulary import EACH, REGIONS, SUMS, VOCABULARY, Outcome, statistics, texts

if TYPE_CHECKING:
    from .evidence import Evidence, Row

INTERVALS = {
    "count": ("none",),
    "quartiles": ("iqr",),
    "median": ("ci95", "none"),
    "hazard_ratio": ("ci95", "none"),
    "survival_probability": ("ci95", "none"),
}
"""Interval types of each statistic; a fitted median or hazard ratio needs the first."""


@dataclass(frozen=True)
class Fault:
    """A broken rule: the row and column to correct."""

    row: "Row"
    column: str
    problem: str
    remedy: str
    allowed: str | None = None


Faults = Iterator[Fault]


def _outcome(row: "Row") -> Outcome:
    return VOCABULARY[row.outcome, row.statistic]


def known_outcome(evidence: "Evidence", settings: FitSettings) -> Faults:
    """Outcome, statistic, arm, subgroup, unit and role are such as the model can produce."""
    for row in evidence.rows:
        if row.outcome not in texts():
            near = nearest_first(row.outcome, texts())
            problem = f"unknown outcome {shown(row.outcome)} (nearest: {shown(near[0])})"
            yield Fault(row, "outcome", problem, "correct it or delete the row", ", ".join(map(repr, near)))
            continue
        known = statistics(row.outcome)
        if row.statistic not in known:
            problem = f"value {shown(row.statistic)} is no statistic of {shown(row.outcome)}"
            yield Fault(row, "statistic", problem, "correct it or delete the row", ", ".join(known))
            continue
        outcome = _outcome(row)
        words = (
            ("arm", row.arm, outcome.arms),
            ("subgroup", row.subgroup, outcome.subgroups(row.arm)),
            ("unit", row.unit, (outcome.unit,)),
            ("role", row.role, outcome.roles(row.arm)),
        )
        for column, word, allowed in words:
            if word not in allowed:
                problem = f"value {shown(word)} does not go with {shown(row.outcome)}"
                yield Fault(row, column, problem, "correct it or delete the row", ", ".join(allowed))


def unique(evidence: "Evidence", settings: FitSettings) -> Faults:
    """No number is there twice, and an id stands for one outcome and statistic."""
    keys: dict[tuple, Row] = {}
    meanings: dict[str, Row] = {}
    for row in evidence.rows:
        meaning = (row.outcome, row.statistic)
        for key in (row.key, (*meaning, row.arm, row.subgroup)):
            if key in keys:
                problem = f"the same number is on line {keys[key].line} ({keys[key].name})"
                yield Fault(row, "id", problem, "delete one of the two")
            keys[key] = row
        first = meanings.setdefault(row.id, row)
        if (first.outcome, first.statistic) != meaning:
            problem = f"value {shown(row.id)} stands for another outcome or statistic on line {first.line}"
            yield Fault(row, "id", problem, "give each outcome and statistic its own id")


def interval(evidence: "Evidence", settings: FitSettings) -> Faults:
    """An interval has the type that its statistic needs, both bounds, and holds the value."""
    for row in evidence.rows:
        allowed = INTERVALS[row.statistic][: 1 if row.role == "fit" else None]
        if row.interval not in allowed:
            problem = f"value {row.interval} does not go with a {row.statistic} of role {row.role}"
            yield Fault(row, "interval", problem, "correct it, or make the role check", ", ".join(allowed))
        blank = [c for c in ("low", "high") if isnan(getattr(row, c)) and c not in row.not_reached]
        if row.interval == "none" and len(blank) < 2:
            filled = "low" if "low" not in blank else "high"
            yield Fault(row, filled, "a bound stands in a row of interval none", "leave it blank or name the interval")
        if row.interval != "none" and blank:
            yield Fault(row, blank[0], f"blank, but the interval is {row.interval}", "give both bounds")
        for column in row.not_reached:
            # Without its value a fitted row says nothing; an open upper bound leaves the lower half-interval.
            possible = row.statistic == "median" and (column == "high" or row.role == "check")
            if not possible or (column == "low" and "high" not in row.not_reached):
                yield Fault(
                    row,
                    column,
                    "NR does not go here",
                    "give a number",
                    "NR as high of a median, or in its check rows",
                )
        strict = row.role == "fit" and row.interval != "none"
        for column, low, high in (("low", row.low, row.value), ("high", row.value, row.high)):
            if high < low or (strict and high == low):
                sign = "<" if strict else "<="
                problem = f"value {getattr(row, column):g} is on the wrong side of value {row.value:g}"
                yield Fault(row, column, problem, "check all three numbers", f"low {sign} value {sign} high")


def in_range(evidence: "Evidence", settings: FitSettings) -> Faults:
    """Counts are whole numbers up to their denominator, percentages at most 100, everything else above 0."""
    for row in evidence.rows:
        if row.statistic in ("count", "quartiles") and isnan(row.denominator):
            yield Fault(row, "denominator", "blank", "give the number of patients that the source counts out of")
        if row.statistic == "count":
            if not (row.value.is_integer() and 0 <= row.value <= row.denominator):
                problem = f"value {row.value:g} is no count out of {row.denominator:g}"
                allowed = f"a whole number, 0 to {row.denominator:g}"
                yield Fault(row, "value", problem, "enter patients, not a percentage", allowed)
            continue
        top = 100.0 if row.unit == "percent" else float("inf")
        for column in ("value", "low", "high"):
            number = getattr(row, column)
            if number <= 0 or number > top:
                allowed = "above 0" + (", at most 100" if top == 100 else "")
                yield Fault(row, column, f"value {number:g} {row.unit} is impossible", "correct it", allowed)


def trial_size(evidence: "Evidence", settings: FitSettings) -> Faults:
    """A denominator is a size in fit.toml, or the count of the row that this one is given."""
    for row in evidence.rows:
        if isnan(row.denominator) or (row.statistic == "quartiles" and row.given):
            continue
        arms = [getattr(settings.trial, arm) for arm in EACH if row.arm in (arm, "both", "mezikd_vs_kd")]
        randomised, treated = sum(a.randomised for a in arms), sum(a.treated for a in arms)
        if row.subgroup in REGIONS:
            size = getattr(arms[0].regions, row.subgroup)
            # Untreated patients by region are not in fit.toml: any region may lack all of them.
            allowed = list(range(size - (randomised - treated), size + 1))
            words = f"{allowed[0]} to {size}" if len(allowed) > 1 else f"{size}"
        else:
            allowed = sorted({treated, randomised})
            words = " or ".join(map(str, allowed))
        given = evidence.given(row)
        if given is not None:
            allowed, words = [*allowed, given.value], f"{words}, or {given.value:g} ({given.id})"
        if row.denominator not in allowed:
            problem = f"value {row.denominator:g} is no size of {row.arm}, {row.subgroup}"
            remedy = "correct it or the sizes in fit.toml, or name in given the row that it counts out of"
            yield Fault(row, "denominator", problem, remedy, words)


def conditional(evidence: "Evidence", settings: FitSettings) -> Faults:
    """`given` names the count that the outcome is conditional on; quartiles are out of its patients."""
    for row in evidence.rows:
        outcome = _outcome(row)
        if not row.given and (row.role == "check" or outcome.given is None):
            continue
        counts = [r for r in evidence.rows if (r.outcome, r.statistic) == (outcome.given, "count")]
        wanted = [r.id for r in counts if r.arm == row.arm and r.subgroup in (row.subgroup, "all")]
        given = evidence.given(row)
        if outcome.given is None:
            problem = f"{shown(row.outcome)} is conditional on no row"
            yield Fault(row, "given", problem, "leave it blank", "blank")
        elif row.given not in wanted or given is None:
            problem = f"value {shown(row.given)} is no row of {shown(outcome.given)} in {row.arm}"
            remedy = "give its id" if wanted else f"add a row of {shown(outcome.given)} and give its id"
            yield Fault(row, "given", problem, remedy, ", ".join(wanted) or None)
        elif row.statistic == "quartiles" and row.denominator != given.value:
            problem = f"value {row.denominator:g} is not the number of patients with the event"
            yield Fault(row, "denominator", problem, "correct it", f"{given.value:g} ({given.id})")


def nested(evidence: "Evidence", settings: FitSettings) -> Faults:
    """A count is no larger than a count that includes it; disjoint parts add up."""
    counts = {(r.outcome, r.arm, r.subgroup): r for r in evidence.rows if r.statistic == "count"}
    for row in counts.values():
        for outer in _outcome(row).within:
            whole = counts.get((outer, row.arm, row.subgroup))
            if whole is not None and row.value > whole.value:
                problem = f"value {row.value:g} is more than the {whole.value:g} of {whole.name}, which includes it"
                yield Fault(row, "value", problem, "correct one of the two", f"0 to {whole.value:g}")
    for text, parts, how in SUMS:
        for (outcome, arm, subgroup), whole in counts.items():
            found = [counts[p, arm, subgroup] for p in parts if (p, arm, subgroup) in counts]
            total = sum(r.value for r in found)
            if outcome != text or len(found) < len(parts):
                continue
            if total > whole.value or (how == "equal" and total != whole.value):
                names = " and ".join(r.id for r in found)
                problem = f"value {whole.value:g}, but {names} add up to {total:g}"
                yield Fault(whole, "value", problem, "correct one of them", f"{how} {total:g}")


def regions(evidence: "Evidence", settings: FitSettings) -> Faults:
    """Regions add up to their whole, and a whole is not fitted beside its regions."""

    def group(row: "Row") -> tuple[str, str]:
        return row.id, row.arm

    for _, members in groupby(sorted(evidence.rows, key=group), key=group):
        by_subgroup = {r.subgroup: r for r in members}
        whole, parts = by_subgroup.pop("all", None), list(by_subgroup.values())
        if whole is None or not parts:
            continue
        for column in ("value", "denominator"):
            total, size = sum(getattr(r, column) for r in parts), getattr(whole, column)
            complete = len(parts) == len(REGIONS)
            if total > size or (complete and total != size):
                problem = f"value {size:g}, but the {len(parts)} regions add up to {total:g}"
                allowed = f"{total:g}" if complete else f"{total:g} or more"
                yield Fault(whole, column, problem, "correct the whole or a region", allowed)
        fitted = [r for r in parts if r.role == "fit"]
        if whole.role == "fit" and fitted:
            names = ", ".join(r.subgroup for r in fitted)
            problem = f"fitted, and so are its regions ({names}): patients count twice"
            yield Fault(whole, "role", problem, "make this row, or all its regions, check", "check")


def some_fitted(evidence: "Evidence", settings: FitSettings) -> Faults:
    """At least one row is fitted."""
    if not evidence.fit:
        yield Fault(
            evidence.rows[0],
            "role",
            "no row has the role fit",
            "make the rows to be fitted fit",
            "fit, check",
        )


RULES: tuple[Callable[["Evidence", FitSettings], Faults], ...] = (
    known_outcome,
    unique,
    interval,
    in_range,
    trial_size,
    nested,
    regions,
    conditional,
    some_fitted,
)
"""In the order in which they are applied: a later rule may rely on an earlier one."""
