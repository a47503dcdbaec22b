"""Figures of scenarios: dose-response, trade-off, differences from the reference, benefit against risk.

Hollow marks are extrapolated, and a figure that has one says so in its title: nobody should read a dose off it unwarned.
"""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .figures_course import ARM_COLOURS, new_figure, save
from .prediction_outcomes import FEBRILE, NEUTROPENIA, PFS, PFS_MEAN, SEVERE
from .prediction_summary import shown_month, shown_probability
from .scenarios import CONTROL, NamedScenario, Request

NAMES = ("dose_response.png", "trade_off.png", "differences.png", "benefit_risk.png")
WARNING = "extrapolated: rests on priors, no reported number constrains it"
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#666666", "#8c6d31")
"""Of scenarios; Kd has the arm's colour of every other figure."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABEL_WIDTH = 30
SHOWN = {
    NEUTROPENIA: "neutropenia grade ≥3",
    FEBRILE: "febrile neutropenia",
    SEVERE: "infection grade ≥3",
    PFS: "PFS",
    PFS_MEAN: "mean PFS time",
}


def _title(figure: Figure, text: str, extrapolated: bool) -> None:
    figure.suptitle(f"{text}\nhollow marks: {WARNING}" if extrapolated else text, fontsize=9.5)


def _label(name: str) -> str:
    return textwrap.fill(name, LABEL_WIDTH)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _mark(axes: Axes, x: float, y: float, colour: str, marker: str, extrapolated: bool, size: float = 6.0) -> None:
    fill = "white" if extrapolated else colour
    axes.plot(x, y, marker, ms=size, color=colour, mfc=fill, mec=colour, mew=1.3, zorder=4, clip_on=False)


def _interval(axes: Axes, at: float, line: pd.Series, colour: str, vertical: bool) -> None:
    """Draw the 90 % interval thin and the 50 % interval thick."""
    for low, high, width, alpha in (("pi90_low", "pi90_high", 1.2, 0.7), ("pi50_low", "pi50_high", 4.0, 0.45)):
        ends, fixed = [line[low], line[high]], [at, at]
        x, y = (fixed, ends) if vertical else (ends, fixed)
        axes.plot(x, y, color=colour, lw=width, alpha=alpha, solid_capstyle="butt", zorder=2)


def _at(table: pd.DataFrame, outcome: str, month: int) -> pd.DataFrame:
    """Return the lines of one outcome and month, by scenario."""
    found = table[(table["outcome"] == outcome) & (table["month"] == month)]
    return found.set_index("scenario")


def _but_dose(s: NamedScenario) -> tuple:
    """Return what a scenario is apart from its dose."""
    r = s.scenario
    return r.regimen.days_on, r.regimen.cycle_days, r.rdi, r.rules, r.gcsf, s.regions


def _curve_name(names: list[str]) -> str:
    """Return what the names of a curve's scenarios share, without the dose."""
    words = [n.replace(" mg ", " mg_").split(" ") for n in names]
    if any("_" not in w[1] if len(w) > 1 else True for w in words):
        return names[-1]
    return names[-1].split(" mg ", 1)[1]


def dose_curves(request: Request) -> list[list[NamedScenario]]:
    """Return the groups of scenarios that differ in dose alone, each by ascending dose, at least two."""
    groups: dict[tuple, list[NamedScenario]] = {}
    for s in request.scenarios:
        groups.setdefault(_but_dose(s), []).append(s)
    curves = [sorted(g, key=lambda s: s.scenario.regimen.dose_mg) for g in groups.values()]
    return [g for g in curves if len({s.scenario.regimen.dose_mg for s in g}) > 1]


def dose_response(request: Request, table: pd.DataFrame, path: Path) -> None:
    """Draw neutropenia, infection and PFS against dose with 50 and 90 % intervals; Kd at dose 0."""
    curves = dose_curves(request)
    outcomes = [o for o in (NEUTROPENIA, SEVERE, PFS) if (table["outcome"] == o).any()]
    figure = new_figure(4.0 + 0.16 * len(curves))
    cells = figure.subplots(1, len(outcomes), squeeze=False)[0]
    doses = sorted({s.scenario.regimen.dose_mg for g in curves for s in g})
    step = 0.16 * min(np.diff([0.0, *doses]))
    for axes, outcome in zip(cells, outcomes, strict=True):
        month = shown_month(table, outcome)
        lines = _at(table, outcome, month)
        control = lines.loc[CONTROL]
        _interval(axes, 0.0, control, ARM_COLOURS["kd"], vertical=True)
        _mark(axes, 0.0, control["median"], ARM_COLOURS["kd"], "D", bool(control["extrapolated"]), 5.0)
        for i, group in enumerate(curves):
            colour, marker = _style(i)
            x = np.array([s.scenario.regimen.dose_mg for s in group])
            x = x + step * (i - (len(curves) - 1) / 2.0) / max(len(curves) - 1, 1)
            axes.plot(
                x, [lines.loc[s.name, "median"] for s in group], color=colour, lw=1.0, ls="--", alpha=0.6, zorder=1
            )
            for at, s in zip(x, group, strict=True):
                line = lines.loc[s.name]
                _interval(axes, at, line, colour, vertical=True)
                _mark(axes, at, line["median"], colour, marker, bool(line["extrapolated"]))
        axes.set_title(f"{SHOWN[outcome]} {'at' if outcome == PFS else 'by'} month {month}", fontsize=9)
        axes.set_xlabel("planned dose, mg", fontsize=8.5)
        axes.set_ylabel("patients, %", fontsize=8.5)
        axes.set_xticks([0.0, *doses], ["Kd", *(f"{d:g}" for d in doses)])
        axes.set_ylim(0, None)
        axes.set_xlim(-step, max(doses) + 2 * step)
        _tidy(axes)
    handles = [Line2D([], [], marker="D", ls="", color=ARM_COLOURS["kd"], label="Kd")]
    for i, group in enumerate(curves):
        colour, marker = _style(i)
        name = _curve_name([s.name for s in group])
        handles.append(Line2D([], [], marker=marker, color=colour, mfc="white", label=name))
    _legend(figure, handles, len(handles) + 2)
    _title(figure, "Dose and outcome: posterior median, 50 and 90 % interval", bool(table["extrapolated"].any()))
    save(figure, path)


def _style(i: int) -> tuple[str, str]:
    return COLOURS[i % len(COLOURS)], MARKERS[(i // len(COLOURS) + i) % len(MARKERS)]


def _legend(figure: Figure, handles: list, total: int) -> None:
    handles = [
        *handles,
        Line2D([], [], color="black", lw=4, alpha=0.45, label="50 % interval"),
        Line2D([], [], color="black", lw=1.2, alpha=0.7, label="90 % interval"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(total, 3), fontsize=8, frameon=False)


def trade_off(request: Request, table: pd.DataFrame, path: Path) -> None:
    """Draw PFS against severe infection: a scenario is a point with its intervals as a cross."""
    benefit = PFS if (table["outcome"] == PFS).any() else PFS_MEAN
    months = [shown_month(table, o) for o in (SEVERE, benefit)]
    x, y = (_at(table, o, m) for o, m in zip((SEVERE, benefit), months, strict=True))
    names = list(dict.fromkeys(table["scenario"]))
    figure = new_figure(max(4.6, 0.27 * len(names) + 1.2))
    axes, key = figure.subplots(1, 2, width_ratios=[3.2, 1.0])
    key.axis("off")
    handles = []
    for i, name in enumerate(names):
        colour, marker = (ARM_COLOURS["kd"], "D") if name == CONTROL else _style(i)
        a, b = x.loc[name], y.loc[name]
        extrapolated = bool(a["extrapolated"] or b["extrapolated"])
        _interval(axes, b["median"], a, colour, vertical=False)
        _interval(axes, a["median"], b, colour, vertical=True)
        size = 9.5 - 4.5 * i / max(len(names) - 1, 1)  # a later mark on an earlier one leaves both visible
        _mark(axes, a["median"], b["median"], colour, marker, extrapolated, size)
        handles.append(
            Line2D(
                [], [], marker=marker, ls="", color=colour, mfc="white" if extrapolated else colour, label=_label(name)
            )
        )
    axes.set_xlabel(f"{SHOWN[SEVERE]} by month {months[0]}, % of patients (lower is better)", fontsize=9)
    unit = "% of patients" if benefit == PFS else "months"
    axes.set_ylabel(f"{SHOWN[benefit]} at month {months[1]}, {unit} (higher is better)", fontsize=9)
    axes.grid(color="0.93", lw=0.6)
    axes.set_axisbelow(True)
    _tidy(axes)
    key.legend(handles=handles, loc="upper left", borderaxespad=0.0, fontsize=8, frameon=False)
    flagged = bool(x["extrapolated"].any() or y["extrapolated"].any())
    _title(figure, "PFS against severe infection: median, 50 and 90 % interval in each direction", flagged)
    save(figure, path)


def _forest(axes: Axes, lines: pd.DataFrame, names: list[str], probability: str) -> None:
    axes.axvline(0.0, color="0.4", lw=0.8, zorder=0)
    for y, name in enumerate(names):
        line = lines.loc[name]
        colour = ARM_COLOURS["kd"] if name == CONTROL else COLOURS[0]
        _interval(axes, y, line, colour, vertical=False)
        _mark(axes, line["median"], y, colour, "D" if name == CONTROL else "o", bool(line["extrapolated"]), 5.0)
        axes.annotate(
            shown_probability(float(line[probability])),
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
        )
    axes.annotate("P", (1.02, -0.85), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, style="italic")
    axes.set_yticks(range(len(names)), [])
    axes.set_ylim(len(names) - 0.4, -1.2)
    axes.grid(axis="y", color="0.93", lw=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=4)
    _tidy(axes)


def _height(names: list[str]) -> float:
    return 0.33 * sum(1 + _label(n).count("\n") * 0.45 for n in names) + 1.9


def forest(request: Request, differences: pd.DataFrame, path: Path) -> None:
    """Draw each scenario's difference from the reference, paired within draws, with P(better)."""
    names = list(dict.fromkeys(differences["scenario"]))
    outcomes = [o for o in (NEUTROPENIA, FEBRILE, SEVERE, PFS, PFS_MEAN) if (differences["outcome"] == o).any()]
    figure = new_figure(_height(names))
    cells = figure.subplots(1, len(outcomes), squeeze=False)[0]
    for axes, outcome in zip(cells, outcomes, strict=True):
        month = shown_month(differences, outcome)
        lines = _at(differences, outcome, month)
        _forest(axes, lines, names, "p_better")
        way = "right" if lines["better_if"].iloc[0] == "higher" else "left"
        unit = "months" if outcome == PFS_MEAN else "points of %"
        axes.set_title(f"{textwrap.fill(SHOWN[outcome], 14)}\nmonth {month}", fontsize=8.5)
        axes.set_xlabel(f"{unit}\n(better: {way})", fontsize=8)
    cells[0].set_yticks(range(len(names)), [_label(n) for n in names], fontsize=8)
    title = f"Difference from {request.reference}, median with 50 and 90 % interval; P: probability that the scenario is better"
    _title(figure, title, bool(differences["extrapolated"].any()))
    save(figure, path)


def benefit_risk(request: Request, utility: pd.DataFrame, path: Path) -> None:
    """Draw each scenario's expected utility minus the reference's; the weights stand in the title."""
    shown = utility[utility["scenario"] != request.reference]
    ends = {c: shown[f"difference_{c}"] for c in ("pi50_low", "pi50_high", "pi90_low", "pi90_high")}
    shown = shown.assign(median=shown["difference"], **ends)
    names = list(shown["scenario"])
    figure = new_figure(_height(names))
    axes = figure.subplots()
    _forest(axes, shown.set_index("scenario"), names, "p_better")
    axes.set_yticks(range(len(names)), [_label(n) for n in names], fontsize=8)
    axes.locator_params(axis="x", nbins=8)
    u, month = request.utility, int(utility["month"].iloc[0])
    axes.set_xlabel(f"difference in utility up to month {month} (better: right)", fontsize=8.5)
    title = (
        f"Utility minus that of {request.reference}, median with 50 and 90 % interval; P: probability of more\n{u.pfs_month:g} a month of PFS, "
        f"{u.severe_infection:g} a severe infection, {u.febrile_neutropenia:g} a febrile neutropenia: weights of the user, no advice"
    )
    _title(figure, title, bool(utility["extrapolated"].any()))
    save(figure, path)


def write_figures(
    request: Request, table: pd.DataFrame, differences: pd.DataFrame, utility: pd.DataFrame, folder: Path
) -> None:
    """Write the figures that the scenarios allow into ``folder``, which exists: the dose-response where doses vary."""
    if dose_curves(request):
        dose_response(request, table, folder / "dose_response.png")
    trade_off(request, table, folder / "trade_off.png")
    forest(request, differences, folder / "differences.png")
    benefit_risk(request, utility, folder / "benefit_risk.png")
