"""Figures of what the posterior expects: ANC over three cycles, severe infection, progression-free survival.

Bands are posterior intervals of the model's expectation, not of a trial of the real size (as in the check).
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.trial_design import ARMS

from .files import write_whole
from .problem import Problem

ARM_NAMES = {"mezikd": "MeziKd", "kd": "Kd", "both": "both arms", "mezikd_vs_kd": "MeziKd vs Kd"}
ARM_COLOURS = {"mezikd": "#0072b2", "kd": "#d55e00"}
NOTE = "exposure and block rest on priors of the drug class"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DPI, WIDTH = 150, 9.0
ANC_WEEKS, SHOWN_DAYS, CURVE_MONTHS = 13, 84, 24
ANC_DRAWS, TRIAL_DRAWS = 60, 100


def new_figure(height: float, **options: Any) -> Figure:
    """Return an empty figure of the common width, ``height`` in inches."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", **options)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG to ``path``, which appears only when complete; a $ in a user's name is a $."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]
    write_whole(path, lambda part: figure.savefig(part, dpi=DPI, format="png"))


def thinned(tree: xr.DataTree, draws: int) -> np.ndarray:
    """Return at most ``draws`` evenly spaced draws of the coordinates, shape ``(draws, parameter)``."""
    z = np.asarray(tree["unconstrained_posterior"]["z"])
    flat = z.reshape(-1, z.shape[-1])
    return flat[np.linspace(0, len(flat) - 1, min(draws, len(flat))).astype(int)]


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _bands(axes: Axes, x: np.ndarray, draws: np.ndarray, colour: str, label: str) -> None:
    """Draw median, 50 % and 90 % interval of ``draws`` (draw, x)."""
    q05, q25, q50, q75, q95 = np.quantile(draws, QUANTILES, axis=0)
    axes.fill_between(x, q05, q95, color=colour, alpha=0.18, lw=0, label=f"{label}: 90 % interval")
    axes.fill_between(x, q25, q75, color=colour, alpha=0.38, lw=0, label=f"{label}: 50 % interval")
    axes.plot(x, q50, color=colour, lw=1.6, label=f"{label}: median")


def _interval(x: np.ndarray, digits: int, unit: str = "") -> str:
    low, middle, high = np.quantile(x, (0.05, 0.5, 0.95))
    return f"{middle:.{digits}f}{unit} (90 % interval {low:.{digits}f} to {high:.{digits}f}{unit})"


def anc_quantiles(z: np.ndarray, problem: Problem) -> np.ndarray:
    """Return quantiles over patients of latent ANC (10^9/L) at each day's start, every planned dose taken.

    Parameters
    ----------
    z: coordinates, shape ``(draws, parameter)``.

    Returns
    -------
    Shape ``(draws, days, 5)``, at QUANTILES; patients weighted by the regions' shares, count error left out.
    """
    import jax
    import jax.numpy as jnp
    from mezikd.model.course import UNTOUCHED, expected_course
    from mezikd.model.individuals import individuals
    from mezikd.model.parameters import natural
    from mezikd.model.rules import HoldRule

    target = problem.target
    design, cohort = target.design, target.mezikd
    weights, q = jnp.asarray(cohort.weight), jnp.asarray(QUANTILES)

    def across_patients(x):
        order = jnp.argsort(x)
        w = weights[order]
        return jnp.interp(q, jnp.cumsum(w) - 0.5 * w, x[order])

    def one(draw):
        theta = natural(draw, target.parameters)
        rule = HoldRule(theta["hold_grade3"], theta["reduce_after_hold"], theta["sigma_anc"])
        course = expected_course(
            individuals(theta, cohort, design.structure), design.regimen, rule, design.structure, ANC_WEEKS, ANC_WEEKS,
            design.steps_per_day, rdi=1.0,
        )  # fmt: skip
        log_anc = course.seen.log_anc[:, :, UNTOUCHED]
        return jnp.exp(jax.vmap(across_patients)(log_anc.reshape(-1, log_anc.shape[-1])))

    return np.asarray(jax.jit(partial(jax.lax.map, one))(jnp.asarray(z)))


def _recovery(quantiles: np.ndarray, problem: Problem) -> np.ndarray:
    median = quantiles[..., QUANTILES.index(0.5)]
    return median[:, problem.target.design.regimen.cycle_days] / median[:, 0]


def day28_recovery(tree: xr.DataTree, problem: Problem, draws: int = ANC_DRAWS) -> np.ndarray:
    """Return posterior draws of median ANC at the start of cycle 2 (t = 28 days) over median baseline ANC.

    Every planned dose of cycle 1 taken; shape ``(draws,)``.
    """
    return _recovery(anc_quantiles(thinned(tree, draws), problem), problem)


def _phases(median: np.ndarray, days_on: int, cycle_days: int) -> list[tuple[str, float, float]]:
    """Return (name, first day, last day) of the phases of cycle 1; empty where the course has no such phases.

    Silence ends 5 % below baseline, the fall at 15 % of its depth above the floor, the plateau at the low.
    """
    base, floor = median[0], median[: cycle_days + 1].min()
    silent = int(np.argmax(median < 0.95 * base))
    flat = int(np.argmax(median < floor + 0.15 * (base - floor)))
    turn = days_on + int(np.argmin(median[days_on : cycle_days + 1]))
    if not 0 < silent < flat < turn < cycle_days:
        return []
    ends = (0, silent, flat, turn, cycle_days)
    return list(zip(("silence", "fall", "plateau", "recovery"), ends[:-1], ends[1:], strict=True))


def anc_course(quantiles: np.ndarray, problem: Problem, path: Path) -> None:
    """Draw ANC over three cycles on full planned doses: posterior of the median, spread between patients (anc_quantiles)."""
    regimen, days = problem.target.design.regimen, np.arange(SHOWN_DAYS + 1)
    shown = quantiles[:, : SHOWN_DAYS + 1]
    median = shown[..., 2]
    figure = new_figure(7.2)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _bands(upper, days, median, "#0072b2", "population median")
    spread = np.median(shown, axis=0)
    _bands(lower, days, spread.T, "#009e73", "patients")
    lower.collections[0].set_label("middle 90 % of patients")
    lower.collections[1].set_label("middle 50 % of patients")
    lower.lines[0].set_label("median patient")
    for axes in (upper, lower):
        _tidy(axes)
        top = 1.42 * axes.dataLim.y1
        axes.set_ylim(0.0, top)
        axes.set_xlim(0, SHOWN_DAYS)
        for begin in range(0, SHOWN_DAYS, regimen.cycle_days):
            axes.axvspan(begin, begin + regimen.days_on, color="0.93", lw=0, zorder=0)
            axes.text(begin + regimen.days_on / 2, 0.015 * top, "dosing", ha="center", fontsize=8)
        for limit, grade in ((1.0, "grade 3 below"), (0.5, "grade 4 below")):
            axes.axhline(limit, color="0.25", lw=0.9, ls="--")
            at: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
            axes.annotate(f"{grade} {limit:.1f}", (1.005, limit), **at)
        axes.set_ylabel("ANC (10⁹/L)")
        axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=3)
    place = 1.16 * upper.dataLim.y1
    phases = _phases(np.median(median, axis=0), regimen.days_on, regimen.cycle_days)
    for i, (name, begin, end) in enumerate(phases):
        bracket = {"arrowstyle": "|-|,widthA=.25,widthB=.25"}
        upper.annotate("", (begin, place), (end, place), arrowprops=bracket)
        low, middle = i % 2 == 0, 0.5 * (begin + end)
        upper.annotate(
            name, (middle if i else 0.4, place), (0, -5 if low else 5), textcoords="offset points",
            fontsize=8.5, style="italic", ha="center" if i else "left", va="top" if low else "bottom",
        )  # fmt: skip
    recovered = _interval(100.0 * _recovery(quantiles, problem), 0, " %")
    note = f"at day {regimen.cycle_days} of cycle 1: {recovered} of baseline"
    upper.set_title(f"Posterior of the population median; {note}", fontsize=10)
    lower.set_title("Spread between patients (posterior median of each quantile)", fontsize=10)
    lower.set_xlabel("days since the first dose")
    lower.set_xticks(np.arange(0, SHOWN_DAYS + 1, 7))
    planned = f"{regimen.dose_mg:g} mg, {regimen.days_on}/{regimen.cycle_days} days"
    figure.suptitle(f"ANC on treatment, every planned dose taken ({planned})", fontsize=11.5)
    note = f"Note: {NOTE}; so does the shape of this course. Error of a count left out."
    figure.supxlabel(note, fontsize=8.5)
    save(figure, path)


def trial_expectations(tree: xr.DataTree, problem: Problem) -> dict[str, np.ndarray]:
    """Return posterior draws of what the trial's summaries tend to.

    ``infection_<arm>``: recorded first grade >= 3 infections by each week's start, ``(draws, weeks + 1)``;
    ``pfs_<arm>``: progression-free at each week's start, ``(draws, weeks)``; ``median_<arm>``: its median,
    months; ``hazard_ratio``: of progression or death.
    """
    import jax
    import jax.numpy as jnp

    @jax.jit
    def read(e):
        out = {"hazard_ratio": jnp.exp(e.log_hazard_ratio())}
        for arm in ARMS:
            severe = jnp.cumsum(e.of(e.tally.severe, arm))
            out[f"infection_{arm}"] = jnp.concatenate([jnp.zeros(1), severe])
            out[f"pfs_{arm}"] = e.of(e.tally.free, arm)
            out[f"median_{arm}"] = e.pfs_median(arm)
        return out

    draws = [read(problem.target.compiled_expected(z)) for z in jnp.asarray(thinned(tree, TRIAL_DRAWS))]
    return {k: np.stack([np.asarray(d[k]) for d in draws]) for k in draws[0]}


def _legend(axes: Axes, place: Any) -> None:
    """Put the legend at ``place``, one column an arm."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: not labels[i].startswith(ARM_NAMES["mezikd"]))
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    axes.legend(handles, labels, fontsize=8.5, frameon=False, ncols=2, loc=place)


def _curves(axes: Axes, draws: dict[str, np.ndarray], quantity: str) -> None:
    for arm in ARMS:
        y = 100.0 * draws[f"{quantity}_{arm}"]
        months = np.arange(y.shape[1]) * 7.0 / DAYS_PER_MONTH
        shown = months <= CURVE_MONTHS + 0.3
        _bands(axes, months[shown], y[:, shown], ARM_COLOURS[arm], ARM_NAMES[arm])
    _tidy(axes)
    axes.set_xlim(0, CURVE_MONTHS)
    axes.set_xticks(range(0, CURVE_MONTHS + 1, 3))
    axes.set_xlabel("months since randomisation")


def _reported(problem: Problem, outcome: str, statistic: str, arm: str):
    rows = (r for r in problem.evidence.rows if (r.outcome, r.statistic, r.arm) == (outcome, statistic, arm))
    return next((r for r in rows if r.subgroup == "all"), None)


def infection(problem: Problem, draws: dict[str, np.ndarray], path: Path) -> None:
    """Draw the cumulative incidence of grade >= 3 infection beside reported quartiles of onset and totals."""
    figure = new_figure(5.2)
    axes = figure.subplots()
    _curves(axes, draws, "infection")
    for arm in ARMS:
        total = _reported(problem, "infection grade 3 or 4", "count", arm)
        onset = _reported(problem, "time to onset of grade 3 or 4 infection", "quartiles", arm)
        if total is None:
            continue
        percent = 100.0 * total.value / total.denominator
        style: dict[str, Any] = {"color": ARM_COLOURS[arm], "mec": "black"}
        axes.plot(
            CURVE_MONTHS, percent, "D", ms=8, clip_on=False, zorder=5, **style,
            label=f"{ARM_NAMES[arm]}: reported total, {percent:.1f} %",
        )  # fmt: skip
        if onset is not None:
            days = np.array([onset.low, onset.value, onset.high])
            axes.plot(
                days / DAYS_PER_MONTH, percent * np.array([0.25, 0.5, 0.75]), "o", ms=7, zorder=5, **style,
                label=f"{ARM_NAMES[arm]}: reported quartiles of onset",
            )  # fmt: skip
    axes.set_ylim(0, 1.45 * axes.dataLim.y1)
    axes.set_ylabel("patients with a recorded infection (%)")
    title = "Cumulative incidence of grade ≥ 3 infection, on treatment or within 28 days of its end"
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("months since the first dose")
    _legend(axes, "upper left")
    note = f"First infections before data cutoff, as the trial counts them. Note: {NOTE}."
    figure.supxlabel(note, fontsize=8.5)
    save(figure, path)


def progression_free_survival(problem: Problem, draws: dict[str, np.ndarray], path: Path) -> None:
    """Draw progression-free survival beside the reported medians with their 95 % confidence intervals."""
    figure = new_figure(5.2)
    axes = figure.subplots()
    _curves(axes, draws, "pfs")
    axes.axhline(50.0, color="0.4", lw=0.8, ls="--", zorder=1)
    for i, arm in enumerate(ARMS):
        row = _reported(problem, "progression-free survival", "median", arm)
        if row is None or np.isnan(row.value):
            continue
        low, high = np.nan_to_num([row.value - row.low, row.high - row.value], nan=0.0)
        high = CURVE_MONTHS - row.value if "high" in row.not_reached else high
        axes.errorbar(
            row.value, 50.0, xerr=[[low], [high]], fmt="o", ms=7, mec="black", capsize=4, lw=1.5,
            color=ARM_COLOURS[arm], ecolor="black", zorder=5 + i,
            label=f"{ARM_NAMES[arm]}: reported median, 95 % CI",
        )  # fmt: skip
    medians = {arm: _interval(draws[f"median_{arm}"], 1, " months") for arm in ARMS}
    lines = [f"predicted median {ARM_NAMES[arm]}: {text}" for arm, text in medians.items()]
    ratio = _reported(problem, "progression-free survival", "hazard_ratio", "mezikd_vs_kd")
    lines.insert(0, f"hazard ratio predicted: {_interval(draws['hazard_ratio'], 2)}")
    if ratio is not None:
        text = f"{ratio.value:.2f} (95 % CI {ratio.low:.2f} to {ratio.high:.2f})"
        lines.insert(0, f"hazard ratio reported: {text}")
    axes.text(0.015, 0.03, "\n".join(lines), transform=axes.transAxes, fontsize=8.5, va="bottom")
    axes.set_ylim(0, 105)
    axes.set_ylabel("progression-free (%)")
    axes.set_title("Progression-free survival", fontsize=11)
    _legend(axes, "upper right")
    figure.supxlabel(f"Note: {NOTE}; no reported number depends on the dose.", fontsize=8.5)
    save(figure, path)
