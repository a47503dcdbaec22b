"""What is predicted of a scenario: outcomes of simulated patients, each a number per posterior draw.

Outcomes of treatment (neutropenia, infection, holds) are shares of all patients, counted as a trial collects them: up to 28
days after the end of treatment; who stops treatment without the event does not have it (cumulative incidence).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mezikd.model.outcomes import SAFETY_WEEKS
from mezikd.model.regimen import DAYS_PER_MONTH

from . import survival_by_draw as survival

NEVER = 1e6
MONTHS = (1, 3, 6, 12, 18, 24)
PFS_MONTHS = (6, 12, 18)
MEAN_MONTH = 18
"""Restricted mean and benefit-risk sum look this far, or to an earlier horizon."""
PFS_MEAN = "restricted mean PFS time"
SEVERE, FEBRILE = "infection grade >=3", "febrile neutropenia"
NEUTROPENIA, HAZARD_RATIO, PFS = "neutropenia grade >=3", "PFS hazard ratio against Kd", "PFS"


class Key(NamedTuple):
    """An outcome at a time."""

    outcome: str
    month: int
    """Months from the first dose up to which it looks."""


@dataclass(frozen=True)
class Kind:
    """What an outcome is."""

    unit: str
    better: int
    """1: a larger number is better for the patient, -1: a smaller one, 0: neither."""
    log: bool = False
    """Whether Monte Carlo noise is taken out on the log scale."""
    reported: str | None = None
    """The outcome of evidence.csv that would constrain it; None: no reported number could."""
    mezigdomide: bool = False
    """Whether it exists only with mezigdomide."""
    emergent: bool = False
    """Whether it exists only where dose rules may act."""
    by_month: bool = False
    """Whether it is given at several months; else once, over the horizon or a cycle."""


_RDI = "relative dose intensity, mezigdomide"
_DOSED = {"reported": _RDI, "mezigdomide": True}
KINDS: dict[str, Kind] = {
    NEUTROPENIA: Kind("percent", -1, reported="neutropenia grade 3 or 4", by_month=True),
    "neutropenia grade 4": Kind("percent", -1, by_month=True),
    FEBRILE: Kind("percent", -1, reported="febrile neutropenia grade 3 or 4", by_month=True),
    SEVERE: Kind("percent", -1, reported="infection grade 3 or 4", by_month=True),
    "infection with neutropenia": Kind(
        "percent", -1, reported="infection concurrent with grade >=3 neutropenia", by_month=True
    ),
    "death": Kind("percent", -1, reported="death from any cause", by_month=True),
    "time to first neutropenia, quartile 1": Kind("days", 0, log=True),
    "time to first neutropenia, median": Kind("days", 0, log=True),
    "time to first neutropenia, quartile 3": Kind("days", 0, log=True),
    "duration of first neutropenia, median": Kind("days", -1, log=True, reported="duration of grade 3 or 4 neutropenia"),
    "ANC nadir of cycle 1, median patient": Kind("10^9/L", 1, log=True),
    "ANC on day 28, median patient": Kind("10^9/L", 1, log=True),
    "held for neutropenia": Kind(
        "percent", -1, reported="mezigdomide delayed or paused for neutropenia", mezigdomide=True, emergent=True
    ),
    "dose reduced": Kind(
        "percent", -1, reported="mezigdomide dose reduced, any cause", mezigdomide=True, emergent=True
    ),
    "relative dose intensity, quartile 1": Kind("percent", 0, **_DOSED),
    "relative dose intensity, median": Kind("percent", 0, **_DOSED),
    "relative dose intensity, quartile 3": Kind("percent", 0, **_DOSED),
    PFS: Kind("percent", 1, reported="progression-free survival", by_month=True),
    "PFS, median": Kind("months", 1, log=True, reported="progression-free survival"),
    PFS_MEAN: Kind("months", 1, reported="progression-free survival", by_month=True),
    HAZARD_RATIO: Kind("ratio", -1, log=True, reported="progression-free survival", mezigdomide=True),
}  # fmt: skip
"""Outcomes in the order of the tables."""


def months_within(horizon: int) -> tuple[int, ...]:
    """Return the months at which shares are given: the usual ones up to the horizon, and the horizon."""
    return tuple(sorted({m for m in MONTHS if m <= horizon} | {horizon}))


def mean_month(horizon: int) -> int:
    """Return how far the restricted mean and the benefit-risk sum look."""
    return min(MEAN_MONTH, horizon)


def exists(key: Key, mezigdomide: bool, emergent: bool) -> bool:
    """Return whether a scenario has this outcome at all."""
    kind = KINDS[key.outcome]
    return (mezigdomide or not kind.mezigdomide) and (emergent or not kind.emergent)


class Patients:
    """Simulated patients of one scenario in some posterior draws; arrays of the history have shape ``(draws, patients)``."""

    def __init__(self, history, horizon: int):
        self.history = history
        self.horizon = horizon
        self.pfs_months = np.minimum(history.progression, history.death) / DAYS_PER_MONTH
        self._end = np.minimum(np.minimum(history.stop + 7.0 * SAFETY_WEEKS, history.death + 1e-6), history.cutoff)

    def part(self, which: slice) -> "Patients":
        """Return some of the patients."""
        return Patients(type(self.history)(*(x[:, which] for x in self.history)), self.horizon)

    def collected(self, day: np.ndarray, month: float) -> np.ndarray:
        """Return which patients have an event at ``day`` that a trial records up to ``month``."""
        return day <= np.minimum(self._end, month * DAYS_PER_MONTH)

    def percent(self, day: np.ndarray, month: float) -> np.ndarray:
        """Return the share of such patients, percent."""
        return 100.0 * self.collected(day, month).mean(axis=-1)

    def quantile_among(self, values: np.ndarray, inside: np.ndarray, q: float) -> np.ndarray:
        """Return a quantile of ``values`` over the patients ``inside``; NaN in a draw without any."""
        ordered = np.sort(np.where(inside, values, np.inf), axis=-1)
        n = inside.sum(axis=-1)
        at = q * np.maximum(n - 1, 0)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, np.maximum(n - 1, 0))
        a, b = (np.take_along_axis(ordered, i[:, None], axis=-1)[:, 0] for i in (low, high))
        a, b = (np.where(n > 0, x, np.nan) for x in (a, b))
        return a + (at - low) * (b - a)


def outcomes(patients: Patients, control: Patients | None) -> Iterator[tuple[Key, np.ndarray]]:
    """Yield each outcome with its value in every draw; ``control`` holds the same patients on Kd, None for Kd itself.

    Shares are in percent, times in days or months as KINDS says; a median beyond the horizon is infinite.
    """
    h, horizon = patients.history, patients.horizon
    by_month: dict[str, Callable[[int], np.ndarray]] = {
        NEUTROPENIA: lambda m: patients.percent(h.first_grade3, m),
        "neutropenia grade 4": lambda m: patients.percent(h.first_grade4, m),
        FEBRILE: lambda m: patients.percent(h.first_febrile, m),
        SEVERE: lambda m: patients.percent(h.severe, m),
        "infection with neutropenia": lambda m: patients.percent(h.concurrent, m),
        "death": lambda m: 100.0 * (h.death <= m * DAYS_PER_MONTH).mean(axis=-1),
    }
    for outcome, value in by_month.items():
        for month in months_within(horizon):
            yield Key(outcome, month), value(month)
    neutropenic = patients.collected(h.first_grade3, horizon)
    for name, q in (("quartile 1", 0.25), ("median", 0.5), ("quartile 3", 0.75)):
        yield (
            Key(f"time to first neutropenia, {name}", horizon),
            patients.quantile_among(h.first_grade3, neutropenic, q),
        )
    finished = neutropenic & (h.episode_days < NEVER)
    yield (
        Key("duration of first neutropenia, median", horizon),
        patients.quantile_among(h.episode_days, finished, 0.5),
    )
    yield Key("ANC nadir of cycle 1, median patient", 1), np.median(h.nadir_cycle1, axis=-1)
    yield Key("ANC on day 28, median patient", 1), np.median(h.anc_day28, axis=-1)
    yield Key("held for neutropenia", horizon), patients.percent(h.first_hold, horizon)
    reduced = (h.other_reduction > 0.5) | (h.first_reduction <= np.minimum(h.stop, horizon * DAYS_PER_MONTH))
    yield Key("dose reduced", horizon), 100.0 * reduced.mean(axis=-1)
    intensity = 100.0 * h.given / np.maximum(h.planned, 1e-9)
    for name, q in (("quartile 1", 0.25), ("median", 0.5), ("quartile 3", 0.75)):
        yield Key(f"relative dose intensity, {name}", horizon), np.quantile(intensity, q, axis=-1)
    for month in PFS_MONTHS:
        if month <= horizon:
            yield Key(PFS, month), 100.0 * survival.survival(patients.pfs_months, month)
    yield Key("PFS, median", horizon), survival.median_time(patients.pfs_months, horizon)
    mean = mean_month(horizon)
    yield Key(PFS_MEAN, mean), survival.restricted_mean(patients.pfs_months, mean)
    if control is not None:
        yield Key(HAZARD_RATIO, horizon), survival.hazard_ratio(patients.pfs_months, control.pfs_months, horizon)
