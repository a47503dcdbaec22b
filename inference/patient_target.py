"""Log-density of a fit to patients' own data: population, individual effects, concentrations, neutrophil counts."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from mezikd.model import friberg
from mezikd.model.disposition import rates
from mezikd.model.mesh import Mesh, Read, lagged
from mezikd.model.parameters import Parameter
from mezikd.model.population import (
    Information,
    Spread,
    correlation_root,
    correlations,
    effects_of,
)
from mezikd.model.residual import log_likelihood
from mezikd.model.within_day import Course, blood_at, concentrations, course, driven, emax, linear

from .covariates import Term
from .patient_settings import LAG, MEANING, UNITS, PatientFit


class Observed(NamedTuple):
    """Observations of one kind, padded to the patient with most."""

    read: Read
    value: Float[np.ndarray, "patients observations"]
    below: Float[np.ndarray, "patients observations"]
    """1 where the value is a limit of quantification."""
    counts: Float[np.ndarray, "patients observations"]
    """1 for an observation, 0 for padding."""


class Inputs(NamedTuple):
    """What the log-density is given at run time."""

    mesh: Mesh
    observed: dict[str, Observed]
    covariates: dict[str, Float[np.ndarray, "patients"]]
    """What coefficients of covariates multiply, by 'parameter column' or 'parameter column level'."""
    information: Information
    """What each patient's data say of its effects, about: the scale of their coordinates (population.py)."""


class Shared(NamedTuple):
    """Everything that patients share, at one point."""

    log_typical: dict[str, Array]
    powers: dict[str, Array]
    spread: Spread
    residual: dict[str, Array]
    log_prior: Array


class Layout(NamedTuple):
    """Where what lies in the vector of coordinates; the effects come last, patient by patient."""

    parameters: slice
    powers: slice
    sds: slice
    correlation: slice
    residual: slice
    shared: int


def _half_prior(kind: str, scale: float, log_x) -> Array:
    """Return the log prior of log x, Jacobian included, up to a constant."""
    r = jnp.exp(log_x) / scale
    return log_x - (0.5 * r * r if kind == "half_normal" else jnp.log1p(r * r))


@dataclass(frozen=True)
class PatientTarget:
    """The log-density as a function of (coordinates, data); what is here is fixed when it is compiled."""

    settings: PatientFit
    patients: int
    observables: tuple[str, ...]
    """Kinds of observation that the tables hold."""
    infusions: bool

    @property
    def declared(self) -> tuple[Parameter, ...]:
        """Population parameters in order, as declarations."""
        return tuple(
            Parameter(n, n, UNITS[n], "positive", p.typical, p.prior_sd, "fit.toml", "assumption", MEANING[n], p.prior_sd == 0)
            for n, p in self.settings.parameters.items()
        )  # fmt: skip

    @property
    def effects(self) -> tuple[str, ...]:
        """Parameters in which patients differ."""
        return tuple(n for n, p in self.settings.parameters.items() if p.individual)

    @property
    def coefficients(self) -> dict[str, tuple[str, Term]]:
        """Coefficients of covariates that are estimated, 'parameter column' or 'parameter column level': parameter and term."""
        return {f"{n} {t.key}": (n, t) for n, p in self.settings.parameters.items() for t in p.terms if t.spread}

    @property
    def layout(self) -> Layout:
        """Where what lies among the coordinates."""
        k = len(self.effects)
        sizes = [
            sum(not p.fixed for p in self.declared), len(self.coefficients), k,
            correlations(k) if self.settings.effects.correlation == "lkj" else 0, len(self.observables),
        ]  # fmt: skip
        ends = np.cumsum([0, *sizes]).tolist()
        parts = [slice(a, b) for a, b in pairwise(ends)]
        return Layout(parts[0], parts[1], parts[2], parts[3], parts[4], ends[-1])

    @property
    def shared_size(self) -> int:
        """Number of coordinates that patients share."""
        return self.layout.shared

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.layout.shared + self.patients * len(self.effects)

    def shared(self, x) -> Shared:
        """Return what patients share at coordinates ``x``, with its log prior in these coordinates."""
        at, s = self.layout, self.settings.effects
        z, prior = x[at.parameters], -0.5 * (x[at.parameters] ** 2).sum() - 0.5 * (x[at.powers] ** 2).sum()
        typical, i = {}, 0
        for p in self.declared:
            typical[p.name] = jnp.log(p.centre) + (0.0 if p.fixed else p.spread * z[i])
            i += not p.fixed
        powers, i = {}, 0
        for n, p in self.settings.parameters.items():
            for t in p.terms:
                powers[f"{n} {t.key}"] = t.centre + (t.spread * x[at.powers][i] if t.spread else 0.0)
                i += bool(t.spread)
        # SDs: half-normal, between 0 and an upper bound, in the logit.
        sd = s.sd_upper * jax.nn.sigmoid(x[at.sds])
        prior += (-0.5 * (sd / s.sd_scale) ** 2 - jax.nn.softplus(x[at.sds]) - jax.nn.softplus(-x[at.sds])).sum()
        k = len(self.effects)
        root: Any = jnp.eye(k)
        if s.correlation == "lkj":
            root, more = correlation_root(x[at.correlation], k, s.lkj_shape)
            prior += more
        log_sd = x[at.residual]
        errors = [getattr(self.settings.residual, o) for o in self.observables]
        prior += sum(_half_prior(e.prior, e.scale, v) for e, v in zip(errors, log_sd, strict=True))
        residual = {o: jnp.exp(v) for o, v in zip(self.observables, log_sd, strict=True)}
        return Shared(typical, powers, Spread(sd, root), residual, prior)

    def patients_parameters(self, shared: Shared, eta, data: Inputs) -> dict[str, Array]:
        """Return every parameter of every patient at effects ``eta``, shape ``patients`` each."""
        out = {}
        for n, p in self.settings.parameters.items():
            log = shared.log_typical[n] + jnp.zeros(self.patients)
            for key in (f"{n} {t.key}" for t in p.terms):
                log += shared.powers[key] * data.covariates[key]
            if n in self.effects:
                log += eta[:, self.effects.index(n)]
            out[n] = jnp.exp(log)
        return out

    def etas(self, x, shared: Shared, data: Inputs):
        """Return the individual effects at coordinates ``x``, ``patients effects``, and the log-density of these."""
        u = x[self.layout.shared :].reshape(self.patients, len(self.effects))
        return effects_of(u, self.typical(shared), shared.spread, data.information)

    def typical(self, shared: Shared) -> Array:
        """Return the logarithms of the typical parameters in which patients differ."""
        return jnp.stack([shared.log_typical[n] for n in self.effects]) if self.effects else jnp.zeros(0)

    def course(self, p: dict[str, Array], data: Inputs) -> tuple[Course, Any]:
        """Return the course of patients with parameters ``p``, and the rate constants of the drug (None: exposure is given)."""
        effect = linear(p["slope"]) if self.settings.model.effect == "linear" else emax(p["emax"], p["ec50"])
        marrow = friberg.Marrow(4.0 / p["mtt"], p["gamma"])
        if self.settings.model.exposure is not None:
            return driven(data.mesh, effect, marrow), None
        more: dict[str, Any] = {k: p[k] for k in ("q", "v2") if k in p}
        r = rates(p["ka"], p["cl"], p["v1"], **more)
        return course(data.mesh, r, p["v1"], effect, marrow, self.infusions), r

    def predictions(self, p: dict[str, Array], data: Inputs) -> dict[str, Array]:
        """Return what is predicted for each observation, by observable; ``patients observations``."""
        c, r = self.course(p, data)
        found, reads = {}, {n: o.read for n, o in data.observed.items()}
        if LAG in p:
            reads = {n: lagged(data.mesh, read, p[LAG]) for n, read in reads.items()}
        if "concentration" in data.observed:
            read = reads["concentration"]
            found["concentration"] = concentrations(c, data.mesh, read, r, p["v1"], self.infusions)
        if "anc" in data.observed:
            found["anc"] = p["anc0"][:, None] * blood_at(c, data.mesh, reads["anc"])
        return found

    def of_patients(self, shared: Shared, eta, data: Inputs) -> Array:
        """Return the log-likelihood of each patient's observations."""
        found = self.predictions(self.patients_parameters(shared, eta, data), data)
        return self.of_predictions(found, shared.residual, data)

    def of_predictions(self, found: dict[str, Array], residual: dict[str, Array], data: Inputs) -> Array:
        """Return the log-likelihood of each patient's observations around what is predicted for them."""
        total = jnp.zeros(self.patients)
        for name, prediction in found.items():
            o, kind = data.observed[name], getattr(self.settings.residual, name)
            each = log_likelihood(o.value, prediction, residual[name], kind.error, o.below)
            total += (jnp.asarray(o.counts) * each).sum(axis=1)
        return total

    def log_density(self, x, data: Inputs) -> Array:
        """Return the log posterior density of the coordinates, up to a constant."""
        shared = self.shared(x)
        eta, individual = self.etas(x, shared, data)
        return shared.log_prior + (individual + self.of_patients(shared, eta, data)).sum()

    def log_densities(self, xs, data: Inputs) -> Array:
        """Return the log posterior densities of many points ``xs``, ``points coordinates``, in one program."""
        prior = jax.vmap(lambda x: self.shared(x).log_prior)(xs)
        return prior + self.by_patient(xs, data).sum(axis=1)

    def by_patient(self, xs, data: Inputs) -> Array:
        """Return each patient's log-likelihood and log-density of effects at many points ``xs``, ``points patients``.

        The patients of all points are followed side by side, as if they were one cohort: the course costs mostly the number
        of its steps, so that 16 chains cost little more than one.
        """
        points, many = xs.shape[0], replace(self, patients=self.patients * xs.shape[0])

        def individuals(x):
            shared = self.shared(x)
            eta, density = self.etas(x, shared, data)
            return shared, self.patients_parameters(shared, eta, data), density

        shared, p, density = jax.vmap(individuals)(xs)
        found = many.predictions({n: v.ravel() for n, v in p.items()}, repeated(data, points))
        found = {n: v.reshape(points, self.patients, -1) for n, v in found.items()}
        fitted = jax.vmap(self.of_predictions, in_axes=(0, 0, None))(found, shared.residual, data)
        return density + fitted


def repeated(data: Inputs, times: int) -> Inputs:
    """Return ``data`` with its patients ``times`` over: all of them, then all of them again."""
    m = data.mesh
    parts = {n: getattr(m, n) for n in m._fields if n != "kind"}
    wide = jax.tree.map(lambda x: jnp.tile(jnp.asarray(x), (1, times)), parts)
    read = {
        n: o._replace(read=Read(*(jnp.tile(jnp.asarray(x), (times, 1)) for x in o.read)))
        for n, o in data.observed.items()
    }
    return data._replace(mesh=m._replace(**wide), observed=read)
