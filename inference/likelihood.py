"""Likelihood of reported numbers: disjoint groups, conditional chains, and what they share (inference.md, section 2).

Each fitted row gives one score, quartiles three (scores.py): binomial for counts (conditional on the row named in
``given``, so that no patient is counted twice), multinomial with n/4 in each interval for quartiles, normal for medians and
hazard ratios. As if independent, the scores' squares add up. Jointly, with the mean and the covariance that they have in
simulated trials (joint_covariance.py), numbers of the same patients are not counted twice either.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from mezikd.model.expected import Cuts, Expected, expected
from mezikd.model.parameters import Parameter, natural
from mezikd.model.patients import Cohort
from mezikd.model.precision import in_single
from mezikd.model.trial_design import Design

from . import scores
from .coordinates import prior_scaled
from .evidence import Evidence, Row
from .groups import group_of
from .observed import Observed, reported
from .processor import compiler_options
from .vocabulary import VOCABULARY

NOTHING = "nothing"
"""What is left out where all numbers are fitted."""
RDI, DURATION = "relative dose intensity, mezigdomide", "duration of grade 3 or 4 neutropenia"


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

CUMULATIVE: dict[str, Callable[[Expected, Row, Any], jax.Array]] = {
    DURATION: lambda e, row, q: e.neutropenia_duration,
    RDI: lambda e, row, q: e.rdi,
    "time to onset of grade 3 or 4 infection": lambda e, row, q: e.severe_onset(row.arm, q),
    "duration of treatment": lambda e, row, q: e.treatment_duration(row.arm, q),
    "follow-up": lambda e, row, q: e.observed_follow_up(q),
}
"""Distribution function at the reported quartiles, by outcome."""


class Joint(NamedTuple):
    """How the scores of one trial vary together."""

    mean: Float[Array, "scores"]
    """Mean score at the parameters that trials were simulated at: error of the expectations and bias of estimators."""
    root: Float[Array, "scores scores"]
    """Root of the inverse covariance: root' root."""
    trials: Float[Array, ""]
    """Trials that gave it; infinite would be known exactly."""


KNOWN = 1e12
"""Trials that stand for a covariance known exactly."""


class Prior(NamedTuple):
    """Normal prior of the prior-scaled coordinates, where it is not standard normal (calibration.py)."""

    centre: Float[Array, "parameters"]
    root: Float[Array, "parameters parameters"]
    """Root of the inverse covariance."""


class Data(NamedTuple):
    """What a compiled log-density is given at run time."""

    observed: Observed
    joint: Joint
    prior: Prior | None = None


def independent(count: int) -> Joint:
    """Return scores as if independent."""
    return Joint(jnp.zeros(count), jnp.eye(count), jnp.asarray(KNOWN))


def conditional(row: Row, value, whole_value, whole_n, p, p_whole):
    """Return (count, n, probability) of ``row`` given the row it is conditional on.

    A ``part`` of the given patients (held, grade 4, concurrent) is a share of them; a ``whole`` around them (any grade,
    given severe) adds those of the others who have it.
    """
    if VOCABULARY[row.outcome, row.statistic].relation == "part":
        return value, whole_value, p / scores.safe(p_whole)
    others = 1.0 - p_whole
    return value - whole_value, whole_n - whole_value, (p - p_whole) / scores.safe(others)


def survival_quantity(e: Expected, row: Row):
    """Return the model's log median or log hazard ratio of progression or death."""
    return jnp.log(e.pfs_median(row.arm)) if row.statistic == "median" else e.log_hazard_ratio()


def joint_log_likelihood(r, joint: Joint):
    """Return the log-likelihood of all scores together; ``r`` has the shape ``(..., scores)``.

    Multivariate t (Sellentin and Heavens, MNRAS 2016): what a normal with covariance S becomes when S is estimated from N
    simulated trials, -N/2 log(1 + q / (N - 1)), q = (r - mean)' S^-1 (r - mean).
    """
    return whitened_log_likelihood(whitened(r, joint), joint)


def whitened(r, joint: Joint):
    """Return the scores ``r`` in coordinates in which they are uncorrelated and of variance 1, shape ``(..., scores)``."""
    return (r - joint.mean) @ joint.root.T


def whitened_log_likelihood(u, joint: Joint):
    """Return ``joint_log_likelihood`` of scores that are ``whitened``."""
    return -0.5 * joint.trials * jnp.log1p((u * u).sum(axis=-1) / (joint.trials - 1.0))


def part_of(joint: Joint, keep) -> Joint:
    """Return the joint law of the scores at the indices (or where the mask is true) ``keep`` only: their marginal."""
    root = jnp.asarray(joint.root)
    covariance = jnp.linalg.inv(root.T @ root)[keep][:, keep]
    return Joint(jnp.asarray(joint.mean)[keep], jnp.linalg.inv(jnp.linalg.cholesky(covariance)), joint.trials)


@dataclass(frozen=True)
class Target:
    """The log-density over standard-normal coordinates of the free parameters."""

    evidence: Evidence
    design: Design
    parameters: tuple[Parameter, ...]
    mezikd: Cohort
    kd: Cohort
    leave_out: str = NOTHING
    """Group of fitted rows (groups.py) that the likelihood does without: to see how the others predict it."""
    single: bool = False
    """Whether the expectations are computed in float32: for trajectories, whose ends float64 decides on (sampler.py)."""
    over: Mesh | None = None
    """Devices over which the virtual patients are spread (devices.py); None: one."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields: what is made of them, compiled functions among it, is made again in another process."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def data(self) -> Data:
        """The reported numbers, as if independent."""
        return Data(reported(self.evidence), independent(len(self.score_names)))

    @cached_property
    def compiled_expected(self) -> Callable[[Any], Expected]:
        """``expected``, compiled once for all that read it draw by draw."""
        return jax.jit(self.expected, compiler_options=compiler_options())

    @cached_property
    def compiled_given(self) -> Callable[[Expected, Any, Data], tuple[jax.Array, dict[str, jax.Array]]]:
        """(expectations, z, data) -> ``log_density_given``, ``terms``, compiled once."""

        def both(e: Expected, z, data: Data):
            return self.log_density_given(e, z, data), self.terms(e, data)

        return jax.jit(both, compiler_options=compiler_options())

    @cached_property
    def score_names(self) -> tuple[str, ...]:
        """Row names of the scores; those of quartiles three times."""
        return tuple(r.name for r in self.evidence.fit for _ in range(3 if r.statistic == "quartiles" else 1))

    @cached_property
    def kept(self) -> np.ndarray:
        """Indices of the scores that the likelihood uses: all, but for the group left out."""
        by_name = {r.name: r for r in self.evidence.fit}
        return np.flatnonzero([group_of(by_name[name]) != self.leave_out for name in self.score_names])

    @cached_property
    def _index(self) -> dict[str, int]:
        return {row.name: i for i, row in enumerate(self.evidence.rows)}

    def quartiles_of(self, row: Row, observed: Observed):
        """Return the three quartiles of a row."""
        i = self._index[row.name]
        return jnp.stack([jnp.asarray(x)[i] for x in (observed.low, observed.value, observed.high)])

    def cuts(self, observed: Observed) -> Cuts:
        """Return the values at which the numbers want distributions that the daily scan has to follow."""
        found = {}
        for row in self.evidence.fit:
            if row.outcome == RDI:
                found["rdi"] = self.quartiles_of(row, observed) / 100.0
            if row.outcome == DURATION:
                found["neutropenia_days"] = self.quartiles_of(row, observed)
        return Cuts(**found)

    def expected(self, z, observed: Observed | None = None, changes: Mapping[str, Any] | None = None) -> Expected:
        """Return the expectations of both arms at coordinates ``z``; ``changes`` replaces parameters in natural units."""
        theta = natural(z, self.parameters) | dict(changes or {})
        cuts = self.cuts(self.data.observed if observed is None else observed)
        if not self.single:
            return expected(theta, self.design, self.mezikd, self.kd, cuts, self.over)

        def of_numbers(theta, points, cuts):
            mezikd, kd = (replace(c, z=z, weight=w) for c, (z, w) in zip((self.mezikd, self.kd), points, strict=True))
            return expected(theta, self.design, mezikd, kd, Cuts(*cuts), self.over)

        points = [(c.z, c.weight) for c in (self.mezikd, self.kd)]
        return in_single(of_numbers, theta, points, (cuts.rdi, cuts.neutropenia_days))

    def row_scores(self, e: Expected, observed: Observed | None = None) -> dict[str, Float[Array, "n"]]:
        """Return the scores of each fitted row: one, or three of quartiles.

        All binomials are scored as one vector: one by one they were half of the operations of the log-density's program.
        """
        observed = self.data.observed if observed is None else observed
        o = SimpleNamespace(**{k: jnp.unstack(jnp.asarray(x)) for k, x in observed._asdict().items()})
        found: dict[str, list] = {}
        counts, sizes, probabilities, names = [], [], [], []
        for row in self.evidence.fit:
            i = self._index[row.name]
            value, n = o.value[i], o.denominator[i]
            if row.statistic in ("median", "hazard_ratio"):
                r = scores.normal(jnp.log(value), o.error[i], survival_quantity(e, row), o.reached[i])
                found[row.name] = [jnp.where(n > 0.0, r, 0.0)]
                continue
            if row.statistic == "quartiles":
                cuts = jnp.stack([o.low[i], value, o.high[i]])
                parts = scores.of_quartiles(n, CUMULATIVE[row.outcome](e, row, cuts))
            else:
                p, whole = PROBABILITY[row.outcome](e, row), self.evidence.given(row)
                if whole is not None:
                    j = self._index[whole.name]
                    of = o.value[j], o.denominator[j]
                    value, n, p = conditional(row, value, *of, p, PROBABILITY[whole.outcome](e, whole))
                parts = (value,), (n,), (p,)
            found[row.name] = []
            names += [row.name] * len(parts[0])
            for all_rows, of_row in zip((counts, sizes, probabilities), parts, strict=True):
                all_rows += of_row
        if names:
            r = scores.binomial(*(jnp.stack(x) for x in (counts, sizes, probabilities)))
            for name, score in zip(names, jnp.unstack(r), strict=True):
                found[name].append(score)
        return {name: jnp.stack(each) for name, each in found.items()}

    def terms(self, e: Expected, data: Data | None = None) -> dict[str, jax.Array]:
        """Return the log-likelihood of each reported number on its own, and 'joint': what their covariance adds.

        Up to constants of the data; they add up to the log-likelihood.
        """
        data = self.data if data is None else data
        each = self.row_scores(e, data.observed)
        out = {name: -0.5 * (r * r).sum() for name, r in each.items()}
        out["joint"] = joint_log_likelihood(jnp.concatenate(list(each.values())), data.joint) - sum(out.values())
        return out

    def whitened_scores(self, e: Expected, data: Data):
        """Return the whitened scores of all fitted rows but those left out: the log-likelihood is that of their length."""
        r, joint = jnp.concatenate(list(self.row_scores(e, data.observed).values())), data.joint
        if self.leave_out != NOTHING:
            r, joint = r[self.kept], part_of(joint, self.kept)
        return whitened(r, joint)

    def log_likelihood(self, e: Expected, data: Data):
        """Return the log-likelihood of all fitted rows but those left out, up to a constant of the data."""
        return whitened_log_likelihood(self.whitened_scores(e, data), data.joint)

    def log_prior(self, z, data: Data):
        """Return the log prior density of prior-scaled coordinates up to a constant."""
        u = z if data.prior is None else data.prior.root @ (z - data.prior.centre)
        return -0.5 * (u**2).sum()

    def log_density(self, z, data: Data | None = None, changes: Mapping[str, Any] | None = None):
        """Return the log posterior density at ``z`` up to a constant; -inf where it is not finite.

        ``changes`` replaces parameters in natural units: those fixed, and the model's alternatives (sensitivity.py).
        """
        data = self.data if data is None else data
        return self.log_density_given(self.expected(z, data.observed, changes), z, data)

    def log_density_given(self, e: Expected, z, data: Data):
        """Return ``log_density`` at ``z``, where the expectations are ``e``."""
        value = self.log_likelihood(e, data) + self.log_prior(z, data)
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    def in_single(self) -> "Target":
        """Return the same log-density with expectations in float32."""
        return replace(self, single=True)

    def sampled_log_density(self, x, data: Data | None = None, changes: Mapping[str, Any] | None = None):
        """Return ``log_density`` at the sampler's coordinates ``x`` (coordinates.py)."""
        return self.log_density(prior_scaled(x, self.parameters), data, changes)
