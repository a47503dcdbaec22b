"""What a fit to patients' own data gives: the file of draws, tables, summary."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.population import correlation_law, of_new_patients
from scipy.stats import halfcauchy, halfnorm, lognorm, norm

from .diagnostics import Diagnostics
from .patient_data import PatientData
from .patient_posterior import Reader
from .patient_settings import MEANING, UNITS, PatientFit
from .patient_summary import how_read
from .patient_target import Inputs, PatientTarget
from .patients_left_out import integrated, log_likelihood_group, loo_text
from .posterior_file import FORMAT, device_name, versions
from .sampler import Draws
from .summary import MOVED, QUANTILES

KIND = "patients"
PREDICTED = 200
"""Draws, at most, of which predictions are kept."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.is_file())).hexdigest()


def attributes(settings: Any, table: Path, seconds: float) -> dict[str, Any]:
    """Return the attributes of the file of draws; ``table`` is the file or folder that was fitted."""
    return {
        "mezikd_format": FORMAT, "kind": KIND, "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds, "seed": settings.sampler.seed, "device": device_name(), "versions": json.dumps(versions()),
        "settings": settings.model_dump_json(), "tables_sha256": digest(table),
    }  # fmt: skip


def reader(target: PatientTarget) -> Reader:
    """Return what reads draws of a fit: typical values, SDs, correlations, residual SDs, patients' own values as patient_NAME."""
    settings = target.settings

    def read(x, data: Inputs):
        shared = target.shared(x)
        eta, _ = target.etas(x, shared, data)
        out = {n: jnp.exp(v) for n, v in shared.log_typical.items() if n not in settings.given}
        out |= {t.coefficient(n): shared.powers[key] for key, (n, t) in target.coefficients.items()}
        out |= {f"sd_{n}": shared.spread.sd[i] for i, n in enumerate(target.effects)}
        r = shared.spread.root @ shared.spread.root.T
        if settings.effects.correlation == "lkj":
            out |= {name: r[at] for name, at in correlation_names(target.effects).items()}
        out |= {f"error_{o}": shared.residual[o] for o in target.observables}
        own = target.patients_parameters(shared, eta, data)
        return out | {f"patient_{n}": own[n] for n in target.effects}

    return Reader.of(read, UNITS | {f"patient_{n}": UNITS[n] for n in target.effects})


def sampled(posterior: xr.Dataset) -> xr.Dataset:
    """Return the posterior without what is fixed: what the gate looks at."""
    return posterior.drop_vars([k for k in posterior if float(posterior[k].std()) == 0.0])


def build_tree(
    target: PatientTarget,
    data: Inputs,
    tables: PatientData,
    draws: Draws,
    posterior: xr.Dataset,
    folder: Path,
    settings: PatientFit,
    seconds: float,
) -> xr.DataTree:
    """Return the DataTree of a fit: its ``posterior``, likelihood by patient (patients_left_out.py), predictions."""
    k = len(target.effects)

    def predict(given):
        x, z = given
        shared = target.shared(x)
        eta, _ = target.etas(x, shared, data)
        others = of_new_patients(z, shared.spread)
        of = [target.predictions(target.patients_parameters(shared, e, data), data) for e in (eta, others)]
        return *of, shared.residual

    chains, length, _ = draws.z.shape
    flat = jnp.asarray(draws.z.reshape(chains * length, -1))
    by_patient = integrated(target, data, draws.z, settings.sampler.seed)
    every = max(1, chains * length // PREDICTED)
    rng = np.random.default_rng([settings.sampler.seed, 7])
    chosen = flat[::every]
    effects = jnp.asarray(rng.standard_normal((len(chosen), target.patients, k)))
    predicted, others, residual = jax.lax.map(jax.jit(predict), (chosen, effects))
    observed, predictive, population_predictive, fitted = {}, {}, {}, {}
    for name, o in data.observed.items():
        dims = ("patient", f"{name}_number")
        counts = np.asarray(o.counts) > 0
        observed[name] = (dims, np.where(counts, np.asarray(o.value), np.nan))
        observed[f"{name}_below"] = (dims, np.asarray(o.below) > 0)
        x, error = np.asarray(predicted[name]), getattr(settings.residual, name).error
        fitted[name] = (("draw", *dims), np.where(counts, x, np.nan))
        sd = np.asarray(residual[name])[:, None, None]
        for of, group in ((x, predictive), (np.asarray(others[name]), population_predictive)):
            noise = sd * rng.standard_normal(x.shape)
            new = of * np.exp(noise) if error == "lognormal" else of + noise * (of if error == "proportional" else 1.0)
            group[name] = (("draw", *dims), np.where(counts, new, np.nan))
    stats = {
        "lp": draws.log_density, "energy": draws.energy, "acceptance_rate": draws.accept,
        "n_steps": draws.steps, "diverging": draws.diverging,
    }  # fmt: skip
    pair = {c: posterior.coords[c] for c in ("chain", "draw")}
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "unconstrained_posterior": xr.Dataset({"x": (("chain", "draw", "coordinate"), draws.z)}, coords=pair),
            "sample_stats": xr.Dataset({n: (("chain", "draw"), v) for n, v in stats.items()}, coords=pair),
            "log_likelihood": log_likelihood_group(by_patient, posterior),
            "fitted": xr.Dataset(fitted, coords={"patient": list(tables.ids)}),
            "posterior_predictive": xr.Dataset(predictive, coords={"patient": list(tables.ids)}),
            "population_predictive": xr.Dataset(population_predictive, coords={"patient": list(tables.ids)}),
            "observed_data": xr.Dataset(observed, coords={"patient": list(tables.ids)}),
        }
    )  # fmt: skip
    tree.attrs.update(attributes(settings, folder / settings.tables.file, seconds))
    return tree


def correlation_names(effects: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the name of every correlation of ``effects`` and its place in their matrix."""
    pairs = combinations(enumerate(effects), 2)
    return {f"correlation_{a}_{b}": (i, j) for (i, a), (j, b) in pairs}


def _prior_quantiles(name: str, target: PatientTarget) -> list[float]:
    """Return the prior quantiles of what patients share."""
    q, settings = np.array(QUANTILES), target.settings
    if name in settings.parameters:
        p = settings.parameters[name]
        return lognorm.ppf(q, p.prior_sd, scale=p.typical).tolist() if p.prior_sd else [p.typical] * 3
    if (law := _coefficient_law(name, target)) is not None:
        return law.ppf(q).tolist()
    if name.startswith("sd_"):
        s = settings.effects
        return halfnorm.ppf(q * halfnorm.cdf(s.sd_upper / s.sd_scale), scale=s.sd_scale).tolist()
    e = getattr(settings.residual, name.removeprefix("error_"))
    return (halfnorm if e.prior == "half_normal" else halfcauchy).ppf(q, scale=e.scale).tolist()


def _coefficient_law(name: str, target: PatientTarget) -> Any:
    """Return the prior of a covariate's coefficient, or of a correlation; None for all others."""
    for n, t in target.coefficients.values():
        if name == t.coefficient(n):
            return norm(t.centre, t.spread)
    if name in correlation_names(target.effects):
        return correlation_law(len(target.effects), target.settings.effects.lkj_shape)
    return None


def parameter_table(tree: xr.DataTree, target: PatientTarget, shrinkage: np.ndarray) -> pd.DataFrame:
    """Return parameters.csv: prior and posterior of what patients share, MCSE, contraction and shrinkage of effects.

    contraction as in a fit to reported numbers (log scale; coefficients of covariates and correlations as they are); below MOVED
    a parameter is driven by its prior. shrinkage of
    'sd_x' is the mean posterior variance of the patients' effects over the population's: near 1, their data say little.
    """
    posterior = tree["posterior"].to_dataset()
    lines = []
    shared = [n for n in posterior if posterior[n].ndim == 2]
    summary = az.mcse(posterior[shared])
    effects = dict(zip(target.effects, shrinkage, strict=True))
    meanings = MEANING | {t.coefficient(n): t.meaning(n) for n, t in target.coefficients.values()}
    for n in shared:
        x = posterior[n].to_numpy().ravel()
        declared = target.settings.parameters.get(str(n))
        contraction, driven = float("nan"), "data"
        if declared is not None:
            fixed = declared.prior_sd == 0
            contraction = float("nan") if fixed else 1.0 - float(np.log(x).var()) / declared.prior_sd**2
            driven = "fixed" if fixed else "prior" if contraction < MOVED else "data"
        elif (law := _coefficient_law(str(n), target)) is not None:
            contraction = 1.0 - float(x.var() / law.var())
            driven = "prior" if contraction < MOVED else "data"
        prior, post = _prior_quantiles(str(n), target), np.quantile(x, QUANTILES)
        name = str(n).removeprefix("sd_")
        lines.append(
            dict(
                name=n, unit=UNITS.get(str(n), "1"), prior_q05=prior[0], prior_median=prior[1], prior_q95=prior[2],
                posterior_q05=post[0], posterior_median=post[1], posterior_q95=post[2], mean=x.mean(), sd=x.std(ddof=1),
                mcse=float(summary[n]), contraction=contraction, driven_by=driven,
                shrinkage=effects.get(name, np.nan) if str(n).startswith("sd_") else np.nan,
                meaning=meanings.get(str(n), ""),
            )
        )  # fmt: skip
    return pd.DataFrame(lines)


def patient_table(tree: xr.DataTree) -> pd.DataFrame:
    """Return patients.csv: median and 90 % interval of every patient's parameters."""
    data = tree["posterior"].to_dataset()
    lines = []
    for name in (str(n) for n in data if str(n).startswith("patient_")):
        low, median, high = data[name].quantile([0.05, 0.5, 0.95], dim=("chain", "draw")).to_numpy()
        n = name.removeprefix("patient_")
        lines += [(i, n, UNITS[n], *x) for i, *x in zip(data["patient"].to_numpy(), median, low, high, strict=True)]
    return pd.DataFrame.from_records(lines, columns=["id", "parameter", "unit", "median", "pi90_low", "pi90_high"])


def summary_text(
    settings: PatientFit,
    target: PatientTarget,
    tables: PatientData,
    d: Diagnostics,
    parameters: pd.DataFrame,
    loo: pd.DataFrame,
) -> str:
    """Return summary.md."""
    s, m = settings.study, settings.model
    counted = tables.observations["observable"].value_counts().to_dict()
    shown = parameters[["name", "unit", "posterior_median", "posterior_q05", "posterior_q95", "driven_by"]]
    prior = parameters.loc[parameters["driven_by"] == "prior", "name"].tolist()
    given = ", ".join(f"{n} ({column})" for n, column in settings.given.items())
    driver = f"{m.compartments} compartment{'s'[: m.compartments - 1]}, {m.effect} effect of the concentration"
    if m.exposure is not None:
        driver = f"{m.effect} effect of the exposure in column {m.exposure}, carried forward from row to row; doses do nothing"
    lines = [
        f"# {s.name}: fit to patients' own data", "", f"{s.title}. {s.citation}", "",
        f"{target.patients} patients, {', '.join(f'{n} {o}' for o, n in counted.items())} observations. "
        f"Friberg's kill model, {driver}.",
        *(["", f"Not estimated, every patient's own value is in a column: {given}."] if given else []),
        "", f"Gate: **{d.gate}**{f' ({d.failed})' if d.failed else ''}. R-hat {d.max_rhat:.4f} at most, ESS at least "
        f"{d.min_ess_bulk:.0f} bulk / {d.min_ess_tail:.0f} tail of {d.chains * d.draws}, {d.divergences} divergences, "
        f"{d.gradients} gradients of {d.gradient_ms:.1f} ms, {d.seconds:.0f} s.", "",
        f"Driven by the prior: {', '.join(prior) or 'no population parameter'}.",
        "", loo_text(loo), "",
        "| parameter | unit | median | 5 % | 95 % | driven by |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for n, unit, median, low, high, driven in shown.itertuples(index=False):
        lines.append(f"| {n} | {unit} | {median:.4g} | {low:.4g} | {high:.4g} | {driven} |")
    return "\n".join([*lines, *how_read(tables)]) + "\n"
