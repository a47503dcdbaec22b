"""Predictive checks of a fit to patients' own data, from its predictions for new patients with the same doses and times.

Both compare observations with ``population_predictive``: draws of new patients, whose effects come from the population. A value
below its limit of quantification is, in data and predictions alike, the lowest that there is.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from .patient_data import HOURS_PER_DAY, OBSERVABLES, PatientData

BINS = 10
QUANTITIES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
BELOW = "below_limit"
GRID = np.linspace(0.01, 0.99, 99)
"""Probabilities at which the distribution of PIT values is read."""
CHUNK = 4000
"""Observations whose ranks are held at once."""


class Seen(NamedTuple):
    """Observations of one kind and what is predicted for them, patient by patient."""

    day: np.ndarray
    value: np.ndarray
    """Observed; where below the limit, the limit."""
    below: np.ndarray
    """Whether below the limit."""
    limit: np.ndarray
    """Limit of quantification, -inf where none is known."""
    new: np.ndarray
    """Of new patients, ``draws observations``."""


def observables(tree: xr.DataTree) -> list[str]:
    """Return the kinds of observation that were fitted."""
    return [n for n in OBSERVABLES if n in tree["observed_data"]]


def times(tables: PatientData, name: str) -> np.ndarray:
    """Return the times (days) of the observations of one kind, ``patients observations``, NaN where there is none."""
    return _spread(tables, name, "time") / HOURS_PER_DAY


def _spread(tables: PatientData, name: str, column: str) -> np.ndarray:
    o = tables.observations[tables.observations["observable"] == name]
    place = np.asarray(o.groupby("patient").cumcount())
    out = np.full((len(tables.ids), int(place.max()) + 1), np.nan)
    out[np.asarray(o["patient"]), place] = np.asarray(o[column], float)
    return out


def seen(tree: xr.DataTree, tables: PatientData, name: str) -> Seen:
    """Return the observations of one kind. A limit that the table does not give is the highest of the values below one."""
    day, value = times(tables, name), tree["observed_data"][name].to_numpy()
    below, limit = tree["observed_data"][f"{name}_below"].to_numpy(), _spread(tables, name, "lloq")
    there = np.isfinite(day) & np.isfinite(value)
    highest = value[there & below].max() if (there & below).any() else -np.inf
    limit = np.where(below, value, np.where(np.isfinite(limit), limit, highest))
    new = tree["population_predictive"][name].to_numpy()
    return Seen(day[there], value[there], below[there], limit[there], new[:, there])


def vpc_table(tree: xr.DataTree, tables: PatientData, corrected: bool) -> pd.DataFrame:
    """Return vpc.csv: quantiles and share below the limit in bins of time with as many observations each.

    Each beside the median and 90 % interval of the same statistic of new patients. A quantile below the limit is missing.

    Parameters
    ----------
    corrected: add rows with ``prediction_corrected``: observation i of a bin, and what is predicted for it, times
        (median over the bin of m) / m_i with m_i the median of new patients' predictions for observation i, so that
        doses and covariates that differ within a bin do not spread it (Bergstrand 2011, AAPS J 13:143; there m is the
        prediction of a typical patient).
    """
    found = []
    for name in observables(tree):
        s = seen(tree, tables, name)
        edges = np.unique(np.quantile(s.day, np.linspace(0.0, 1.0, BINS + 1)))
        place = np.clip(np.searchsorted(edges, s.day, side="right") - 1, 0, max(len(edges) - 2, 0))
        for correct in (False, True)[: 1 + corrected]:
            factor = _corrections(s, place) if correct else np.ones(len(s.day))
            y = np.where(s.below, -np.inf, s.value * factor)
            new = np.where(s.new < s.limit, -np.inf, s.new * factor)
            for b in np.unique(place):
                of = place == b
                base = dict(
                    observable=name, prediction_corrected=correct, day=np.median(s.day[of]), observations=of.sum()
                )
                for quantity, p in QUANTITIES.items():
                    data, model = (np.quantile(x[..., of], p, axis=-1, method="inverted_cdf") for x in (y, new))
                    found.append(base | {"quantity": quantity} | _beside(data, model))
                if np.isfinite(s.limit).any():
                    data, model = (np.isneginf(x[..., of]).mean(axis=-1) for x in (y, new))
                    found.append(base | {"quantity": BELOW} | _beside(data, model))
    return pd.DataFrame(found)


def _corrections(s: Seen, place: np.ndarray) -> np.ndarray:
    """Return what each observation is multiplied by; 1 where a median prediction is not above 0."""
    m = np.median(s.new, axis=0)
    bins, which = np.unique(place, return_inverse=True)
    typical = np.array([np.median(m[place == b]) for b in bins])[which]
    right = (m > 0.0) & (typical > 0.0)
    return np.where(right, typical / np.where(right, m, 1.0), 1.0)


def _beside(data: float | np.ndarray, model: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(model, [0.05, 0.5, 0.95], method="inverted_cdf")
    values = {"observed": float(data), "median": median, "pi90_low": low, "pi90_high": high}
    return {k: float("nan") if np.isneginf(v) else float(v) for k, v in values.items()}


def pit_table(tree: xr.DataTree, tables: PatientData, seed: int) -> pd.DataFrame:
    """Return pit.csv: how far the distribution of PIT values is from uniform, with a 95 % simultaneous band.

    The PIT value of an observation is the share of new patients' predictions below it; below the limit, uniform below the share
    that is. The band is that of replicated trials, each a draw of all new patients ranked among the others: observations of one
    patient are not independent, as the usual bands suppose (Saeilynoja, Buerkner and Vehtari 2022). It holds 95 % of replicates
    whole: uniform +- c(p) with the SD at each p times the 95 % quantile of the largest standardised deviation. ``p_value``: the
    share of replicates that deviate as much as the data. Parameters were fitted to these data, so it is rather too large.
    """
    found = []
    for name in observables(tree):
        s, rng = seen(tree, tables, name), np.random.default_rng([seed, 11])
        own, replicates = pit_distributions(s, rng)
        sd = replicates.std(axis=0)
        largest = (np.abs(replicates - GRID) / sd).max(axis=1)
        width = np.quantile(largest, 0.95) * sd
        p = np.mean(np.append(largest, np.inf) >= (np.abs(own - GRID) / sd).max())
        found.append(
            pd.DataFrame(
                dict(
                    observable=name, probability=GRID, ecdf=own, band95_low=np.maximum(GRID - width, 0.0),
                    band95_high=np.minimum(GRID + width, 1.0), p_value=p,
                )
            )
        )  # fmt: skip
    return pd.concat(found, ignore_index=True)


def pit_distributions(s: Seen, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the distribution of the PIT values at GRID, ``grid``, and that of each replicate, ``draws grid``."""
    draws, n = s.new.shape
    own, replicates = np.zeros(len(GRID)), np.zeros((draws, len(GRID)))
    for at in range(0, n, CHUNK):
        part = slice(at, at + CHUNK)
        new, y = s.new[:, part], s.value[part]
        share, least = (new < y).sum(axis=0), np.where(s.below[part], 0, (new < y).sum(axis=0))
        pit = (least + rng.uniform(size=len(y)) * (share - least + 1.0)) / (draws + 1.0)
        own += (pit[:, None] <= GRID).sum(axis=0)
        rank = new.argsort(axis=0).argsort(axis=0)
        others = (rank + rng.uniform(size=rank.shape)) / draws
        for k, p in enumerate(GRID):
            replicates[:, k] += (others <= p).sum(axis=1)
    return own / n, replicates / n


def checks_text(vpc: pd.DataFrame, pit: pd.DataFrame, events: pd.DataFrame | None) -> str:
    """Return what summary.md says of the checks."""
    inside = (vpc["observed"] >= vpc["pi90_low"]) & (vpc["observed"] <= vpc["pi90_high"])
    known = vpc[["observed", "pi90_low", "pi90_high"]].notna().all(axis=1) & ~vpc["prediction_corrected"]
    p = pit.groupby("observable", sort=False)["p_value"].first()
    lines = [
        "", "## Predictive checks", "",
        "Observations beside those of new patients of the same population, with the same doses and times of observation: where doses "
        "follow from counts, these doses do not follow from the new patients' own.", "",
        f"- Quantiles{' and shares below the limit' if (vpc['quantity'] == BELOW).any() else ''} by time (vpc.csv): "
        f"{int((inside & known).sum())} of {int(known.sum())} inside their 90 % interval.",
        f"- PIT (pit.csv): {', '.join(f'{n} p = {v:.2f}' for n, v in p.items())}; a small p: not where new patients' are.",
    ]  # fmt: skip
    if events is not None:
        lines.append(
            "- Kaplan-Meier curve and cumulative incidence (events.csv): new patients are followed up as long as these were; who "
            "left treatment within 28 days of progression or death goes on in new trials until its own, or until treatment ends for "
            "another reason, as that of others of the arm did."
        )
    return "\n".join(lines) + "\n"
