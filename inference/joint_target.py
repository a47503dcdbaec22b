"""Log-density of a joint fit: patients of one trial and reported numbers of another, with a between-trial effect."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from mezikd.model.delivered import Counts, Deaths, Ledger
from mezikd.model.parameters import Parameter, free
from mezikd.model.population import Information

from .arrest_target import ArrestInputs, ArrestTarget
from .between_trials import between_sd, both, given
from .coordinates import prior_scaled, straightened
from .likelihood import Data, Target


class JointInputs(NamedTuple):
    """What the log-density is given at run time: the fields of ``ArrestInputs``, and the reported numbers."""

    ledger: Ledger
    counts: Counts
    region: Int[np.ndarray, "patients"]
    drug: Float[np.ndarray, "patients"]
    deaths: Deaths
    information: Information
    covariates: dict[str, Float[np.ndarray, "patients"]]
    numbers: Data

    @classmethod
    def of(cls, patients: ArrestInputs, numbers: Data) -> "JointInputs":
        """Return the inputs of both trials."""
        return cls(*patients, numbers)


class Sides(NamedTuple):
    """A point as each trial's own likelihood reads it."""

    patients: Array
    """Coordinates of ``ArrestTarget``: estimated parameters, then effects."""
    reported: Array
    """Prior-scaled coordinates of ``Target``."""
    tau: Array
    """Between-trial SD of each shared parameter, working scale."""
    log_prior: Array
    """Of everything but the effects, up to a constant."""


class Layout(NamedTuple):
    """Where what lies among the coordinates, each of them standard normal a priori.

    Then come the effects' correlation, where it is estimated, and the effects.
    """

    patients: slice
    """Parameters of the patients' trial alone."""
    reported: slice
    """Of the other trial alone."""
    first: slice
    """Shared parameters in the patients' trial."""
    second: slice
    """In the other trial, given those."""
    tau: slice


@dataclass(frozen=True)
class JointTarget:
    """The log-density as a function of (coordinates, data); what is here is fixed when it is compiled."""

    single: ArrestTarget
    """Of the patients."""
    numbers: Target
    """Of the reported numbers."""
    shared: tuple[str, ...]
    """Parameters that both trials have up to a deviation of their own."""
    between_trial_sd: float
    """Scale of tau's half-normal prior."""

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.single.patients

    @property
    def effects(self) -> tuple[str, ...]:
        """In what patients differ."""
        return self.single.effects

    @cached_property
    def estimated(self) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
        """Estimated parameters of the patients' and of the other trial, each in the order of its coordinates."""
        return free(self.single.declared), free(self.numbers.parameters)

    @cached_property
    def layout(self) -> Layout:
        """Where what lies among the coordinates."""
        k = len(self.shared)
        sizes = (*(len(p) - k for p in self.estimated), k, k, k)
        ends = np.cumsum([0, *sizes]).tolist()
        return Layout(*(slice(a, b) for a, b in pairwise(ends)))

    @property
    def shared_size(self) -> int:
        """Number of coordinates that patients share."""
        return self.layout.tau.stop + self.correlations

    @property
    def correlations(self) -> int:
        """Number of coordinates of the effects' correlation: the last of those that patients share."""
        return self.single.correlations

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.shared_size + self.patients * len(self.effects)

    @property
    def of_spread(self) -> np.ndarray:
        """Which coordinates are of the spread of effects: their SDs and correlations, ``dimensions``."""
        sds, at, out = self.single.settings.sds, self.layout, np.zeros(self.dimensions, bool)
        out[at.patients] = [p.name in sds for p in self.estimated[0] if p.name not in self.shared]
        out[at.first] = [name in sds for name in self.shared]
        out[at.tau.stop : self.shared_size] = True
        return out

    def _placed(self, which: int, own, shared) -> Array:
        """Return the coordinates of one trial's estimated parameters from those of its own and those shared."""
        rest = iter(range(own.shape[0]))
        return jnp.stack([
            shared[self.shared.index(p.name)] if p.name in self.shared else own[next(rest)]
            for p in self.estimated[which]
        ])  # fmt: skip

    def sides(self, x) -> Sides:
        """Return the point ``x`` as each trial's likelihood reads it, and its log prior.

        The ridge between EC50 and half-life is straightened as in a fit to reported numbers alone (coordinates.py); where EC50
        is shared, both trials' move.
        """
        at, names = self.layout, [p.name for p in self.estimated[1]]
        tau = between_sd(x[at.tau], self.between_trial_sd)
        spread = np.array([p.spread for n in self.shared for p in self.estimated[1] if p.name == n])
        own, first, second = x[at.reported], x[at.first], x[at.second]
        _, shared = both(first, second, tau, spread)
        reported = self._placed(1, own, shared)
        moved = prior_scaled(reported, self.numbers.parameters)
        if "ec50" in self.shared:
            i, j = names.index("ec50"), self.shared.index("ec50")
            law, step = given(tau[j], spread[j]), (moved - reported)[i] * spread[j]
            first = first.at[j].add(step / law.sd)
            second = second.at[j].add(step * tau[j] / (law.sd**2 * jnp.sqrt(1.0 + law.rho)))
        mine, shared = both(first, second, tau, spread)
        alone = moved[np.array([n not in self.shared for n in names])]
        parts = x[at.patients], alone, first, second, x[at.tau]
        placed = straightened(self._placed(0, x[at.patients], mine), self.single.declared)
        of_patients = jnp.concatenate([placed, x[at.tau.stop :]])
        prior = -0.5 * jnp.stack([(v**2).sum() for v in parts]).sum() + self.single.correlation(of_patients)[1]
        return Sides(of_patients, self._placed(1, alone, shared), tau, prior)

    def population(self, x) -> dict[str, Array]:
        """Return every declared parameter of the patients' trial at coordinates ``x``, in its own unit."""
        return self.single.population(self.sides(x).patients)

    def spread(self, theta) -> Any:
        """Return what ``ArrestTarget.spread`` does."""
        return self.single.spread(theta)

    def etas(self, x, theta, data: JointInputs) -> Any:
        """Return the individual effects at coordinates ``x``, and the log-density of these."""
        return self.single.etas(self.sides(x).patients, theta, data)  # type: ignore[arg-type]

    def log_densities(self, xs, data: JointInputs) -> Array:
        """Return the log posterior densities of many points ``xs``, ``points coordinates``, up to a constant."""
        sides = jax.vmap(self.sides)(xs)

        def reported(z):
            return self.numbers.log_likelihood(self.numbers.expected(z, data.numbers.observed), data.numbers)

        of_patients = self.single.log_likelihoods(sides.patients, data)  # type: ignore[arg-type]
        return sides.log_prior + of_patients + jax.vmap(reported)(sides.reported)

    def log_density(self, x, data: JointInputs) -> Array:
        """Return the log posterior density at one point."""
        return self.log_densities(x[None], data)[0]
