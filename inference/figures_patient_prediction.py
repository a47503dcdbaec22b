"""Figure of one patient: data, fit and forecast."""

from pathlib import Path

import numpy as np
from mezikd.model.regimen import DAYS_PER_MONTH

from .figures_course import new_figure, save
from .figures_patients import BLUE, LABEL, RED, log_axis
from .patient_regimen import THRESHOLDS, Predicted

NAME = "patient.png"
BEFORE = 120.0
"""Days of the history that are shown, at most: more would press the forecast together."""
LOWEST = 0.02
RISKS = {"severe_infection": "P(severe infection)", "progression_free": "P(alive without progression)"}


def draw_prediction(predicted: Predicted, path: Path) -> None:
    """Draw a panel a scenario of counts and ANC, and the probabilities of events by month below where there are any."""
    p, now, risks = predicted.proposal, predicted.now, predicted.forecasts[0].risks
    n = len(predicted.forecasts)
    figure = new_figure(2.4 * n + (2.2 if risks else 0.4))
    grid = figure.add_gridspec(n + bool(risks), max(len(risks), 1))
    first = None
    end = now + DAYS_PER_MONTH * p.months
    begin = max(0.0, now - BEFORE, min(predicted.forecasts[0].days[0], now))
    for row, f in enumerate(predicted.forecasts):
        axis = first = figure.add_subplot(grid[row, :], sharey=first)
        shown = (f.days >= begin) & (f.days <= end)
        t = f.days[shown]
        colour = RED if f.extrapolated else BLUE
        for x, alpha in ((f.count, 0.13), (f.anc, 0.3)):
            x = np.maximum(x[:, shown], LOWEST)
            low, high = np.quantile(x, [0.05, 0.95], axis=0)
            axis.fill_between(t, low, high, color=colour, alpha=alpha, lw=0)
        low, high = np.quantile(np.maximum(f.anc[:, shown], LOWEST), [0.25, 0.75], axis=0)
        axis.fill_between(t, low, high, color=colour, alpha=0.4, lw=0)
        axis.plot(t, np.median(np.maximum(f.anc[:, shown], LOWEST), axis=0), color=colour, lw=1.2)
        seen = predicted.seen[:, predicted.seen[0] >= begin]
        axis.plot(*seen, "o", color="black", ms=3)
        axis.axvline(now, color="0.3", lw=0.8, ls="--")
        for threshold in THRESHOLDS:
            axis.axhline(threshold, color="0.6", lw=0.6, ls=":")
        if end > predicted.followed:
            axis.axvspan(max(predicted.followed, begin), end, color="0.5", alpha=0.15, lw=0)
        log_axis(axis)
        axis.set_title(
            f"{f.scenario}{' (* a dose not taken before: extrapolated)' if f.extrapolated else ''}",
            fontsize=8.5,
            loc="left",
        )
        axis.set_xlim(begin, end)
        axis.set_ylabel(LABEL["anc"], fontsize=8)
        axis.tick_params(labelsize=7.5)
        axis.spines[["top", "right"]].set_visible(False)
    if first is not None:
        grey = "; grey: beyond the longest follow-up of the fit, extrapolated" if end > predicted.followed else ""
        first.set_xlabel(f"day; dashed: end of the data; dotted: grades 3 and 4{grey}", fontsize=8)
    for column, name in enumerate(risks):
        axis = figure.add_subplot(grid[n, column])
        for k, f in enumerate(predicted.forecasts):
            x = f.risks[name]
            month = np.arange(1, x.shape[1] + 1) + 0.12 * (k - 0.5)
            low, high = np.quantile(x, [0.05, 0.95], axis=0)
            mean = x.mean(axis=0)
            colour = "0.4" if k else RED if f.extrapolated else BLUE
            axis.errorbar(
                month, mean, np.abs(np.stack([mean - low, high - mean])), fmt="s" if k else "o", ms=3, lw=1, color=colour,
                label=f.scenario,
            )  # fmt: skip
        if end > predicted.followed:
            axis.axvspan(
                max(0.5, (predicted.followed - now) / DAYS_PER_MONTH), p.months + 0.5, color="0.5", alpha=0.15, lw=0
            )
            axis.set_xlim(0.5, p.months + 0.5)
        axis.set_ylim(0.0, 1.0)
        axis.set_xlabel("months from the end of the data", fontsize=8)
        axis.set_ylabel(RISKS[name], fontsize=8)
        axis.tick_params(labelsize=7.5)
        axis.spines[["top", "right"]].set_visible(False)
        if not column:
            axis.legend(fontsize=7, frameon=False)
    figure.suptitle(
        f"Patient {p.patient}: counts (points), ANC (line, 50 and 90 %), a count (90 %, light); means and 90 % of probabilities"
        if risks else f"Patient {p.patient}: counts (points), ANC (line, 50 and 90 %), a count (90 %, light)",
        fontsize=9,
    )  # fmt: skip
    save(figure, path)
