"""Log-density of a fit of the arrest model to single patients: population, individual effects, counts and events."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from mezikd.model import progression
from mezikd.model.delivered import (
    Counts,
    Deaths,
    Followed,
    Ledger,
    Rates,
    follow,
    of_counts,
    of_deaths,
    of_infection,
    of_progression,
    untouched,
)
from mezikd.model.individuals import Individuals, individuals
from mezikd.model.parameters import Parameter, free, natural
from mezikd.model.patients import EFFECTS as ALL_EFFECTS
from mezikd.model.patients import Cohort
from mezikd.model.population import Information, Spread, correlation_root, correlations, effects_of
from mezikd.model.precision import in_single
from mezikd.model.structures import STRUCTURES

from .arrest_settings import EFFECTS, SDS, ArrestFit
from .coordinates import prior_scaled, ridge
from .lane_chunks import by_chunks

GIVEN = "exposure"
"""Among the covariates: the log of every patient's exposure over the reference, where it is given."""
ROOT = "effects_root"
"""Among the population parameters: the Cholesky root of the effects' correlation, where it is estimated."""
ACTS_THROUGH = {"exposure": "exposure", "anc0": "anc0", "maturation": "maturation", "progression": "progression_rate"}
"""By effect, the parameter whose covariates act on patients in the same way."""


class ArrestInputs(NamedTuple):
    """What the log-density is given at run time."""

    ledger: Ledger
    counts: Counts
    region: Int[np.ndarray, "patients"]
    """Index into REGIONS."""
    drug: Float[np.ndarray, "patients"]
    """1 in the arm with mezigdomide."""
    deaths: Deaths
    information: Information
    """What each patient's data say of its effects, about (population.py)."""
    covariates: dict[str, Float[np.ndarray, "patients"]]
    """What coefficients of covariates multiply, by their name; GIVEN: log of the exposure, where it is given."""


class Lanes(NamedTuple):
    """Patients of all points side by side."""

    individuals: Individuals
    rates: Rates


@dataclass(frozen=True)
class ArrestTarget:
    """The log-density as a function of (coordinates, data); what is here is fixed when it is compiled."""

    settings: ArrestFit
    patients: int
    untreated: tuple[int, ...] = ()
    """Patients who take no dose: their course needs no following."""
    single: bool = False
    """Whether patients are followed in float32: half of the time, for trajectories (side_by_side.py)."""

    @property
    def declared(self) -> tuple[Parameter, ...]:
        """All declared parameters in order; most are fixed."""
        return self.settings.declared

    @property
    def correlations(self) -> int:
        """Number of coordinates of the effects' correlation."""
        return correlations(len(self.effects)) if self.settings.effects.correlation == "lkj" else 0

    @property
    def shared_size(self) -> int:
        """Number of coordinates that patients share: they come first, those of the correlation last of them."""
        return len(free(self.declared)) + self.correlations

    @property
    def effects(self) -> tuple[str, ...]:
        """In what patients differ."""
        return self.settings.differs

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.shared_size + self.patients * len(self.effects)

    @property
    def of_spread(self) -> np.ndarray:
        """Which coordinates are of the spread of effects: their SDs and correlations, ``dimensions``."""
        mine = [p.name in self.settings.sds for p in free(self.declared)] + [True] * self.correlations
        return np.array(mine + [False] * (self.dimensions - len(mine)))

    def population(self, x) -> dict[str, Array]:
        """Return every declared parameter at coordinates ``x``, in its own unit; the root of the effects' correlation as ROOT."""
        theta = natural(self.prior_scaled(x), self.declared)
        return theta | ({ROOT: self.correlation(x)[0]} if self.correlations else {})

    def correlation(self, x) -> tuple[Any, Any]:
        """Return the Cholesky root of the effects' correlation at coordinates ``x``, and its log prior in these."""
        if not self.correlations:
            return jnp.eye(len(self.effects)), 0.0
        of = x[self.shared_size - self.correlations : self.shared_size]
        return correlation_root(of, len(self.effects), self.settings.effects.lkj_shape)

    def prior_scaled(self, x) -> Array:
        """Return the shared coordinates in which the prior is standard normal: the ridge of EC50 is straight in those of ``x``.

        A shear (coordinates.py), so the density needs no Jacobian; ``x`` may have points in front.
        """
        return prior_scaled(x[..., : len(free(self.declared))], self.declared)

    def spread(self, theta) -> tuple[Array, Spread]:
        """Return the typical logarithms that effects add to, as far as data tell them apart, and the effects' spread.

        What the data say of exposure they say of exposure over EC50, this relative to its ridge (coordinates.py), of maturation
        of the rate, of frailty of the hazard.
        """
        typical = {
            "exposure": ridge(theta) - jnp.log(theta["ec50"]), "anc0": jnp.log(theta["anc0"]),
            "maturation": -jnp.log(theta["blood_half_life_hours"]), "progression": jnp.log(theta["progression_rate"]),
        }  # fmt: skip
        sd = jnp.stack([theta[n] for n in self.settings.sds])
        return jnp.stack([typical[e] for e in self.effects]), Spread(sd, theta.get(ROOT, jnp.eye(len(self.effects))))

    def etas(self, x, theta, data: ArrestInputs):
        """Return the individual effects at coordinates ``x``, ``patients effects``, and the log-density of these."""
        u = x[self.shared_size :].reshape(self.patients, len(self.effects))
        return effects_of(u, *self.spread(theta), data.information)

    def factors(self, theta, data: ArrestInputs) -> dict[str, Array]:
        """Return the log of what covariates multiply parameters by, ``patients``, or of an exposure that is given."""
        found = {"exposure": jnp.asarray(data.covariates[GIVEN])} if GIVEN in data.covariates else {}
        for n, p in self.settings.parameters.items():
            names = [t.coefficient(n) for t in p.terms]
            if names:
                found[n] = sum((theta[name] * data.covariates[name] for name in names), jnp.zeros(self.patients))
        return found

    def own(self, theta, eta, data: ArrestInputs) -> dict[str, Array]:
        """Return the patients' own values with effects ``eta``, ``patients``, by effect.

        Typical value x covariates x exp(eta): of the baseline count in its unit, of the others over the typical patient's.
        """
        found, factors = {}, self.factors(theta, data)
        for i, e in enumerate(self.effects):
            log = eta[:, i] + factors.get(ACTS_THROUGH[e], 0.0)
            found[e] = jnp.exp(log) * (theta["anc0"] if e == "anc0" else 1.0)
        return found

    def individuals(self, theta, eta, data: ArrestInputs) -> Individuals:
        """Return the patients with effects ``eta`` and their covariates; every field ``patients``."""
        factors = self.factors(theta, data)
        z = jnp.zeros((len(ALL_EFFECTS), self.patients))
        for e, sd in zip(EFFECTS, SDS, strict=True):
            log = factors.pop(ACTS_THROUGH[e], jnp.zeros(self.patients))
            log += eta[:, self.effects.index(e)] if e in self.effects else 0.0
            z = z.at[ALL_EFFECTS.index(e)].set(log / theta[sd])
        theta = theta | {n: theta[n] * jnp.exp(log) for n, log in factors.items()}
        who = individuals(theta, Cohort(z, data.region, np.zeros(0)), STRUCTURES["arrest"])  # type: ignore[arg-type]
        return jax.tree.map(lambda a: jnp.broadcast_to(a, self.patients), who)

    def rates(self, theta, data: ArrestInputs) -> Rates:
        """Return what the course is given besides; every field ``patients``, the baseline hazard ``weeks patients``.

        Of the typical patient: covariates act through ``individuals``.
        """
        n, weeks = self.patients, data.ledger.dose.shape[0]
        drug = jnp.asarray(data.drug)
        own = Rates(
            sigma=theta["sigma_anc"],
            drug=theta["infection_drug"],
            neutropenia=theta["infection_neutropenia"],
            early=drug * theta["infection_early_mezikd"] + (1.0 - drug) * theta["infection_early_kd"],
            early_days=theta["infection_early_days"],
            variance=theta["infection_frailty_sd"] ** 2,
            effect=theta["tumour_effect"] / progression.reference_effect(theta),
            memory_days=theta["tumour_memory_days"],
            baseline=progression.baseline_hazard(theta, weeks)[:, None],
        )
        own = own._replace(baseline=jnp.broadcast_to(own.baseline, (weeks, n)))
        return Rates(*(x if x.ndim == 2 else jnp.broadcast_to(x, n) for x in own))

    def lanes(self, xs, data: ArrestInputs) -> tuple[Lanes, dict[str, Array], Array]:
        """Return the patients of all points ``xs`` as lanes, the population of each point, and the effects' log-density."""

        def of_point(x):
            theta = self.population(x)
            eta, density = self.etas(x, theta, data)
            return Lanes(self.individuals(theta, eta, data), self.rates(theta, data)), theta, density

        lanes, theta, density = jax.vmap(of_point)(xs)
        # points patients -> lanes; the baseline hazard keeps its weeks in front.
        flat = jax.tree.map(
            lambda x: x.reshape(-1) if x.ndim == 2 else jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1), lanes
        )
        return flat, theta, density

    def followed(self, lanes: Lanes, ledger: Ledger) -> Followed:
        """Return the course of the lanes, the patients of one point after the other."""
        return self._parted(self._follow, _untouched, lanes, ledger)

    def of_patients(self, lanes: Lanes, ledger: Ledger, counts: Counts) -> Array:
        """Return the log-likelihood of each lane's counts and events."""

        def seen(course: Callable[[Lanes, Ledger], Followed]) -> Callable[[Lanes, Any], Array]:
            def of(lanes: Lanes, fixed: Any) -> Array:
                ledger, counts = fixed
                counts = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), counts)
                return self._likelihood(course(lanes, ledger), lanes, ledger, counts)

            return partial(by_chunks, of)

        fixed = ledger, jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), -1, 0), counts)
        return self._parted(seen(self._follow), seen(_untouched), lanes, fixed)

    def _follow(self, lanes: Lanes, ledger: Ledger) -> Followed:
        steps = self.settings.model.steps_per_day
        return follow(lanes.individuals, lanes.rates, ledger, STRUCTURES["arrest"], steps)

    def _parted(self, treated: Callable[..., Any], untreated: Callable[..., Any], lanes: Lanes, fixed: Any) -> Any:
        """Return what ``treated`` and ``untreated`` give of (lanes, fixed), each of its patients, lanes in their order.

        Trees of arrays with lanes on the last axis.
        """
        if not self.untreated:
            return treated(lanes, fixed)
        number = np.arange(lanes.individuals.log_anc0.shape[0])
        none = np.isin(number % self.patients, self.untreated)
        kinds = [np.flatnonzero(x).astype(np.int32) for x in (~none, none)]
        some = [jax.tree.map(lambda x, k=k: jnp.asarray(x)[..., k], (lanes, fixed)) for k in kinds]
        parts = [of(*x) for of, x in zip((treated, untreated), some, strict=True)]
        order = np.argsort(np.concatenate(kinds)).astype(np.int32)
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1)[..., order], *parts)

    def _likelihood(self, f: Followed, lanes: Lanes, ledger: Ledger, counts: Counts) -> Array:
        """Return the log-likelihood of each lane's counts and events, given its course."""
        m, total = self.settings.model, of_counts(f, lanes.individuals, lanes.rates, counts)
        if m.infection:
            total += of_infection(f, lanes.rates, ledger)
        if m.progression:
            total += of_progression(f, lanes.individuals, lanes.rates, ledger)
        return total

    def log_likelihoods(self, xs, data: ArrestInputs) -> Array:
        """Return the log-likelihoods of many points ``xs``, ``points coordinates``, with the density of the effects."""
        return self.by_patient(xs, data).sum(axis=1)

    def by_patient(self, xs, data: ArrestInputs) -> Array:
        """Return each patient's log-likelihood and log-density of effects at many points ``xs``, ``points patients``."""
        points = xs.shape[0]
        lanes, theta, density = self.lanes(xs, data)
        of_patients = partial(in_single, self.of_patients) if self.single else self.of_patients
        fitted = of_patients(lanes, *repeated(data, points)).reshape(points, self.patients)
        total = density + fitted
        if self.settings.model.death:
            total += jax.vmap(lambda t: of_deaths(data.deaths, t))(theta)
        return total

    def log_densities(self, xs, data: ArrestInputs) -> Array:
        """Return the log posterior densities of many points ``xs``, up to a constant."""
        prior = -0.5 * (self.prior_scaled(xs) ** 2).sum(axis=1)
        return self.log_likelihoods(xs, data) + prior + jax.vmap(lambda x: self.correlation(x)[1])(xs)

    def in_single(self) -> "ArrestTarget":
        """Return the same log-density with patients followed in float32."""
        return replace(self, single=True)

    def log_density(self, x, data: ArrestInputs) -> Array:
        """Return the log posterior density at one point."""
        return self.log_densities(x[None], data)[0]


def _untouched(lanes: Lanes, ledger: Ledger) -> Followed:
    return untouched(lanes.individuals, lanes.rates, ledger)


def repeated(data: ArrestInputs, times: int) -> tuple[Ledger, Counts]:
    """Return ledger and counts with the patients ``times`` over."""
    if times == 1:
        return data.ledger, data.counts

    def last(x):
        x = jnp.asarray(x)
        return jnp.tile(x, (1,) * (x.ndim - 1) + (times,))

    return jax.tree.map(last, data.ledger), Counts(*(jnp.tile(jnp.asarray(x), (times, 1)) for x in data.counts))
