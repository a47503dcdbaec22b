"""What users read, from the expectations of the mean-field model: rates, relative dose intensity, PFS, by regimen.

Fast enough for every posterior draw of every trial of a calibration and of every alternative of a sensitivity analysis;
`mezikd predict` gives the same quantities from the exact simulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.expected import Cuts, Expected, expected
from mezikd.model.parameters import natural
from mezikd.model.trial_design import Design

from .likelihood import Target

RDI_GRID = np.linspace(0.02, 1.0, 50)


@dataclass(frozen=True)
class Plan:
    """A regimen by the dose and the days on of a 28-day cycle."""

    dose_mg: float
    days_on: int = 21

    @property
    def name(self) -> str:
        """How tables call it."""
        days = "" if self.days_on == 21 else f" {self.days_on}/28"
        return f"{self.dose_mg:.1f} mg{days}"

    def of(self, design: Design) -> Design:
        """Return ``design`` with this regimen; levels of reduction as the trial's, below the dose."""
        levels = (self.dose_mg, *(level for level in design.regimen.levels_mg if level < self.dose_mg))
        regimen = replace(design.regimen, dose_mg=self.dose_mg, days_on=self.days_on, levels_mg=levels)
        return replace(design, regimen=regimen)


TRIAL, LOWER, SHORTER = Plan(1.0), Plan(0.6), Plan(1.0, 14)
"""The regimen of the trial's arm, and two that rest on extrapolation."""


def _median_rdi(e: Expected):
    """Return the median relative dose intensity, percent, from the distribution at RDI_GRID."""
    return 100.0 * jnp.interp(0.5, jnp.maximum(e.rdi, jax.lax.cummax(e.rdi)), jnp.asarray(RDI_GRID))


def quantities_of(e: Expected) -> dict[str, jax.Array]:
    """Return what users read: percent of patients, months, log hazard ratio."""
    return {
        "neutropenia grade >= 3, %": 100.0 * e.ever("neutropenia", "mezikd"),
        "held for neutropenia, %": 100.0 * e.ever("held", "mezikd"),
        "infection grade >= 3, %": 100.0 * e.ever("severe", "mezikd"),
        "infection with neutropenia, %": 100.0 * e.ever("concurrent", "mezikd"),
        "median RDI, %": _median_rdi(e),
        "median PFS, months": e.pfs_median("mezikd"),
        "log hazard ratio of PFS": e.log_hazard_ratio(),
    }


CONTROL = {
    "Kd: infection grade >= 3, %": lambda e: 100.0 * e.ever("severe", "kd"),
    "Kd: median PFS, months": lambda e: e.pfs_median("kd"),
}


def quantity_function(target: Target, plans: tuple[Plan, ...] = (TRIAL, LOWER)):
    """Return a compiled function: (coordinates, changed parameters) -> quantities users read, by name, under each plan.

    Kd's own come with the first plan; they do not depend on it.
    """
    cuts = Cuts(rdi=tuple(RDI_GRID))

    @jax.jit
    def of(z, changes: Mapping[str, Any] | None = None):
        theta = natural(z, target.parameters) | dict(changes or {})
        out: dict[str, Any] = {}
        for plan in plans:
            e = expected(theta, plan.of(target.design), target.mezikd, target.kd, cuts)
            out |= {f"{plan.name}: {name}": x for name, x in quantities_of(e).items()}
            if plan is plans[0]:
                out |= {name: f(e) for name, f in CONTROL.items()}
        return out

    return of
