"""What a joint fit adds to the results of a fit to patients: the other trial's draws, between-trial SDs, its numbers' check."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.parameters import natural
from scipy.stats import halfnorm, norm

from .arrest_results import reading
from .between_trials import between_sd, both, mean_of_trials
from .check import check_table, predictive
from .diagnostics import Diagnostics
from .joint_target import JointInputs, JointTarget, Sides
from .patient_posterior import Reader
from .problem import Problem
from .sampler import Draws
from .summary import QUANTILES

PRIOR_DRAWS = 20_000
PREDICTIVE_DRAWS = 200


def sides_of(target: JointTarget, draws: Draws) -> Sides:
    """Return all draws as each trial's likelihood reads them; leading axes: chains, draws."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(target.sides)))(jnp.asarray(draws.z)))


def of_patients(draws: Draws, sides: Sides) -> Draws:
    """Return the draws in the coordinates of a fit to the patients alone, which all that reads such a fit understands."""
    return draws._replace(z=sides.patients)


def reader(target: JointTarget) -> Reader:
    """Return what reads draws of a joint fit: as that of the patients alone, reported_NAME, between_trial_sd_NAME of those shared.

    reported_NAME is the value in the trial of the reported numbers.
    """
    theirs = target.estimated[1]
    of_patients, units = reading(target.single)

    def read(x, data: JointInputs):
        sides = target.sides(x)
        theta = natural(sides.reported, target.numbers.parameters)
        found = of_patients(sides.patients, data) | {f"reported_{p.name}": theta[p.name] for p in theirs}
        return found | {f"between_trial_sd_{n}": sides.tau[i] for i, n in enumerate(target.shared)}

    units = units | {f"reported_{p.name}": p.unit for p in theirs}
    return Reader.of(read, units | {f"between_trial_sd_{n}": "working scale" for n in target.shared})


def with_means(posterior: xr.Dataset, target: JointTarget, sides: Sides, seed: int) -> xr.Dataset:
    """Return ``posterior`` with mean_of_trials_NAME of shared parameters, drawn given the values in both trials."""
    mine, theirs = target.estimated
    rng = np.random.default_rng([seed, 19])
    of_mine = np.asarray(target.single.prior_scaled(jnp.asarray(sides.patients)))
    for j, name in enumerate(target.shared):
        (k, p), (i, _) = (next((i, p) for i, p in enumerate(side) if p.name == name) for side in (mine, theirs))
        tau, z = sides.tau[..., j], rng.standard_normal(sides.tau.shape[:2])
        mean = mean_of_trials(of_mine[..., k], sides.reported[..., i], tau, p.spread, z)
        posterior[f"mean_of_trials_{name}"] = (("chain", "draw"), np.asarray(p.from_standard(mean)), {"unit": p.unit})
    return posterior


def joint_table(tree: xr.DataTree, target: JointTarget, seed: int) -> pd.DataFrame:
    """Return joint.csv: four rows for each shared parameter, prior and posterior quantiles of its values and of tau.

    ``value``: of the patients' trial, of the trial of the reported numbers, the mean of all such trials, and tau, the SD
    between trials on the working scale (log or logit).
    """
    posterior = tree["posterior"].to_dataset()
    rng = np.random.default_rng([seed, 23])
    lines = []
    for name in target.shared:
        p = next(p for p in target.estimated[1] if p.name == name)
        z = rng.standard_normal((3, PRIOR_DRAWS))
        one, _ = both(z[0], z[1], between_sd(z[2], target.between_trial_sd), p.spread)
        in_a_trial = np.quantile(np.asarray(p.from_standard(np.asarray(one))), QUANTILES)
        rows = (
            ("in the patients' trial", name, p.unit, in_a_trial),
            ("in the other trial", f"reported_{name}", p.unit, in_a_trial),
            ("mean of trials", f"mean_of_trials_{name}", p.unit, p.from_standard(norm.ppf(QUANTILES))),
            ("between-trial SD", f"between_trial_sd_{name}", "logit" if p.support == "unit" else "log" if p.support == "positive" else p.unit, halfnorm.ppf(QUANTILES, scale=target.between_trial_sd)),
        )  # fmt: skip
        for value, variable, unit, prior in rows:
            post = np.quantile(posterior[variable].to_numpy(), QUANTILES)
            lines.append((name, value, unit, *np.asarray(prior), *post))
    columns = [f"{of}_{q}" for of in ("prior", "posterior") for q in ("q05", "median", "q95")]
    return pd.DataFrame.from_records(lines, columns=["name", "value", "unit", *columns])


def numbers_table(other: Problem, sides: Sides, seed: int) -> pd.DataFrame:
    """Return check.csv: reported numbers beside trials simulated at the other trial's parameters."""
    flat = np.asarray(sides.reported).reshape(-1, sides.reported.shape[-1])
    chosen = flat[np.linspace(0, len(flat) - 1, min(PREDICTIVE_DRAWS, len(flat))).astype(int)]
    simulated = predictive(other.evidence, chosen, other.parameters, other.design, seed)
    return check_table(other.evidence, simulated)


def joint_text(other: Problem, table: pd.DataFrame, check: pd.DataFrame, d: Diagnostics) -> str:
    """Return the section of summary.md on the joint fit."""
    fitted = check[check["role"] == "fit"]
    lines = [
        "", "## Fitted together with reported numbers", "",
        f"{other.settings.study.name}: {len(other.evidence.fit)} reported numbers fitted; {int(fitted['covered'].sum())} of "
        f"{len(fitted)} inside their 90 % predictive interval (check.csv). Parameters not shared are each trial's own, with their "
        "declared priors. parameters.csv is of the patients' trial; its prior of a shared parameter is that of the mean of trials.",
        f"Worst R-hat: {d.worst_parameter}.", "",
        "| shared parameter | value | unit | median | 5 % | 95 % | prior 5 to 95 % |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for r in table.to_dict("records"):
        median, low, high = (f"{r[f'posterior_{q}']:.4g}" for q in ("median", "q05", "q95"))
        prior = f"{r['prior_q05']:.4g} to {r['prior_q95']:.4g}"
        lines.append(f"| {r['name']} | {r['value']} | {r['unit']} | {median} | {low} | {high} | {prior} |")
    return "\n".join(lines) + "\n"
