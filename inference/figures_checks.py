"""Figures of the predictive checks of a fit to patients' own data, each drawn from the table of the same name."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mezikd.model.regimen import DAYS_PER_MONTH

from .figures_course import new_figure, save
from .figures_patients import BLUE, LABEL, RED, log_axis
from .predictive_checks import BELOW, QUANTITIES, Seen

GREY = "0.45"
FEW = 5
"""Patients at risk: with fewer, a curve says little."""


def _plain(axis: Any) -> None:
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_vpc(table: pd.DataFrame, points: dict[str, Seen], folder: Path) -> None:
    """Draw vpc.csv: a column for each observable; where there is a limit, the share below it underneath.

    Files: vpc.png, and vpc_corrected.png where there are prediction-corrected rows.
    """
    for corrected, part in table.groupby("prediction_corrected", sort=False):
        names = list(dict.fromkeys(part["observable"]))
        shares = bool((part["quantity"] == BELOW).any())
        figure = new_figure(3.3 + 1.7 * shares)
        rows = {"height_ratios": [2.2, 1.0]} if shares else {}
        axes = figure.subplots(1 + shares, len(names), squeeze=False, sharex="col", gridspec_kw=rows)
        for column, name in enumerate(names):
            _of_observable(axes[:, column], part.loc[part["observable"] == name], points[name], name, bool(corrected))
        figure.suptitle(
            f"{'Prediction-corrected v' if corrected else 'V'}isual predictive check: 5, 50 and 95 % of observations (lines), 90 % "
            "interval of new patients' (bands)" + ("; dotted: limit" if shares and not corrected else ""), fontsize=9,
        )  # fmt: skip
        save(figure, folder / f"vpc{'_corrected' if corrected else ''}.png")


def _of_observable(axes: np.ndarray, mine: pd.DataFrame, s: Seen, name: str, corrected: bool) -> None:
    """Draw one observable: quantiles, and below them, where there are two axes, the share below the limit."""
    limits, share = np.unique(s.limit[np.isfinite(s.limit)]), mine.loc[mine["quantity"] == BELOW]
    of_values = mine.loc[mine["quantity"] != BELOW]
    lowest = min(of_values["pi90_low"].min(), of_values["observed"].min(), *limits)
    if not corrected:
        axes[0].plot(s.day[~s.below], s.value[~s.below], ".", color="0.7", ms=2, zorder=0)
        for limit in limits:
            axes[0].axhline(limit, color="0.3", lw=0.8, ls=":")
    for q in QUANTITIES:
        _band(axes[0], mine.loc[mine["quantity"] == q], BLUE if q == "q50" else RED, lowest)
    log_axis(axes[0])
    axes[0].set_ylabel(LABEL[name], fontsize=8.5)
    axes[0].tick_params(labelbottom=True)
    if len(share):
        _band(axes[1], share, GREY, 0.0)
        axes[1].set_ylabel("share below the limit", fontsize=8.5)
        axes[1].set_ylim(-0.02, None)
    elif len(axes) > 1:
        axes[1].axis("off")
    axes[int(len(share) > 0)].set_xlabel("days", fontsize=9)
    for axis in axes:
        _plain(axis)


def _band(axis: Any, mine: pd.DataFrame, colour: str, lowest: float) -> None:
    """Draw one statistic by day; what of the band lies below the limit reaches down to ``lowest``."""
    shown = mine.loc[mine["pi90_high"].notna()]
    axis.fill_between(
        shown["day"],
        np.nan_to_num(shown["pi90_low"].to_numpy(float), nan=lowest),
        shown["pi90_high"],
        color=colour,
        alpha=0.25,
        lw=0,
    )
    axis.plot(mine["day"], mine["observed"], "-o", color=colour, ms=3, lw=1)


def draw_pit(table: pd.DataFrame, path: Path) -> None:
    """Draw pit.csv as the distribution of PIT values less the uniform one."""
    names = list(dict.fromkeys(table["observable"]))
    figure = new_figure(3.0)
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names, strict=True):
        t = table.loc[table["observable"] == name]
        x = t["probability"]
        axis.fill_between(x, t["band95_low"] - x, t["band95_high"] - x, color=BLUE, alpha=0.25, lw=0)
        axis.plot(x, t["ecdf"] - x, color="black", lw=1.2)
        axis.axhline(0.0, color="0.5", lw=0.6)
        axis.set_xlabel(f"PIT of {'counts' if name == 'anc' else 'concentrations'}", fontsize=9)
        axis.set_title(f"p = {t['p_value'].iloc[0]:.2f}", fontsize=8.5, loc="left")
        _plain(axis)
    axes[0].set_ylabel("share below, less the uniform one", fontsize=9)
    figure.suptitle(
        "Are observations where new patients' predictions have them? Line: observed; band: 95 % of whole replicates",
        fontsize=9,
    )
    save(figure, path)


def draw_events(table: pd.DataFrame, path: Path) -> None:
    """Draw events.csv: a column for each outcome, a row for each arm."""
    outcomes, arms = (list(dict.fromkeys(table[c])) for c in ("outcome", "arm"))
    figure = new_figure(2.5 * len(arms) + 0.5)
    axes = figure.subplots(len(arms), len(outcomes), squeeze=False, sharex=True)
    for (row, arm), (column, outcome) in ((a, o) for a in enumerate(arms) for o in enumerate(outcomes)):
        axis, t = axes[row, column], table.loc[(table["arm"] == arm) & (table["outcome"] == outcome)]
        month = t["day"].to_numpy(float) / DAYS_PER_MONTH
        axis.fill_between(month, t["pi90_low"], t["pi90_high"], color=BLUE, alpha=0.25, lw=0, step="post")
        axis.plot(month, t["median"], color=BLUE, lw=1, ls="--", drawstyle="steps-post")
        axis.plot(month, t["observed"], color="black", lw=1.3, drawstyle="steps-post")
        few = month[t["at_risk"].to_numpy(int) < FEW]
        if len(few):
            axis.axvline(few[0], color="0.4", lw=0.8, ls=":")
        axis.set_ylim(0.0, 1.02)
        first = t.iloc[0]
        axis.set_title(
            f"{outcome.replace('_', ' ')}, {arm}: {first['at_risk']} patients, events: {t['events'].iloc[-1]}",
            fontsize=8.5,
            loc="left",
        )
        axis.set_ylabel(
            "event-free (Kaplan-Meier)" if first["estimator"] == "kaplan_meier" else "cumulative incidence",
            fontsize=8.5,
        )
        _plain(axis)
        if row == len(arms) - 1:
            axis.set_xlabel("months from study day 1", fontsize=9)
    figure.suptitle(
        f"Events: observed (black), median and 90 % interval of trials of new patients (blue); dotted: fewer than {FEW} at risk",
        fontsize=9,
    )
    save(figure, path)
