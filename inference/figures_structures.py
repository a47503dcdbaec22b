"""Figure of structures: what each predicts under the trial's regimen and two others, side by side."""

from pathlib import Path

import numpy as np
import pandas as pd

from .figures_course import new_figure, save
from .figures_sensitivity import SHOWN
from .quantities import LOWER, SHORTER, TRIAL

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
PLANS = (TRIAL, LOWER, SHORTER)


def structures_figure(table: pd.DataFrame, weights: dict[str, float], path: Path) -> None:
    """Draw medians and 90 % intervals of the main quantities by structure, one row of panels a plan."""
    structures = list(dict.fromkeys(table["structure"]))
    figure = new_figure(0.26 * len(structures) * len(PLANS) + 2.6)
    axes = figure.subplots(len(PLANS), len(SHOWN), sharex="col", sharey=True)
    colours = dict(zip(weights, COLOURS, strict=False))
    labels = [f"{s} ({weights[s]:.2f})" if s in weights else s for s in structures]
    for row, plan in zip(axes, PLANS, strict=True):
        for axis, (quantity, label) in zip(row, SHOWN.items(), strict=True):
            part = table[table["quantity"] == f"{plan.name}: {quantity}"].set_index("structure")
            for y, structure in enumerate(structures):
                line = part.loc[structure]
                colour = colours.get(structure, "black")
                axis.plot([line["pi90_low"], line["pi90_high"]], [y, y], color=colour, lw=2)
                axis.plot(line["median"], y, "o" if structure in weights else "D", color=colour, ms=5)
            axis.grid(axis="x", color="0.93")
            axis.tick_params(labelsize=7)
            if plan is PLANS[-1]:
                axis.set_xlabel(label.replace("percentage points", "%"), fontsize=8)
        note = "" if plan is TRIAL else "\n(extrapolated)"
        row[0].set_ylabel(f"{plan.name}{note}", fontsize=9)
        row[0].set_yticks(np.arange(len(structures)), labels, fontsize=7)
        row[0].set_ylim(len(structures) - 0.4, -0.6)
    figure.suptitle("Predictions by structure (stacking weight): median and 90 % interval", fontsize=11)
    save(figure, path)
