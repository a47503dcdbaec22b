"""Likelihood of reported numbers: disjoint groups and conditional chains (inference.md, section 2).

Each fitted row becomes one term: binomial for counts (conditional on the row named in ``given``, so that no patient is
counted twice), multinomial with n/4 in each interval for quartiles, and for the survival summaries, which share
patients, one multivariate normal with a covariance from simulated trials (survival_covariance.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.expected import Cuts, Expected, expected
from mezikd.model.parameters import Parameter, natural
from mezikd.model.patients import Cohort
from mezikd.model.trial_design import Design

from .coordinates import prior_scaled
from .evidence import Evidence, Row
from .vocabulary import VOCABULARY

Z95 = 1.959963984540054
_EDGE = 1e-12
SURVIVAL_OUTCOMES = ("progression-free survival", "progression or death", "death from any cause")
"""Rows that enter the joint normal of the survival summaries."""


def _ever(weekly: str):
    return lambda e, row: e.ever(weekly, row.arm, row.subgroup)


PROBABILITY: dict[str, Callable[[Expected, Row], jax.Array]] = {
    "neutropenia grade 3 or 4": _ever("neutropenia"),
    "mezigdomide delayed or paused for neutropenia": _ever("held"),
    "mezigdomide dose reduced, any cause": _ever("reduced"),
    "infection grade 3 or 4": _ever("severe"),
    "infection any grade": _ever("any_infection"),
    "infection, worst grade 4": lambda e, row: e.ever("severe", row.arm, row.subgroup) * e.grade4[row.arm],
    "infection concurrent with grade >=3 neutropenia": _ever("concurrent"),
    "progression or death": _ever("pfs_events"),
    "death from any cause": _ever("deaths"),
}
"""Probability that a patient of the arm (or region) counts towards a row, by outcome."""

CUMULATIVE: dict[str, Callable[[Expected, Row, np.ndarray], jax.Array]] = {
    "duration of grade 3 or 4 neutropenia": lambda e, row, q: e.neutropenia_duration,
    "relative dose intensity, mezigdomide": lambda e, row, q: e.rdi,
    "time to onset of grade 3 or 4 infection": lambda e, row, q: e.severe_onset(row.arm, q),
    "duration of treatment": lambda e, row, q: e.treatment_duration(row.arm, q),
    "follow-up": lambda e, row, q: e.observed_follow_up(q),
}
"""Distribution function at the reported quartiles, by outcome."""


def reported_quartiles(row: Row) -> np.ndarray:
    """Return the three quartiles of a row."""
    return np.array([row.low, row.value, row.high])


def cuts_of(evidence: Evidence) -> Cuts:
    """Return the values at which the evidence wants distributions that the weekly scan has to follow."""
    found = {}
    for row in evidence.fit:
        if row.outcome == "relative dose intensity, mezigdomide":
            found["rdi"] = tuple(reported_quartiles(row) / 100.0)
        if row.outcome == "duration of grade 3 or 4 neutropenia":
            found["neutropenia_days"] = tuple(reported_quartiles(row))
    return Cuts(**found)


def _safe(p):
    return jnp.clip(p, _EDGE, 1.0 - _EDGE)


def binomial(count, n, p):
    """Return the log-likelihood of ``count`` of ``n`` at probability ``p``, without the constant."""
    p = _safe(p)
    return count * jnp.log(p) + (n - count) * jnp.log1p(-p)


def quartiles(n, cumulative):
    """Return the log-likelihood of reported quartiles: n/4 patients in each of the four intervals they cut."""
    edges = jnp.concatenate([jnp.zeros(1), cumulative, jnp.ones(1)])
    return 0.25 * n * jnp.log(jnp.clip(jnp.diff(edges), _EDGE, 1.0)).sum()


def conditional(row: Row, whole: Row, p, p_whole):
    """Return (count, n, probability) of ``row`` given ``whole``.

    A ``part`` of the given patients (held, grade 4, concurrent) is a share of them; a ``whole`` around them (any grade,
    given severe) adds those of the others who have it.
    """
    if VOCABULARY[row.outcome, row.statistic].relation == "part":
        return row.value, whole.value, p / _safe(p_whole)
    others = 1.0 - p_whole
    return row.value - whole.value, whole.denominator - whole.value, (p - p_whole) / _safe(others)


@dataclass(frozen=True)
class SurvivalBlock:
    """Joint normal of the survival summaries: observed vector, scale and correlation, in the order of ``rows``."""

    rows: tuple[Row, ...]
    observed: np.ndarray
    covariance: np.ndarray
    precision_root: np.ndarray = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "precision_root", np.linalg.inv(np.linalg.cholesky(self.covariance)))


def survival_scale(row: Row) -> tuple[float, float]:
    """Return the reported number and its standard error on the scale of the joint normal.

    log for medians and hazard ratios (standard error from the 95 % interval, or its lower half where the upper bound was
    not reached), logit for counts (binomial; half a patient from the edges).
    """
    if row.statistic == "count":
        p = np.clip(row.value, 0.5, row.denominator - 0.5) / row.denominator
        return float(np.log(p / (1.0 - p))), float(1.0 / np.sqrt(row.denominator * p * (1.0 - p)))
    if np.isnan(row.high):
        return float(np.log(row.value)), float(np.log(row.value / row.low) / Z95)
    return float(np.log(row.value)), float(np.log(row.high / row.low) / (2.0 * Z95))


def survival_quantity(e: Expected, row: Row):
    """Return the model's counterpart of a survival summary on the same scale."""
    if row.statistic == "count":
        p = _safe(PROBABILITY[row.outcome](e, row))
        return jnp.log(p) - jnp.log1p(-p)
    if row.statistic == "median":
        return jnp.log(e.pfs_median(row.arm))
    return e.log_hazard_ratio()


def survival_rows(evidence: Evidence) -> tuple[Row, ...]:
    """Return the fitted rows of the joint normal."""
    return tuple(r for r in evidence.fit if r.outcome in SURVIVAL_OUTCOMES)


def independent_block(evidence: Evidence) -> SurvivalBlock:
    """Return the survival summaries as if independent: the start, before trials can be simulated at a mode."""
    rows = survival_rows(evidence)
    scale = np.array([survival_scale(r) for r in rows]).reshape(-1, 2)
    return SurvivalBlock(rows, scale[:, 0], np.diag(scale[:, 1] ** 2))


@dataclass(frozen=True)
class Target:
    """The log-density over standard-normal coordinates of the free parameters."""

    evidence: Evidence
    design: Design
    parameters: tuple[Parameter, ...]
    mezikd: Cohort
    kd: Cohort
    survival: SurvivalBlock

    @cached_property
    def compiled_expected(self) -> Callable[[Any], Expected]:
        """``expected``, compiled once for all that read it draw by draw."""
        return jax.jit(self.expected)

    def expected(self, z) -> Expected:
        """Return the expectations of both arms at coordinates ``z``."""
        theta = natural(z, self.parameters)
        return expected(theta, self.design, self.mezikd, self.kd, cuts_of(self.evidence))

    def terms(self, e: Expected, precision_root=None) -> dict[str, jax.Array]:
        """Return the log-likelihood of each reported number; survival summaries as one term, 'survival'.

        ``precision_root`` replaces that of the survival summaries (to compile before it is known).
        """
        out = {}
        for row in self.evidence.fit:
            if row.outcome in SURVIVAL_OUTCOMES:
                continue
            if row.statistic == "quartiles":
                cumulative = CUMULATIVE[row.outcome](e, row, reported_quartiles(row))
                out[row.name] = quartiles(row.denominator, cumulative)
                continue
            p = PROBABILITY[row.outcome](e, row)
            count, n = row.value, row.denominator
            whole = self.evidence.given(row)
            if whole is not None:
                count, n, p = conditional(row, whole, p, PROBABILITY[whole.outcome](e, whole))
            out[row.name] = binomial(count, n, p)
        if self.survival.rows:
            model = jnp.stack([survival_quantity(e, r) for r in self.survival.rows])
            root = self.survival.precision_root if precision_root is None else precision_root
            residual = root @ (self.survival.observed - model)
            out["survival"] = -0.5 * (residual**2).sum()
        return out

    def log_density(self, z, precision_root=None):
        """Return the log posterior density at ``z`` up to a constant; -inf where it is not finite."""
        value = sum(self.terms(self.expected(z), precision_root).values()) - 0.5 * (z**2).sum()
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    def sampled_log_density(self, x, precision_root=None):
        """Return ``log_density`` at the sampler's coordinates ``x`` (coordinates.py)."""
        return self.log_density(prior_scaled(x, self.parameters), precision_root)
