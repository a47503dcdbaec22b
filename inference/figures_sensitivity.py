"""Figures of a sensitivity analysis: the tornado of assumptions, and which reported number moves what."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from .figures_course import new_figure, save
from .quantities import LOWER, TRIAL

SHOWN = {
    "neutropenia grade >= 3, %": "neutropenia gr. 3-4\n(percentage points)",
    "infection grade >= 3, %": "infection gr. 3-4\n(percentage points)",
    "median RDI, %": "median RDI\n(percentage points)",
    "median PFS, months": "median PFS\n(months)",
    "log hazard ratio of PFS": "hazard ratio of PFS\n(log)",
}
COLOURS = {TRIAL.name: "#0072b2", LOWER.name: "#d55e00"}
PARAMETERS = 20


def tornado_figure(table: pd.DataFrame, path: Path) -> None:
    """Draw the change of each median under each alternative, at both doses; open where weights are not to be trusted."""
    size = {a: float(np.abs(part["shift_in_sd"]).max()) for a, part in table.groupby("assumption")}
    assumptions = sorted(size, key=lambda a: size[a])
    figure = new_figure(0.42 * len(assumptions) + 2.0)
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    by = table.set_index(["quantity", "assumption"]).sort_index()
    for axis, (quantity, label) in zip(axes, SHOWN.items(), strict=True):
        axis.axvline(0.0, color="0.5", lw=0.8)
        for plan, shift in ((TRIAL.name, 0.17), (LOWER.name, -0.17)):
            name = f"{plan}: {quantity}"
            for y, assumption in enumerate(assumptions):
                lines = by.loc[[(name, assumption)]]
                ends = np.append(lines["shift"].to_numpy(float), 0.0)
                axis.plot(
                    [ends.min(), ends.max()],
                    [y + shift] * 2,
                    color=COLOURS[plan],
                    lw=4,
                    alpha=0.35,
                    solid_capstyle="butt",
                )
                for line in lines.to_dict("records"):
                    face = COLOURS[plan] if line["trusted"] else "white"
                    axis.plot(line["shift"], y + shift, "o", ms=4, mfc=face, mec=COLOURS[plan])
        axis.set_xlabel(label, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", color="0.93")
    values = {a: ", ".join(dict.fromkeys(table.query("assumption == @a")["value"])) for a in assumptions}
    axes[0].set_yticks(range(len(assumptions)), [f"{a}\n{values[a]}" for a in assumptions], fontsize=7)
    figure.suptitle("Change of the posterior median under one assumption otherwise", fontsize=11)
    handles = [Line2D([], [], color=c, marker="o", lw=4, alpha=0.8, label=p) for p, c in COLOURS.items()]
    handles[1].set_label(f"{LOWER.name} (extrapolated)")
    handles.append(
        Line2D([], [], color="0.3", marker="o", mfc="white", lw=0, label="weights not to be trusted: size is rough")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    save(figure, path)


def learning_figure(table: pd.DataFrame, quantities: tuple[str, ...], path: Path) -> None:
    """Draw how far each reported number moves the quantities users read and the parameters that numbers move most."""
    wide = table.pivot_table(index="reported", columns="value", values="shift").loc[
        list(dict.fromkeys(table["reported"]))
    ]
    others = [c for c in dict.fromkeys(table["value"]) if c not in quantities]
    most = sorted(others, key=lambda c: -float(np.abs(wide[c].to_numpy(float)).max()))[:PARAMETERS]
    columns = [*quantities, *most]
    limit = 2.0
    figure = new_figure(0.2 * len(wide) + 3.6)
    axis = figure.subplots()
    picture = axis.imshow(wide[columns].to_numpy(float), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    trusted = dict(zip(table["reported"], table["trusted"], strict=True))
    labels = [name.replace("/all", "") + ("" if trusted[name] else " *") for name in wide.index]
    axis.set_yticks(range(len(wide)), labels, fontsize=7)
    axis.set_xticks(range(len(columns)), [c.replace("grade >= 3", "gr. 3-4") for c in columns], rotation=90, fontsize=7)
    axis.axvline(len(quantities) - 0.5, color="black", lw=1)
    axis.set_title(
        "How far each reported number moves the posterior mean (* not to be trusted: size is rough)", fontsize=9
    )
    bar = figure.colorbar(picture, ax=axis, shrink=0.6, extend="both")
    bar.set_label("posterior SDs: with the number less without", fontsize=8)
    save(figure, path)
