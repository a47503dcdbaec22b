"""What a fit of the arrest model to single patients gives: the file of draws, tables, summary."""

from pathlib import Path

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.parameters import free
from scipy.stats import norm

from .arrest_settings import EFFECTS, SDS, ArrestFit
from .arrest_target import ArrestInputs, ArrestTarget, Lanes
from .diagnostics import Diagnostics
from .importance import TRUSTED
from .patient_data import PatientData
from .patient_results import PREDICTED, attributes
from .sampler import Draws
from .summary import MOVED, QUANTILES

UNITS = {"exposure": "1", "anc0": "10^9/L", "maturation": "1", "progression": "1"}
"""Of patients' own values: over the typical patient's, but for the baseline count."""


def build_tree(
    target: ArrestTarget,
    data: ArrestInputs,
    tables: PatientData,
    draws: Draws,
    folder: Path,
    settings: ArrestFit,
    seconds: float,
) -> xr.DataTree:
    """Return the DataTree of a fit: population, patients' own values, log-likelihood by patient, predicted counts."""
    estimated = free(target.declared)
    n, k = target.patients, len(EFFECTS)

    def read(x):
        lanes, theta, _ = target.lanes(x[None], data)
        eta, _ = target.etas(x, target.population(x), data)
        own = jnp.exp(eta) * jnp.array([theta["anc0"][0] if e == "anc0" else 1.0 for e in EFFECTS])
        pointwise = target.of_patients(lanes, data.ledger, data.counts)
        return {p.name: theta[p.name][0] for p in estimated}, own, pointwise

    def predict(given):
        x, z = given
        theta = target.population(x)
        eta, _ = target.etas(x, theta, data)
        who = np.arange(n)[:, None]
        out = []
        for e in (eta, z * target.spread(theta)[1].sd):
            lanes = Lanes(target.individuals(theta, e, data), target.rates(theta, data))
            course = target.followed(lanes, data.ledger)
            out.append(lanes.individuals.log_anc0[:, None] + course.log_blood[data.counts.day, who])
        return *out, theta["sigma_anc"]

    chains, length, _ = draws.z.shape
    flat = jnp.asarray(draws.z.reshape(chains * length, -1))
    population, own, pointwise = jax.lax.map(jax.jit(read), flat)
    coords = {"chain": np.arange(chains), "draw": np.arange(length), "patient": list(tables.ids)}
    pair = {c: coords[c] for c in ("chain", "draw")}

    def by_chain(v):
        return np.asarray(v).reshape(chains, length, *np.shape(v)[1:])

    units = {p.name: p.unit for p in estimated}
    posterior = {m: (("chain", "draw"), by_chain(v), {"unit": units[m]}) for m, v in population.items()}
    posterior |= {
        f"patient_{e}": (("chain", "draw", "patient"), by_chain(own[..., i]), {"unit": UNITS[e]})
        for i, e in enumerate(EFFECTS)
    }  # fmt: skip
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
            "posterior": xr.Dataset(posterior, coords=coords),
            "unconstrained_posterior": xr.Dataset({"x": (("chain", "draw", "coordinate"), draws.z)}, coords=pair),
            "sample_stats": xr.Dataset({s: (("chain", "draw"), v) for s, v in stats.items()}, coords=pair),
            "log_likelihood": xr.Dataset({"patients": (("chain", "draw", "patient"), by_chain(pointwise))}, coords=coords),
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
    mcse = az.mcse(posterior[[p.name for p in estimated]])
    of_effect: dict[str, float] = dict(zip(SDS, shrinkage, strict=True))
    lines = []
    for p in estimated:
        x = posterior[p.name].to_numpy().ravel()
        contraction = 1.0 - float(np.var(p.to_working(x))) / p.spread**2
        prior, post = np.asarray(p.from_standard(norm.ppf(QUANTILES))), np.quantile(x, QUANTILES)
        lines.append(
            dict(
                name=p.name, unit=p.unit, prior_q05=prior[0], prior_median=prior[1], prior_q95=prior[2],
                posterior_q05=post[0], posterior_median=post[1], posterior_q95=post[2], mean=x.mean(), sd=x.std(ddof=1),
                mcse=float(mcse[p.name]), contraction=contraction, driven_by="prior" if contraction < MOVED else "data",
                shrinkage=of_effect.get(p.name, np.nan), meaning=p.meaning,
            )
        )  # fmt: skip
    return pd.DataFrame(lines)


def patient_table(tree: xr.DataTree) -> pd.DataFrame:
    """Return patients.csv: median and 90 % interval of every patient's own values."""
    data = tree["posterior"].to_dataset()
    lines = []
    for e in EFFECTS:
        low, median, high = data[f"patient_{e}"].quantile([0.05, 0.5, 0.95], dim=("chain", "draw")).to_numpy()
        lines += [(i, e, UNITS[e], *x) for i, *x in zip(data["patient"].to_numpy(), median, low, high, strict=True)]
    return pd.DataFrame.from_records(lines, columns=["id", "parameter", "unit", "median", "pi90_low", "pi90_high"])


def summary_text(
    settings: ArrestFit, data: ArrestInputs, d: Diagnostics, parameters: pd.DataFrame, loo: pd.DataFrame
) -> str:
    """Return summary.md."""
    s, ledger, deaths = settings.study, data.ledger, data.deaths
    rough = int((~loo["trusted"]).sum())
    prior = parameters.loc[parameters["driven_by"] == "prior", "name"].tolist()
    died = int(deaths.before + deaths.after + deaths.fatal)
    lines = [
        f"# {s.name}: fit of the arrest model to single patients", "", f"{s.title}. {s.citation}", "",
        f"{len(ledger.stop)} patients, {int(np.sum(data.counts.there))} neutrophil counts, {int(np.sum(ledger.infected))} first "
        f"severe infections, {int(np.sum(ledger.progressed))} progressions, {died} deaths. Doses are taken as delivered: holds and "
        "reductions follow from counts that are in the data and have no likelihood of their own.",
        "", f"Gate: **{d.gate}**{f' ({d.failed})' if d.failed else ''}. R-hat {d.max_rhat:.4f} at most, ESS at least "
        f"{d.min_ess_bulk:.0f} bulk / {d.min_ess_tail:.0f} tail of {d.chains * d.draws}, {d.divergences} divergences, "
        f"{d.gradients} gradients of {d.gradient_ms:.1f} ms, {d.seconds:.0f} s.", "",
        f"Driven by the prior: {', '.join(prior) or 'no parameter'}. Parameters not in [parameters] are fixed at their declared centre.",
        f"Patients left out one at a time: elpd {loo['elpd'].sum():.1f}; {rough} of {len(loo)} with k-hat above {TRUSTED:g}"
        f"{', so that sum is rough' if rough else ''} (loo.csv).", "",
        "| parameter | unit | median | 5 % | 95 % | driven by |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    shown = parameters[["name", "unit", "posterior_median", "posterior_q05", "posterior_q95", "driven_by"]]
    for n, unit, median, low, high, driven in shown.itertuples(index=False):
        lines.append(f"| {n} | {unit} | {median:.4g} | {low:.4g} | {high:.4g} | {driven} |")
    return "\n".join(lines) + "\n"
