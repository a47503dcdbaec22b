"""What is planned: dose, days on, cycle length, and the visits at which counts are taken.

The study calendar runs in weeks: day 1 of week w is study day 7 w + 1 (t = 7 w days), and visits fall on such days.
"""

from dataclasses import dataclass

import numpy as np

DAYS_PER_MONTH = 30.4375
LEVELS_MG = (1.0, 0.6, 0.3)


@dataclass(frozen=True)
class Visits:
    """When ANC is counted: every week in the first cycles, then on fixed days of the cycle (an assumption)."""

    weekly_cycles: int = 2
    later_days: tuple[int, ...] = (1, 15)
    calendar_days: int | None = None
    """Length of the cycles that these are counted in. None: the regimen's own. A regimen of other cycles that keeps the
    fitted trial's calendar has as many counts, and so finds neutropenia as often."""


@dataclass(frozen=True)
class Regimen:
    """A planned regimen: ``dose_mg`` on days 1 to ``days_on`` of each cycle of ``cycle_days`` days."""

    dose_mg: float = 1.0
    days_on: int = 21
    cycle_days: int = 28
    levels_mg: tuple[float, ...] = LEVELS_MG
    visits: Visits = Visits()

    def __post_init__(self):
        if self.cycle_days % 7 or self.cycle_days <= 0:
            raise ValueError(f"cycle_days {self.cycle_days}: a multiple of 7")
        if not 0 < self.days_on <= self.cycle_days:
            raise ValueError(f"days_on {self.days_on}: 1 to {self.cycle_days}")

    def planned(self, weeks: int) -> np.ndarray:
        """Return the planned dose of each day, mg, shape ``(weeks, 7)``."""
        day = np.arange(7 * weeks) % self.cycle_days
        return np.where(day < self.days_on, self.dose_mg, 0.0).reshape(weeks, 7)

    def is_visit(self, weeks: int) -> np.ndarray:
        """Return whether a count is scheduled on day 1 of each week, shape ``(weeks,)``; day 1 of the study is not one."""
        t = 7 * np.arange(weeks)
        calendar = self.visits.calendar_days or self.cycle_days
        cycle, day = t // calendar, t % calendar + 1
        return (t > 0) & ((cycle < self.visits.weekly_cycles) | np.isin(day, self.visits.later_days))

    def is_dosing(self, weeks: int) -> np.ndarray:
        """Return whether a dose is planned on day 1 of each week, shape ``(weeks,)``."""
        return self.planned(weeks)[:, 0] > 0.0

    def level_factors(self) -> np.ndarray:
        """Return the dose of each level at or below the planned one, over the planned dose; starts with 1."""
        lower = [x for x in self.levels_mg if x < self.dose_mg - 1e-9]
        return np.array([self.dose_mg, *lower]) / self.dose_mg
