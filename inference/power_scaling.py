"""How much each prior and each group of reported numbers decides what users read: power-scaling (Kallioinen et al. 2024)."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model import parameters as declared

from .likelihood import Joint, joint_log_likelihood, part_of

PRIORS = {
    "exposure and block": declared.EXPOSURE,
    "marrow": declared.MARROW,
    "counts": declared.OBSERVATION,
    "dose rules": declared.RULES,
    "infection": declared.INFECTION,
    "progression": declared.PROGRESSION,
    "follow-up": declared.FOLLOW_UP,
    "regions": declared.REGION,
}
"""Parameters by group."""
THRESHOLD = 0.05
"""Sensitivity from which a component matters (the authors' default)."""
DOMINATES = 1.5
"""Ratio of sensitivities from which one side is said to decide."""


def log_likelihoods(scores: np.ndarray, joint: Joint) -> np.ndarray:
    """Return the joint log-likelihood of each draw's scores, shape ``(draws,)``."""
    return np.asarray(joint_log_likelihood(jnp.asarray(scores), joint))


def conditional_log_likelihood(scores: np.ndarray, joint: Joint, members: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of the scores that are ``members``, given all others: what the fit has from them alone."""
    rest = log_likelihoods(scores[:, ~members], part_of(joint, ~members))
    return log_likelihoods(scores, joint) - rest


def by_group(scores: np.ndarray, joint: Joint, groups: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the conditional log-likelihood of each group of scores, shape ``(draws,)``; ``groups`` has one name a score."""
    names = np.array(groups)
    return {g: conditional_log_likelihood(scores, joint, names == g) for g in dict.fromkeys(groups)}


def log_priors(z: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the log prior density of each group of parameters at coordinates ``z``, shape ``(draws,)``."""
    out = {}
    for group, members in PRIORS.items():
        inside = np.isin(names, [p.name for p in members])
        if inside.any():
            out[group] = -0.5 * (z[:, inside] ** 2).sum(axis=1)
    return out


def sensitivity_table(
    quantities: Mapping[str, np.ndarray], priors: Mapping[str, np.ndarray], likelihoods: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Return power_scaling.csv: how the posterior of each quantity changes when one component is raised to a power near 1.

    ``sensitivity`` is the gradient of the cumulative Jensen-Shannon distance (arviz); ``prior`` and ``likelihood`` are
    those of all priors and all numbers.
    """

    def group(values: Mapping[str, np.ndarray]) -> xr.Dataset:
        whole = dict(values) | {"all": np.sum(list(values.values()), axis=0)}
        return xr.Dataset({k: (("chain", "draw"), v[None]) for k, v in whole.items()})

    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({k: (("chain", "draw"), v[None]) for k, v in quantities.items()}),
            "log_prior": group(priors),
            "log_likelihood": group(likelihoods),
        }
    )
    lines = []
    for kind, parts in (("prior", priors), ("likelihood", likelihoods)):
        for part in ("all", *parts):
            import arviz as az  # takes a second to import

            found = az.psense(tree, group=kind, group_var_names=[part])
            lines += [(name, kind, part, float(found[name])) for name in quantities]
    table = pd.DataFrame.from_records(lines, columns=["quantity", "component", "group", "sensitivity"])
    return with_drivers(table)


def with_drivers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with ``driven_by``: 'prior' or 'numbers' where one matters DOMINATES times as much as the other.

    'neither' where both stay below THRESHOLD, else 'both'.
    """
    whole = table.query("group == 'all'").pivot_table(index="quantity", columns="component", values="sensitivity")

    def says(prior: float, numbers: float) -> str:
        if max(prior, numbers) < THRESHOLD:
            return "neither"
        if prior > DOMINATES * numbers:
            return "prior"
        return "numbers" if numbers > DOMINATES * prior else "both"

    driven = {str(q): says(float(x["prior"]), float(x["likelihood"])) for q, x in whole.iterrows()}
    return table.assign(driven_by=table["quantity"].map(driven.get))
