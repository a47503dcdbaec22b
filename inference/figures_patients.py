"""Figure of a fit to patients' own data: each patient's fit."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .figures_course import new_figure, save
from .patient_data import PatientData
from .predictive_checks import times

LABEL = {"concentration": "concentration, AMT/L", "anc": "ANC, 10⁹/L"}
SHOWN, COLUMNS = 12, 3
"""Patients in the figure of individual fits, at most."""
BLUE, RED = "#0072b2", "#d55e00"


def log_axis(axis: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers at 1, 2 and 5."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def individual_fits(tree: xr.DataTree, tables: PatientData, folder: Path) -> None:
    """Draw observations, median and 90 % interval of the fitted course and of new observations, a panel a patient."""
    for name in (n for n in ("concentration", "anc") if n in tree["observed_data"]):
        days, observed = times(tables, name), tree["observed_data"][name].to_numpy()
        below = tree["observed_data"][f"{name}_below"].to_numpy()
        fitted, new = (tree[g][name].to_numpy() for g in ("fitted", "posterior_predictive"))
        n = min(SHOWN, len(tables.ids))
        rows = -(-n // COLUMNS)
        figure = new_figure(2.3 * rows + 0.7)
        axes = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for i, axis in enumerate(axes.flat):
            seen = np.isfinite(days[i]) if i < n else np.zeros(0, bool)
            if not seen.any():
                axis.axis("off")
                continue
            t = days[i, seen]
            order = np.argsort(t, kind="stable")
            t = t[order]
            # A single observation has a band of a day.
            at, shown = (t, order) if len(t) > 1 else (t + np.array([-0.5, 0.5]), np.repeat(order, 2))
            for x, alpha in ((new, 0.18), (fitted, 0.45)):
                low, high = np.nanquantile(x[:, i][:, seen][:, shown], [0.05, 0.95], axis=0)
                axis.fill_between(at, low, high, color=BLUE, alpha=alpha, lw=0)
            axis.plot(at, np.nanmedian(fitted[:, i][:, seen][:, shown], axis=0), color=BLUE, lw=1.2)
            y, b = observed[i, seen][order], below[i, seen][order]
            axis.plot(t[~b], y[~b], "o", color="black", ms=2.5)
            axis.plot(t[b], y[b], "v", color=RED, ms=4, mfc="none")
            log_axis(axis)
            axis.set_title(f"patient {tables.ids[i]}", fontsize=8.5)
            axis.tick_params(labelsize=7.5)
            axis.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("days", fontsize=9)
        figure.supylabel(LABEL[name], fontsize=9)
        figure.suptitle(
            f"Fits of {n} of {len(tables.ids)} patients: median, 90 % interval of the course (dark), of an observation (light)"
            + ("; triangles: below the limit" if below.any() else ""), fontsize=9,
        )  # fmt: skip
        save(figure, folder / f"individual_fits_{name}.png")
