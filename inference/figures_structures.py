"""Figure of structures: what each predicts under the trial's regimen and two others, side by side."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from .figures_course import new_figure, save
from .quantities import LOWER, SHORTER, TRIAL

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
PLANS = (TRIAL, LOWER, SHORTER)
SHOWN = {
    "neutropenia grade >= 3, %": "neutropenia\ngrade ≥3, %",
    "infection grade >= 3, %": "infection\ngrade ≥3, %",
    "median RDI, %": "median RDI, %",
    "median PFS, months": "median PFS,\nmonths",
    "log hazard ratio of PFS": "hazard ratio of\nPFS against Kd",
}
LABEL_WIDTH = 22


def structures_figure(table: pd.DataFrame, weights: dict[str, float], path: Path) -> None:
    """Draw medians and 90 % intervals of the main quantities by structure, one row of panels a plan.

    ``table`` is structure_predictions.csv; ``weights`` those of the structures, the stacked mixture (a diamond) not among
    them. Hollow marks are extrapolated.
    """
    structures = list(dict.fromkeys(table["structure"]))
    figure = new_figure(0.34 * len(structures) * len(PLANS) + 2.2)
    axes = figure.subplots(len(PLANS), len(SHOWN), sharex="col", sharey=True)
    colours = dict(zip(weights, COLOURS, strict=False))
    labels = [textwrap.fill(f"{s} ({weights[s]:.2f})" if s in weights else s, LABEL_WIDTH) for s in structures]
    for row, plan in zip(axes, PLANS, strict=True):
        for axis, (quantity, label) in zip(row, SHOWN.items(), strict=True):
            part = table[table["quantity"] == f"{plan.name}: {quantity}"].set_index("structure")
            ratio = quantity.startswith("log ")
            for y, structure in enumerate(structures):
                line = part.loc[structure, ["pi90_low", "median", "pi90_high"]].to_numpy(float)
                low, median, high = np.exp(line) if ratio else line
                colour = colours.get(structure, "black")
                fill = "white" if part.loc[structure, "extrapolated"] else colour
                axis.plot([low, high], [y, y], color=colour, lw=1.6)
                axis.plot(median, y, "o" if structure in weights else "D", color=colour, mfc=fill, ms=5)
            axis.grid(axis="x", color="0.93")
            axis.tick_params(labelsize=7.5)
            axis.locator_params(axis="x", nbins=4)
            axis.spines[["top", "right"]].set_visible(False)
            if plan is PLANS[-1]:
                axis.set_xlabel(label, fontsize=8)
        row[0].set_title(f"{plan.dose_mg:.1f} mg {plan.days_on}/28", fontsize=9, loc="left")
        row[0].set_yticks(np.arange(len(structures)), labels, fontsize=7)
        row[0].set_ylim(len(structures) - 0.4, -0.6)
    figure.suptitle(
        "Predictions by structure (stacking weight): median and 90 % interval\n"
        "hollow marks: extrapolated, rests on priors and structure; no reported number constrains it",
        fontsize=9.5,
    )
    save(figure, path)
