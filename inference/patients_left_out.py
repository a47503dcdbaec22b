"""Patients left out one at a time: the likelihood of each with its own effects integrated out, and what PSIS makes of it.

A patient who is left out takes its own effects along, so what its data weigh is the likelihood of what patients share,

    L_i(theta) = integral of p(y_i | theta, eta) p(eta | theta) d eta,

not of its effects as well: those hang on its data alone, and importance weights of them would say nothing (Merkle, Furr and
Rabe-Hesketh 2019, Psychometrika 84). The integral over the coordinates u of the effects (population.py) is a mean over points of
a t distribution about the patient's posterior draws of u, the same points under every theta, so that their error is much the
same in all weights.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import gammaln, logsumexp
from scipy.stats import chi2, norm, qmc

from .mode import CORES
from .patient_start import Hierarchy
from .processor import compiler_options

DRAWS = 320
"""Posterior draws that the integral is found for, at most, all chains together."""
POINTS = 32
FREEDOM = 5.0
"""Degrees of freedom of the t distribution."""
RIDGE = 100.0
"""Weight of no such movement, in draws."""
LANES = 4096
"""Patients followed in one go, by each of CORES threads."""
LARGEST_ERROR = 0.2
"""Relative error of the integral (root mean square over draws) above which elpd is not trusted."""
SCOPE = (
    "Their own effects are integrated out, so it compares structures and individual effects alike; only fits to the same tables, "
    "with the same events."
)


class ByPatient(Hierarchy, Protocol):
    """A hierarchy whose likelihood is known patient by patient."""

    def by_patient(self, xs: Any, data: Any) -> Any: ...


class Integrated(NamedTuple):
    """Likelihoods of patients with their effects integrated out."""

    log: np.ndarray
    """``chains draws patients``."""
    error: np.ndarray
    """Relative standard error of each likelihood, as if points were independent."""
    every: int
    """Which draws of each chain: each ``every``-th."""


class Proposal(NamedTuple):
    """Where points of the integral lie: a t distribution about what the posterior draws of u are, given what patients share."""

    centre: np.ndarray
    """``patients coordinates``, at the mean of what patients share."""
    follow: np.ndarray
    """How it moves with what patients share, ``shared patients coordinates``."""
    mean: np.ndarray
    """Of what patients share."""
    points: np.ndarray
    """About the centre, ``points patients coordinates``."""
    log_density: np.ndarray
    """``points patients``."""

    def at(self, shared: np.ndarray) -> np.ndarray:
        """Return the points under one draw of what patients share, ``points patients coordinates``."""
        return self.centre + np.tensordot(shared - self.mean, self.follow, axes=1) + self.points


def proposal(shared: np.ndarray, u: np.ndarray, seed: int) -> Proposal:
    """Return the proposal for draws of what patients share, ``draws shared``, and of u, ``draws patients coordinates``."""
    draws, n, k = u.shape
    mean, centre = shared.mean(axis=0), u.mean(axis=0)
    if k == 0:
        return Proposal(centre, np.zeros((len(mean), n, 0)), mean, np.zeros((1, n, 0)), np.zeros((1, n)))
    x, y = shared - mean, (u - centre).reshape(draws, n * k)
    scale = np.maximum(x.std(axis=0), 1e-12)
    x = x / scale
    # Few draws say little of how they move together: a ridge of RIDGE draws.
    follow = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    rest = (y - x @ follow).reshape(u.shape)
    covariance = np.einsum("dpi,dpj->pij", rest, rest) / draws + 1e-6 * np.eye(k)
    root = np.linalg.cholesky(covariance)
    follow = (follow / scale[:, None]).reshape(len(mean), n, k)
    rng = np.random.default_rng([seed, 11])
    # Shifted for each patient: were they the same, the errors of all would have one sign and add up.
    even = (qmc.Sobol(k + 1, rng=rng).random(POINTS)[:, None] + rng.random((n, k + 1))) % 1.0
    even = np.clip(even, 1e-9, 1.0 - 1e-9)
    t = norm.ppf(even[..., :k]) / np.sqrt(chi2.ppf(even[..., k:], FREEDOM) / FREEDOM)
    constant = gammaln(0.5 * (FREEDOM + k)) - gammaln(0.5 * FREEDOM) - 0.5 * k * np.log(FREEDOM * np.pi)
    log_density = constant - 0.5 * (FREEDOM + k) * np.log1p((t * t).sum(axis=-1) / FREEDOM)
    determinant = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    points = np.einsum("pij,mpj->mpi", root, t)
    return Proposal(centre, follow, mean, points, log_density - determinant)


def integrated(target: ByPatient, data: Any, z: np.ndarray, seed: int) -> Integrated:
    """Return the likelihood of each patient under draws ``z`` (``chains draws coordinates``), its effects integrated out."""
    chains, length, _ = z.shape
    every = max(1, -(-chains * length // DRAWS))
    chosen = z[:, ::every]
    shared, n, k = target.shared_size, target.patients, len(target.effects)
    flat = z.reshape(chains * length, -1)
    about = proposal(flat[:, :shared], flat[:, shared:].reshape(len(flat), n, k), seed)
    many = len(about.points)
    once = min(many, max(1, LANES // n))
    of = jax.jit(target.by_patient, compiler_options=compiler_options())

    def one(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log of the mean and its relative error under one draw of what patients share."""
        points = about.at(first).reshape(many, n * k)
        xs = np.concatenate([np.broadcast_to(first, (many, shared)), points], axis=1)
        # A last part of another size would be compiled anew.
        xs = np.pad(xs, ((0, -many % once), (0, 0)), mode="edge")
        found = [np.asarray(of(jnp.asarray(xs[i : i + once]), data)) for i in range(0, len(xs), once)]
        log = np.concatenate(found)[:many] - about.log_density
        log = np.where(np.isfinite(log), log, -np.inf)
        mean = logsumexp(log, axis=0) - np.log(many)
        return mean, np.exp(log - mean).std(axis=0) / np.sqrt(many)

    with ThreadPoolExecutor(CORES) as pool:
        found = pool.map(one, chosen[..., :shared].reshape(-1, shared))
        log, error = (np.stack(x).reshape(*chosen.shape[:2], n) for x in zip(*found, strict=True))
    return Integrated(log, error, every)


def log_likelihood_group(found: Integrated, posterior: xr.Dataset) -> xr.Dataset:
    """Return the group log_likelihood of a fit: ``patients``, and the relative error of the integral."""
    coords = {c: posterior.coords[c] for c in ("chain", "draw", "patient")}
    coords["draw"] = coords["draw"][:: found.every]
    dims = ("chain", "draw", "patient")
    return xr.Dataset({"patients": (dims, found.log), "integration_error": (dims, found.error)}, coords=coords)


def left_out(tree: xr.DataTree) -> pd.DataFrame:
    """Return loo.csv: expected log predictive density of each patient left out, by PSIS.

    ``khat`` is Pareto's k of the weights, ``integration_error`` the relative error (root mean square) of the integral over the
    patient's effects; ``trusted`` where k-hat is small for so many draws (Vehtari and others 2024, J Mach Learn Res 25:72:
    1 - 1/log10 S, at most 0.7) and the error too (LARGEST_ERROR).
    """
    group = tree["log_likelihood"].to_dataset()
    # Of a patient without data the likelihood is the same in every draw: there is nothing to weight.
    log = group["patients"].transpose("chain", "draw", "patient").to_numpy()
    varies = np.ptp(log, axis=(0, 1)) > 1e-9
    elpd, k, limit = log.mean(axis=(0, 1)), np.zeros(log.shape[-1]), 0.0
    if varies.any():
        given = xr.DataTree.from_dict(
            {
                "posterior": tree["posterior"].to_dataset().sel(draw=group["draw"]),
                "log_likelihood": group[["patients"]].isel(patient=np.flatnonzero(varies)),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # k-hat is in the table and in summary.md
            found: Any = az.loo(given, pointwise=True, var_name="patients")
        elpd[varies], k[varies] = np.asarray(found.elpd_i).ravel(), np.asarray(found.pareto_k).ravel()
        limit = float(found.good_k)
    error = np.sqrt((group["integration_error"] ** 2).mean(("chain", "draw")).to_numpy())
    trusted = np.isfinite(elpd) & (k <= limit) & (error <= LARGEST_ERROR)
    return pd.DataFrame(
        {"id": group["patient"].to_numpy(), "elpd": elpd, "khat": k, "integration_error": error, "trusted": trusted}
    )


def loo_text(loo: pd.DataFrame) -> str:
    """Return what summary.md says of it."""
    rough, elpd = int((~loo["trusted"]).sum()), loo["elpd"].to_numpy()
    spread = float(elpd.std(ddof=1) * np.sqrt(len(loo))) if len(loo) > 1 else float("nan")
    points = float(np.sqrt((loo["integration_error"] ** 2).sum()))
    doubt = f"{rough} of {len(loo)} cannot be trusted (k-hat too large or integral too rough), so neither can the sum. "
    return (
        f"Patients left out one at a time: elpd {elpd.sum():.1f} (SE over patients {spread:.1f}, of the integrals at most "
        f"{points:.1f}; loo.csv). {doubt if rough else ''}{SCOPE}"
    )
