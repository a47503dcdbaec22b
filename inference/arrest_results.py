"""What a fit of the arrest model to single patients gives: the file of draws, tables, summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.parameters import free
from mezikd.model.population import correlation_law, of_new_patients
from scipy.stats import norm

from .arrest_settings import ArrestFit
from .arrest_target import ROOT, ArrestInputs, ArrestTarget, Lanes
from .diagnostics import Diagnostics
from .patient_data import BY_RECORD, PatientData
from .patient_posterior import Reader
from .patient_results import PREDICTED, attributes, correlation_names
from .patient_summary import how_read
from .patients_left_out import integrated, log_likelihood_group, loo_text
from .sampler import Draws
from .summary import MOVED, QUANTILES

UNITS = {"exposure": "1", "anc0": "10^9/L", "maturation": "1", "progression": "1"}
"""Of patients' own values: over the typical patient's, but for the baseline count."""


def reader(target: ArrestTarget) -> Reader:
    """Return what reads draws of a fit: estimated parameters, correlations, patients' own values as patient_EFFECT."""
    return Reader.of(*reading(target))


def reading(target: ArrestTarget) -> tuple[Callable[[Any, Any], dict[str, Any]], dict[str, str]]:
    """Return what ``Reader.of`` is given."""
    estimated, n = free(target.declared), "patient_"
    pairs = correlation_names(target.effects) if target.correlations else {}

    def read(x, data: ArrestInputs):
        theta = target.population(x)
        eta, _ = target.etas(x, theta, data)
        found = {p.name: theta[p.name] for p in estimated}
        if pairs:
            r = theta[ROOT] @ theta[ROOT].T
            found |= {name: r[place] for name, place in pairs.items()}
        return found | {n + e: x for e, x in target.own(theta, eta, data).items()}

    units = {p.name: p.unit for p in estimated} | {n + e: UNITS[e] for e in target.effects}
    return read, units


def build_tree(
    target: ArrestTarget,
    data: ArrestInputs,
    tables: PatientData,
    draws: Draws,
    posterior: xr.Dataset,
    folder: Path,
    settings: ArrestFit,
    seconds: float,
) -> xr.DataTree:
    """Return the DataTree of a fit: its ``posterior``, likelihood by patient (patients_left_out.py), predicted counts."""
    n, k = target.patients, len(target.effects)

    def predict(given):
        x, z = given
        theta = target.population(x)
        eta, _ = target.etas(x, theta, data)
        who = np.arange(n)[:, None]
        out = []
        for e in (eta, of_new_patients(z, target.spread(theta)[1])):
            lanes = Lanes(target.individuals(theta, e, data), target.rates(theta, data))
            course = target.followed(lanes, data.ledger)
            out.append(lanes.individuals.log_anc0[:, None] + course.log_blood[data.counts.day, who])
        return *out, theta["sigma_anc"]

    chains, length, _ = draws.z.shape
    flat = jnp.asarray(draws.z.reshape(chains * length, -1))
    by_patient = integrated(target.in_single(), data, draws.z, settings.sampler.seed)
    pair = {c: posterior.coords[c] for c in ("chain", "draw")}
    rng = np.random.default_rng([settings.sampler.seed, 7])
    chosen = flat[:: max(1, chains * length // PREDICTED)]
    effects = jnp.asarray(rng.standard_normal((len(chosen), n, k)))
    log_own, log_new, sigma = jax.lax.map(jax.jit(predict), (chosen, effects))
    there = np.asarray(data.counts.there) > 0.0
    dims, noise = ("draw", "patient", "anc_number"), np.asarray(sigma)[:, None, None]

    def seen(x):
        return np.where(there, np.exp(x), np.nan)

    fitted = {"anc": (dims, seen(np.asarray(log_own)))}
    new = [seen(np.asarray(x) + noise * rng.standard_normal(x.shape)) for x in (log_own, log_new)]
    observed = {
        "anc": (dims[1:], seen(np.asarray(data.counts.log_value))),
        "anc_below": (dims[1:], there & (np.asarray(data.counts.below) > 0.0)),
    }
    stats = {
        "lp": draws.log_density, "energy": draws.energy, "acceptance_rate": draws.accept,
        "n_steps": draws.steps, "diverging": draws.diverging,
    }  # fmt: skip
    who = {"patient": list(tables.ids)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "unconstrained_posterior": xr.Dataset({"x": (("chain", "draw", "coordinate"), draws.z)}, coords=pair),
            "sample_stats": xr.Dataset({s: (("chain", "draw"), v) for s, v in stats.items()}, coords=pair),
            "log_likelihood": log_likelihood_group(by_patient, posterior),
            "fitted": xr.Dataset(fitted, coords=who),
            "posterior_predictive": xr.Dataset({"anc": (dims, new[0])}, coords=who),
            "population_predictive": xr.Dataset({"anc": (dims, new[1])}, coords=who),
            "observed_data": xr.Dataset(observed, coords=who),
        }
    )  # fmt: skip
    tree.attrs.update(attributes(settings, folder / settings.tables.file, seconds))
    return tree


def parameter_table(tree: xr.DataTree, target: ArrestTarget, shrinkage: np.ndarray) -> pd.DataFrame:
    """Return parameters.csv: as that of a fit with concentrations (patient_results.parameter_table)."""
    posterior = tree["posterior"].to_dataset()
    estimated = free(target.declared)
    pairs = list(correlation_names(target.effects)) if target.correlations else []
    mcse = az.mcse(posterior[[*(p.name for p in estimated), *pairs]])
    of_effect: dict[str, float] = dict(zip(target.settings.sds, shrinkage, strict=True))
    lines = []
    law = correlation_law(len(target.effects), target.settings.effects.lkj_shape)
    rows = [
        (p.name, p.unit, p.meaning, np.asarray(p.from_standard(norm.ppf(QUANTILES))), p.to_working, p.spread**2) for p in estimated
    ] + [(n, "1", "correlation of individual effects", law.ppf(QUANTILES), np.asarray, law.var()) for n in pairs]  # fmt: skip
    for name, unit, meaning, prior, working, variance in rows:
        x = posterior[name].to_numpy().ravel()
        contraction = 1.0 - float(np.var(working(x)) / variance)
        post = np.quantile(x, QUANTILES)
        lines.append(
            dict(
                name=name, unit=unit, prior_q05=prior[0], prior_median=prior[1], prior_q95=prior[2],
                posterior_q05=post[0], posterior_median=post[1], posterior_q95=post[2], mean=x.mean(), sd=x.std(ddof=1),
                mcse=float(mcse[name]), contraction=contraction, driven_by="prior" if contraction < MOVED else "data",
                shrinkage=of_effect.get(name, np.nan), meaning=meaning,
            )
        )  # fmt: skip
    return pd.DataFrame(lines)


def patient_table(tree: xr.DataTree) -> pd.DataFrame:
    """Return patients.csv: median and 90 % interval of every patient's own values."""
    data = tree["posterior"].to_dataset()
    lines = []
    for e in (str(n).removeprefix("patient_") for n in data if str(n).startswith("patient_")):
        low, median, high = data[f"patient_{e}"].quantile([0.05, 0.5, 0.95], dim=("chain", "draw")).to_numpy()
        lines += [(i, e, UNITS[e], *x) for i, *x in zip(data["patient"].to_numpy(), median, low, high, strict=True)]
    return pd.DataFrame.from_records(lines, columns=["id", "parameter", "unit", "median", "pi90_low", "pi90_high"])


def summary_text(
    settings: ArrestFit,
    tables: PatientData,
    data: ArrestInputs,
    d: Diagnostics,
    parameters: pd.DataFrame,
    loo: pd.DataFrame,
) -> str:
    """Return summary.md."""
    s, ledger, deaths = settings.study, data.ledger, data.deaths
    prior = parameters.loc[parameters["driven_by"] == "prior", "name"].tolist()
    died = int((deaths.before + deaths.after + deaths.fatal).sum())
    given, notes = settings.exposure, []
    if given is not None:
        each = f" of each patient's dose in {given.dose}" if given.dose else " of a dose of 1 mg"
        each = " of the dose of each record of adex" if BY_RECORD in tables.exposure else each
        notes.append(f"Exposure is given, not estimated: column {given.column},{each}, over {given.reference:g}.")
    if acts := [f"{n} ({', '.join(p.covariates)})" for n, p in settings.parameters.items() if p.covariates]:
        notes.append(f"Covariates: {'; '.join(acts)}.")
    lines = [
        f"# {s.name}: fit of the arrest model to single patients", "", f"{s.title}. {s.citation}", "",
        f"{len(ledger.stop)} patients, {int(np.sum(data.counts.there))} neutrophil counts, {int(np.sum(ledger.infected))} first "
        f"severe infections, {int(np.sum(ledger.progressed))} progressions, {died} deaths. Doses are taken as delivered: holds and "
        "reductions follow from counts that are in the data and have no likelihood of their own.",
        *(["", " ".join(notes)] if notes else []),
        "", f"Gate: **{d.gate}**{f' ({d.failed})' if d.failed else ''}. R-hat {d.max_rhat:.4f} at most, ESS at least "
        f"{d.min_ess_bulk:.0f} bulk / {d.min_ess_tail:.0f} tail of {d.chains * d.draws}, {d.divergences} divergences, "
        f"{d.gradients} gradients of {d.gradient_ms:.1f} ms, {d.seconds:.0f} s.", "",
        f"Driven by the prior: {', '.join(prior) or 'no parameter'}. Parameters not in [parameters] are fixed at their declared centre.",
        "", loo_text(loo), "",
        "| parameter | unit | median | 5 % | 95 % | driven by |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    shown = parameters[["name", "unit", "posterior_median", "posterior_q05", "posterior_q95", "driven_by"]]
    for n, unit, median, low, high, driven in shown.itertuples(index=False):
        lines.append(f"| {n} | {unit} | {median:.4g} | {low:.4g} | {high:.4g} | {driven} |")
    return "\n".join([*lines, *how_read(tables)]) + "\n"
