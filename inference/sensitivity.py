"""One assumption at a time: what would be read if it were otherwise.

Each alternative changes a fixed parameter, a prior, the schedule of counts or the form of a distribution. The posterior
draws are moved to its posterior by the normal approximations at both modes and weighted by the ratio of the densities
(importance.py): seconds, and the k-hat of the weights says whether that was enough. Where not, it can be sampled (refits.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.regimen import Visits

from .coordinates import prior_scaled, straightened
from .importance import Normal, Weighted, moved, smoothed
from .likelihood import Data, Prior, Target
from .mode import find_mode, whitening
from .problem import Problem
from .processor import compiler_options
from .quantities import LOWER, TRIAL, quantity_function
from .refits import Asked

FIXED = ("theta", "tumour_memory_days")
FORMS = {"log_resume": 0.0, "progression_bend": 0.0, "followup_linear": 0.0}
"""Alternatives that the model knows besides its parameters, as the fit has them (rules.py, progression.py)."""


def unchanged(problem: Problem) -> dict[str, float]:
    """Return what alternatives change, as the fit has it; run-time arguments, so that one program serves all."""
    return {p.name: p.centre for p in problem.parameters if p.name in FIXED} | FORMS


@dataclass(frozen=True)
class Alternative:
    """One assumption otherwise."""

    assumption: str
    value: str
    changes: Mapping[str, float] = field(default_factory=dict)
    """Of ``unchanged``."""
    priors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Other priors of estimated parameters: centre in natural units and SD on the working scale."""
    visits: Visits | None = None

    @property
    def name(self) -> str:
        """Assumption and value in one line."""
        return f"{self.assumption}: {self.value}"


_KNOWN = 0.02
ALTERNATIVES = (
    Alternative("visits", "weekly throughout", visits=Visits(33, (1, 15))),
    Alternative("visits", "day 1 only from cycle 3", visits=Visits(2, (1,))),
    Alternative("dosing resumes at", "0.75 x 10^9/L", {"log_resume": float(np.log(0.75))}),
    Alternative("dosing resumes at", "1.5 x 10^9/L", {"log_resume": float(np.log(1.5))}),
    Alternative("level step after a hold", "20 %", priors={"reduce_after_hold": (0.2, 0.1)}),
    Alternative("level step after a hold", "80 %", priors={"reduce_after_hold": (0.8, 0.1)}),
    Alternative("half-life", "7 h", priors={"half_life_hours": (7.0, _KNOWN)}),
    Alternative("half-life", "20 h", priors={"half_life_hours": (20.0, _KNOWN)}),
    Alternative("Hill exponent", "1.3", priors={"hill": (1.3, _KNOWN)}),
    Alternative("Hill exponent", "3", priors={"hill": (3.0, _KNOWN)}),
    Alternative("potency in tumour, EC50_T", "0.1 mg", priors={"ec50_tumour": (0.1, _KNOWN)}),
    Alternative("potency in tumour, EC50_T", "0.6 mg", priors={"ec50_tumour": (0.6, _KNOWN)}),
    Alternative("memory of tumour effect", "7 d", {"tumour_memory_days": 7.0}),
    Alternative("memory of tumour effect", "84 d", {"tumour_memory_days": 84.0}),
    Alternative("error of one count, sigma", "0.2", priors={"sigma_anc": (0.2, _KNOWN)}),
    Alternative("error of one count, sigma", "0.4", priors={"sigma_anc": (0.4, _KNOWN)}),
    Alternative("theta", "0.90", {"theta": 0.90}),
    Alternative("theta", "0.99", {"theta": 0.99}),
    Alternative("infection per log ANC, b_n", "0.05", priors={"infection_neutropenia": (0.05, _KNOWN)}),
    Alternative("infection per log ANC, b_n", "1.4", priors={"infection_neutropenia": (1.4, _KNOWN)}),
    Alternative("time to data cutoff", "normal", {"followup_linear": 1.0}),
    Alternative("baseline of progression", "hazard rises late", {"progression_bend": 0.3}),
    Alternative("baseline of progression", "hazard falls late", {"progression_bend": -0.3}),
)
"""Alternatives of the built-in fit."""


class Program:
    """Compiled density and quantities of one schedule of counts."""

    def __init__(self, problem: Problem, target: Target, data: Data):
        self.target, self.data, self.base = target, data, unchanged(problem)
        self._gradient = jax.jit(jax.value_and_grad(target.sampled_log_density), compiler_options=compiler_options())
        self._quantities = quantity_function(target, (TRIAL, LOWER))

    def gradient(self, asked: Asked, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-density that is ``asked`` for and its gradient in the sampler's coordinates."""
        value, slope = self._gradient(x, asked.data, asked.changes)
        return float(value), np.asarray(slope)

    def quantities(self, z: np.ndarray, changes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the quantities users read at each row of ``z``."""
        each = [self._quantities(row, {**self.base, **changes}) for row in z]
        return {k: np.array([float(e[k]) for e in each]) for k in each[0]}


def prior_of(problem: Problem, priors: Mapping[str, tuple[float, float]]) -> Prior:
    """Return the prior of the coordinates with some parameters' own replaced."""
    n = len(problem.free)
    centre, spread = np.zeros(n), np.ones(n)
    for i, p in enumerate(problem.free):
        if p.name in priors:
            value, sd = priors[p.name]
            centre[i] = (p.to_working(value) - p.to_working(p.centre)) / p.spread
            spread[i] = sd / p.spread
    return Prior(jnp.asarray(centre), jnp.diag(jnp.asarray(1.0 / spread)))


def normal_at(program: Program, asked: Asked, start: np.ndarray) -> Normal:
    """Return the normal approximation at the mode that ``start`` leads to."""
    gradient = partial(program.gradient, asked)
    x, _, _ = find_mode(gradient, start[None])
    return Normal(x, whitening(gradient, x))


class Under(NamedTuple):
    """The posterior under an alternative."""

    asked: Asked
    near: Normal
    """Its normal approximation, in the sampler's coordinates."""
    weights: Weighted
    z: np.ndarray
    """Prior-scaled coordinates of the draws moved there, shape ``(draws, parameter)``."""


def posterior_under(
    program: Program, problem: Problem, alternative: Alternative, x: np.ndarray, log_density: np.ndarray, base: Normal
) -> Under:
    """Return the posterior under ``alternative``, from the draws ``x`` of the fit.

    ``log_density`` is that of the draws where they come from, ``base`` its normal approximation.
    """
    asked = Asked(
        program.data._replace(prior=prior_of(problem, alternative.priors)), {**program.base, **alternative.changes}
    )
    start = np.asarray(straightened(_with_centres(problem, alternative, base.centre), problem.parameters))
    there = normal_at(program, asked, start)
    to = moved(x, base, there)
    density = np.array([program.gradient(asked, row)[0] for row in to])
    return Under(asked, there, smoothed(density - log_density), np.asarray(prior_scaled(to, problem.parameters)))


def _with_centres(problem: Problem, alternative: Alternative, x: np.ndarray) -> np.ndarray:
    """Return prior-scaled coordinates of ``x`` with parameters of other priors at their centres: where to start."""
    z = np.array(prior_scaled(x, problem.parameters))
    centre = np.asarray(prior_of(problem, alternative.priors).centre)
    changed = np.isin([p.name for p in problem.free], list(alternative.priors))
    return np.where(changed, np.clip(centre, -5.5, 5.5), z)


def with_visits(target: Target, visits: Visits) -> Target:
    """Return the target with another schedule of counts."""
    design = replace(target.design, regimen=replace(target.design.regimen, visits=visits))
    return replace(target, design=design)
