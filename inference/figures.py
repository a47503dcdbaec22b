"""Figures of a fit: reported against predicted, prior against posterior, traces and ranks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mezikd.model.parameters import Parameter

from . import figures_course as course
from .evidence import Row
from .figures_course import ARM_NAMES, NOTE, day28_recovery, new_figure, save
from .problem import Problem
from .summary import MOVED
from .workers import workers

__all__ = ["day28_recovery", "reported_against_predicted", "write_figures"]

REGION_NAMES = {"usa": "USA", "europe": "Europe", "asia": "Asia", "rest_of_world": "rest of world"}
SHORT = {
    "mezigdomide delayed or paused for neutropenia": "held for neutropenia",
    "mezigdomide dose reduced, any cause": "dose reduced, any cause",
    "duration of grade 3 or 4 neutropenia": "neutropenia duration",
    "relative dose intensity, mezigdomide": "RDI",
    "infection concurrent with grade >=3 neutropenia": "infection with neutropenia",
    "time to onset of grade 3 or 4 infection": "infection onset",
    "death from adverse event or other cause": "death, AE or other",
    "death from progressive disease": "death, progression",
    "stopped for disease progression": "stopped, progression",
    "continuing treatment at data cutoff": "on treatment at cutoff",
    "at least one year of treatment": "treated one year",
    "progression-free survival": "PFS",
    "overall survival": "OS",
}
STATISTICS = {
    "quartile1": ", 1st quartile",
    "quartile2": ", median",
    "quartile3": ", 3rd quartile",
    "median": " median",
    "hazard_ratio": " hazard ratio",
}
INSIDE, OUTSIDE = "#0072b2", "#d55e00"
TRACED, RANK_BINS, COLUMNS = 6, 20, 6
SMOOTHED = 1000
"""Draws of which a density is estimated, at most."""


class _Line(NamedTuple):
    """One line of the check table, ready to draw."""

    panel: str
    label: str
    role: str
    covered: bool
    values: dict[str, float]
    """Reported and predicted numbers in the panel's unit, by column of the table."""
    reaches: bool
    """Whether the reported interval has an upper bound (False: not reached)."""


NUMBERS = ("reported", "low", "high", "predicted", "pi50_low", "pi50_high", "pi90_low", "pi90_high")


def _panel(row: Row) -> str:
    if row.statistic == "count":
        return "patients (% of denominator)"
    if row.statistic == "quartiles" and row.unit in ("percent", "days"):
        return f"{_short(row)} ({'% of planned' if row.unit == 'percent' else row.unit})"
    return {"ratio": "hazard ratio"}.get(row.unit, row.unit)


def _short(row: Row) -> str:
    return SHORT.get(row.outcome, row.outcome).replace("grade 3 or 4", "grade 3-4")


def _label(row: Row, statistic: str) -> str:
    name = _short(row)
    where = REGION_NAMES.get(row.subgroup, ARM_NAMES[row.arm])
    what = STATISTICS.get(statistic, "")
    if row.statistic == "quartiles":
        return f"{name}, {where}{what}"
    return name + what if row.arm == "mezikd_vs_kd" else f"{name}{what}, {where}"


def _lines(table: pd.DataFrame, problem: Problem) -> list[_Line]:
    lines = []
    for cells in table.to_dict("records"):
        row = problem.evidence.find(cells["id"], cells["arm"], cells["subgroup"])
        scale = 100.0 / row.denominator if row.statistic == "count" else 1.0
        values = {c: scale * float(cells[c]) for c in NUMBERS}
        if {"quartile1": "low", "quartile3": "high"}.get(cells["statistic"], "value") in row.not_reached:
            values["reported"] = np.inf
        label = _label(row, cells["statistic"])
        reaches = "high" not in row.not_reached or row.statistic == "quartiles"
        lines.append(_Line(_panel(row), label, cells["role"], bool(cells["covered"]), values, reaches))
    return lines


def _draw_lines(axes: Axes, lines: list[_Line], title: str, limits: tuple[float, float]) -> None:
    edge = limits[1]
    axes.set_xlim(limits)
    for y, line in enumerate(lines):
        v = {k: edge if np.isinf(x) else x for k, x in line.values.items()}
        colour = INSIDE if line.covered else OUTSIDE
        axes.plot([v["pi90_low"], v["pi90_high"]], [y, y], color=colour, lw=1.6, alpha=0.75, solid_capstyle="butt")
        axes.plot([v["pi50_low"], v["pi50_high"]], [y, y], color=colour, lw=5, alpha=0.55, solid_capstyle="butt")
        if np.isinf(line.values["pi90_high"]):
            axes.plot(edge, y, ">", color=colour, ms=6, clip_on=False)
            axes.annotate(
                "not reached", (edge, y), (4, -8), textcoords="offset points", ha="right", va="center",
                color=colour, fontsize=7,
            )  # fmt: skip
        if not np.isnan(v["low"]):
            high = v["high"] if line.reaches and not np.isnan(v["high"]) else edge
            axes.plot([v["low"], high], [y - 0.3, y - 0.3], "|-", color="black", lw=0.9, ms=4, clip_on=False)
            if not line.reaches:
                axes.plot(edge, y - 0.3, ">", color="black", ms=4.5, clip_on=False)
        height = y if np.isnan(v["low"]) else y - 0.3
        marker = ">" if np.isinf(line.values["reported"]) else "D"
        fill = "black" if line.covered else OUTSIDE
        axes.plot(v["reported"], height, marker, ms=3.6, color=fill, mec="black", mew=0.6)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=7.5)
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_color("black" if line.covered else OUTSIDE)
    axes.set_ylim(len(lines) - 0.4, -0.8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=8.5, loc="left", pad=3)


def _limits(lines: list[_Line]) -> tuple[float, float]:
    x = np.array([v for line in lines for v in line.values.values()])
    x = x[np.isfinite(x)]
    low, high = float(x.min(initial=0.0 if len(x) == 0 else np.inf)), float(x.max(initial=1e-9))
    span = high - low
    # Numbers far from zero fill the panel; the others start there.
    return (low - 0.06 * span if low > 0.25 * high else 0.0), high + 0.06 * span


def reported_against_predicted(table: pd.DataFrame, problem: Problem, path: Path) -> None:
    """Draw every line of check.csv: the reported number on its 50 and 90 % posterior predictive intervals.

    Fitted numbers left, unfitted ones right; one sub-panel a unit; counts as percent of their denominators.
    """
    lines = _lines(table, problem)
    panels = list(dict.fromkeys(line.panel for line in lines))
    roles = {"fit": "fitted", "check": "not fitted (check)"}
    by_role = {r: [[x for x in lines if x.role == r and x.panel == p] for p in panels] for r in roles}
    tallest = max((sum(len(g) + 2.2 for g in groups if g) for groups in by_role.values()), default=1.0)
    figure = new_figure(0.195 * tallest + 1.1)
    sides = np.ravel(figure.subfigures(1, 2, wspace=0.04, squeeze=False))
    for side, (role, name) in zip(sides, roles.items(), strict=True):
        groups = [(p, g) for p, g in zip(panels, by_role[role], strict=True) if g]
        covered = sum(x.covered for _, g in groups for x in g)
        total = sum(len(g) for _, g in groups)
        side.suptitle(f"{name}: {covered} of {total} inside the 90 % interval", fontsize=10.5)
        used = sum(len(g) + 2.2 for _, g in groups)
        ratios = [len(g) + 1.2 for _, g in groups] + [max(tallest - used, 1e-3)]
        axes = side.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        axes[-1].axis("off")
        for ax, (panel, group) in zip(axes, groups, strict=False):
            _draw_lines(ax, group, panel, _limits(group))
    handles = [
        Line2D([], [], marker="D", ls="", ms=5, color="black", label="reported"),
        Line2D([], [], marker="|", color="black", lw=0.9, label="reported 95 % interval"),
        Line2D([], [], color=INSIDE, lw=5, alpha=0.6, label="50 % predictive"),
        Line2D([], [], color=INSIDE, lw=1.6, label="90 % predictive"),
        Line2D([], [], marker="D", mec="black", color=OUTSIDE, lw=1.6, ms=5, label="outside 90 % interval"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    save(figure, path)


def _density(p: Parameter, z: np.ndarray, standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return parameter values and densities in its own unit from a density over ``z``."""
    x = np.asarray(p.from_standard(z), float)
    return x, standard / np.gradient(x, z)


def _unit(unit: str) -> str:
    return "no unit" if unit == "1" else unit


def prior_posterior(tree: xr.DataTree, problem: Problem, path: Path) -> None:
    """Draw prior and posterior density of each estimated parameter in its own unit."""
    from scipy.stats import gaussian_kde, norm

    draws = np.asarray(tree["unconstrained_posterior"]["z"]).reshape(-1, len(problem.free))
    rows = -(-(len(problem.free) + 1) // COLUMNS)
    figure = new_figure(1.28 * rows + 0.7)
    cells = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, p, z in zip(cells, problem.free, draws.T, strict=False):
        contraction = 1.0 - float(z.var())
        driven = contraction < MOVED
        colour = OUTSIDE if driven else INSIDE
        low, high = np.quantile(z, (0.002, 0.998))
        grid = np.linspace(min(-2.1, low), max(2.1, high), 300)
        x, prior = _density(p, grid, norm.pdf(grid))
        _, posterior = _density(p, grid, gaussian_kde(z[:: -(-len(z) // SMOOTHED)])(grid))
        axes.fill_between(x, prior, color="0.75", alpha=0.7, lw=0)
        axes.fill_between(x, posterior, color=colour, alpha=0.35, lw=0)
        axes.plot(x, posterior, color=colour, lw=1.1)
        star = "*" if p.sure == "assumption" else ""
        axes.set_title(
            f"{p.name}{star}\n{contraction:.2f}{' (prior)' if driven else ''}", pad=2,
            fontsize=6.8 if len(p.name) < 26 else 5.9,
            color=OUTSIDE if driven else "black",
        )  # fmt: skip
        axes.set_xlabel(_unit(p.unit), fontsize=6.8, labelpad=1)
        axes.set_yticks([])
        axes.set_ylim(0, None)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(labelsize=6.8, length=2, pad=1)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in cells[len(problem.free) :]:
        axes.axis("off")
    handles = [
        Patch(color="0.75", label="prior"),
        Patch(color=INSIDE, alpha=0.5, label="posterior"),
        Patch(color=OUTSIDE, alpha=0.5, label=f"(prior): contraction below {MOVED:g}"),
        Line2D([], [], ls="", marker="$*$", color="black", label="prior is an assumption: no outside source"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(
        f"Prior and posterior densities; number: contraction, 1 - posterior / prior variance.\n{NOTE}",
        fontsize=9,
    )
    save(figure, path)


def trace_rank(tree: xr.DataTree, path: Path) -> None:
    """Draw traces and rank histograms of the parameters with the lowest bulk effective sample size."""
    import arviz as az
    from scipy.stats import rankdata

    posterior = tree["posterior"].to_dataset()
    ess = {str(k): float(v) for k, v in az.ess(posterior, method="bulk").items()}
    names = sorted(ess, key=lambda k: ess[k] if np.isfinite(ess[k]) else -1.0)[:TRACED]
    figure = new_figure(1.45 * len(names) + 0.6)
    cells = figure.subplots(len(names), 2, squeeze=False, sharex="col")
    for (trace, rank), name in zip(cells, names, strict=True):
        x = posterior[name].values
        order = rankdata(x).reshape(x.shape)
        bins = np.linspace(0.5, x.size + 0.5, RANK_BINS + 1)
        for chain, (values, ranks) in enumerate(zip(x, order, strict=True)):
            trace.plot(np.arange(len(values)), values, lw=0.6, alpha=0.8, color=f"C{chain % 10}")
            rank.stairs(
                np.histogram(ranks, bins)[0],
                bins,
                baseline=None,
                color=f"C{chain % 10}",
                lw=1.1,
                label=f"chain {chain + 1}",
            )
        rank.axhline(x.shape[1] / RANK_BINS, color="black", lw=0.8, ls="--", label="if mixed")
        trace.set_title(f"{name}: bulk ESS {ess[name]:.0f}", fontsize=8.5, loc="left", pad=3)
        trace.set_ylabel(_unit(str(posterior[name].attrs.get("unit", ""))), fontsize=8)
        rank.set_ylabel("draws", fontsize=8)
        rank.set_ylim(0, None)
        for axes in (trace, rank):
            axes.tick_params(labelsize=7.5)
            axes.spines[["top", "right"]].set_visible(False)
    cells[-1, 0].set_xlabel("draw", fontsize=8.5)
    cells[-1, 1].set_xlabel(f"rank among all {posterior[names[0]].size} draws", fontsize=8.5)
    handles, labels = cells[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle("Traces and ranks of the parameters that mix slowest", fontsize=10.5)
    save(figure, path)


def write_figures(tree: xr.DataTree, problem: Problem, table: pd.DataFrame, folder: Path) -> None:
    """Write the figures of a fit as PNG into ``folder``, which exists; each file appears only when complete.

    Parameters
    ----------
    tree: the fit.
    problem: what it fitted.
    table: its check.csv.
    """
    with workers(1) as pool:  # the model is computed while others are drawn
        quantiles = pool.submit(course.anc_quantiles, course.thinned(tree, course.ANC_DRAWS), problem)
        expectations = pool.submit(course.trial_expectations, tree, problem)
        reported_against_predicted(table, problem, folder / "reported_against_predicted.png")
        prior_posterior(tree, problem, folder / "prior_posterior.png")
        trace_rank(tree, folder / "trace_rank.png")
        course.anc_course(quantiles.result(), problem, folder / "anc_course.png")
        draws = expectations.result()
    course.infection(problem, draws, folder / "infection.png")
    course.progression_free_survival(problem, draws, folder / "pfs.png")
