"""Figures of a calibration: coverage of intervals, and ranks of the truths."""

from pathlib import Path

import numpy as np
import pandas as pd

from .calibration import RANKED
from .calibration_tables import LEVELS, UniformRanks
from .figures_course import new_figure, save

COLOURS = {"independent": "#d55e00", "covariance": "#0072b2", "patients": "#0072b2"}
NAMES = {
    "independent": "as if independent",
    "covariance": "with the joint covariance",
    "patients": "of single patients",
}
COLUMNS = 4


def coverage_figure(table: pd.DataFrame, path: Path, kind: str = "quantity") -> None:
    """Draw the coverage of the 50 and 90 % intervals of every quantity of a kind, all versions, with the 99 % band."""
    read = table.query("kind == @kind")
    versions = read["version"].unique()
    names = list(dict.fromkeys(read["quantity"]))[::-1]
    figure = new_figure(0.34 * len(names) + 1.8)
    axes = figure.subplots(1, len(LEVELS), sharey=True)
    for axis, level in zip(np.ravel(axes), LEVELS, strict=True):
        part = read.query("level == @level")
        band = part.iloc[0]
        axis.axvspan(100 * band["band_low"], 100 * band["band_high"], color="0.9", zorder=0)
        axis.axvline(100 * level, color="0.5", lw=1)
        for version, shift in zip(versions, (0.16, -0.16) if len(versions) > 1 else (0.0,), strict=True):
            by_name = part.query("version == @version").set_index("quantity")["coverage"]
            y = np.arange(len(names)) + shift
            axis.plot(100 * by_name[names], y, "o", ms=6, color=COLOURS[version], label=NAMES[version])
        axis.set_xlabel(f"coverage of {100 * level:.0f} % intervals, % of {int(band['trials'])} trials")
        axis.set_xlim(max(0, 100 * level - 45), min(102, 100 * level + 45))
        axis.set_yticks(np.arange(len(names)), names)
        axis.grid(axis="x", color="0.93")
    figure.suptitle(
        "Simulation-based calibration: how often the interval holds the truth (grey: 99 % band)", fontsize=11
    )
    _legend(figure, axes, len(versions))
    save(figure, path)


def _legend(figure, axes, versions: int) -> None:
    if versions > 1:
        handles, labels = np.ravel(axes)[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def rank_figure(ranks: pd.DataFrame, path: Path, kind: str = "quantity") -> None:
    """Draw, for every quantity of a kind, the ECDF of the truths' ranks less the uniform one, with its 99 % band."""
    read = ranks.query("kind == @kind")
    versions = read["version"].unique()
    names = list(dict.fromkeys(read["quantity"]))
    uniform = UniformRanks(int(read["trial"].nunique()))
    rows = -(-len(names) // COLUMNS)
    figure = new_figure(2.0 * rows + 1.0)
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True)
    low, high = uniform.band()
    share = np.arange(1, RANKED + 1) / (RANKED + 1.0)
    for axis in np.ravel(axes)[len(names) :]:
        axis.set_visible(False)
    for i, (axis, name) in enumerate(zip(np.ravel(axes), names, strict=False)):
        axis.fill_between(share, low, high, color="0.9", step="mid")
        axis.axhline(0.0, color="0.5", lw=0.8)
        for version in versions:
            chosen = read.query("quantity == @name and version == @version")["rank"].to_numpy()
            axis.step(
                share, uniform.deviation(chosen), where="mid", color=COLOURS[version], lw=1.5, label=NAMES[version]
            )
        axis.set_title(name.rsplit(",", 1)[0].replace("grade >= 3", "gr. 3-4"), fontsize=8)
        if i % COLUMNS == 0:
            axis.set_ylabel("ECDF less uniform")
        if i >= len(names) - COLUMNS:
            axis.set_xlabel("rank of the truth, share")
            axis.xaxis.set_tick_params(labelbottom=True)
    figure.suptitle(
        "Ranks of the truth among posterior draws (grey: 99 % simultaneous band)\n"
        "hill: posterior too high; valley: too low; hill, then valley: too narrow; valley, then hill: too wide",
        fontsize=10,
    )
    _legend(figure, axes, len(versions))
    save(figure, path)
