"""Lines of the report's tables, ready to print: reported numbers, reported against predicted, parameters."""

import math

import pandas as pd
from markupsafe import Markup

from .evidence import Row
from .figures import REGION_NAMES, STATISTICS
from .figures_course import ARM_NAMES
from .problem import Problem

INTERVALS = {"ci95": "95 % CI", "iqr": "IQR", "sd": "± SD", "sem": "± SEM", "none": ""}
ROLES = {"fit": "fitted", "check": "not fitted"}
STRIP_WIDTH, STRIP_HEIGHT = 120.0, 14.0


def number(x: float) -> str:
    """Return ``x`` with three significant digits, in words where it is infinite, a dash where it is missing."""
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "not reached"
    if 1e3 <= abs(x) < 1e7:
        return f"{x:.0f}"
    return f"{x:.3g}"


def who(row: Row) -> str:
    """Return the patients of a reported row in words."""
    region = f", {REGION_NAMES[row.subgroup]}" if row.subgroup in REGION_NAMES else ""
    return ARM_NAMES[row.arm] + region


def _unit(row: Row) -> str:
    return {"ratio": "", "percent": "\u00a0%"}.get(row.unit, f" {row.unit}")


def reported(row: Row) -> str:
    """Return a reported row as a publication prints it."""
    if row.statistic == "count":
        return f"{row.value:.0f} of {row.denominator:.0f} ({100.0 * row.value / row.denominator:.1f}\u00a0%)"
    parts = {k: "not reached" if k in row.not_reached else f"{getattr(row, k):g}" for k in ("value", "low", "high")}
    text = ("median " if row.statistic == "quartiles" else "") + parts["value"] + _unit(row)
    if row.interval == "none":
        return text
    return f"{text} ({INTERVALS[row.interval]} {parts['low']} to {parts['high']})"


def evidence_lines(problem: Problem) -> list[dict]:
    """Return one dict a reported row: outcome, who, reported, role, where."""
    names = {"median": " (median)", "hazard_ratio": " (hazard ratio)", "survival_probability": " (probability)"}
    return [
        {
            "outcome": r.outcome + names.get(r.statistic, ""), "who": who(r), "reported": reported(r), "role": r.role,
            "where": r.where,
        }
        for r in problem.evidence.rows
    ]  # fmt: skip


def strip(reported: float, quantiles: dict[str, float]) -> Markup:
    """Return a small picture of one number on its predictive intervals, hidden from readers aloud.

    The numbers stand beside it in the table. Its scale is its own: the 90 % interval in the middle half, or as far as the
    reported number asks for.
    """
    q = {k: min(v, 1e9) for k, v in quantiles.items()}
    inner = [q["pi90_low"], q["pi90_high"]]
    seen = [x for x in (*inner, reported) if math.isfinite(x) and x < 1e9] or [0.0]
    margin = 0.5 * (inner[1] - inner[0]) if inner[1] < 1e9 else max(seen) - min(seen)
    margin = margin or 0.1 * abs(inner[0]) or 1.0
    begin, end = min(seen) - margin, max(seen) + margin

    def x(value: float) -> float:
        return round(STRIP_WIDTH * min(max((value - begin) / (end - begin), 0.0), 1.0), 1)

    middle, d = STRIP_HEIGHT / 2, 4.0
    low, high, half, most = (x(q[k]) for k in ("pi90_low", "pi90_high", "pi50_low", "pi50_high"))
    parts = [
        f'<svg class="strip" viewBox="-6 0 {STRIP_WIDTH + 12:g} {STRIP_HEIGHT:g}" aria-hidden="true">',
        f'<line class="axis" x1="0" x2="{STRIP_WIDTH:g}" y1="{middle:g}" y2="{middle:g}"/>',
        f'<line x1="{low:g}" x2="{max(high, low + 1.0):g}" y1="{middle:g}" y2="{middle:g}" stroke-width="2"/>',
        f'<rect x="{half:g}" width="{max(most - half, 1.0):g}" y="{middle - 3.5:g}" height="7"/>',
    ]
    if not math.isnan(reported):
        parts.append(f'<path d="M{x(reported) - d:g} {middle:g} l{d:g} -{d:g} l{d:g} {d:g} l-{d:g} {d:g} z"/>')
    return Markup("".join(parts) + "</svg>")


def check_lines(table: pd.DataFrame, problem: Problem, role: str) -> list[dict]:
    """Return one dict a line of check.csv with ``role``: outcome, who, reported, predicted, interval, strip, covered."""
    lines = []
    for cells in table.loc[table["role"] == role].to_dict(orient="records"):
        row = problem.evidence.find(cells["id"], cells["arm"], cells["subgroup"])
        q = {k: float(cells[k]) for k in ("predicted", "pi50_low", "pi50_high", "pi90_low", "pi90_high")}
        value = float(cells["reported"])
        if {"quartile1": "low", "quartile3": "high"}.get(cells["statistic"], "value") in row.not_reached:
            value = math.inf
        shown, predicted = number(value) + _unit(row), number(q["predicted"])
        if row.statistic == "count":
            n = row.denominator
            shown = f"{value:.0f} of {n:.0f} ({100.0 * value / n:.0f}\u00a0%)"
            predicted = f"{q['predicted']:.0f} ({100.0 * q['predicted'] / n:.0f}\u00a0%)"
        lines.append(
            {
                "outcome": row.outcome + STATISTICS.get(cells["statistic"], ""), "who": who(row), "reported": shown,
                "predicted": predicted, "interval": f"{number(q['pi90_low'])} to {number(q['pi90_high'])}",
                "strip": strip(value, q), "covered": bool(cells["covered"]),
            }
        )  # fmt: skip
    return lines


def parameter_lines(frame: pd.DataFrame) -> list[dict]:
    """Return one dict a parameter: name, meaning, unit, prior, posterior, contraction, driven_by, source, sure."""
    lines = []
    for p in frame.to_dict(orient="records"):

        def interval(which: str, p=p) -> str:
            return f"{number(p[f'{which}_median'])} ({number(p[f'{which}_q05'])} to {number(p[f'{which}_q95'])})"

        fixed = p["driven_by"] == "fixed"
        lines.append(
            {
                "name": p["name"], "meaning": p["meaning"], "unit": "no unit" if p["unit"] == "1" else p["unit"],
                "prior": number(p["prior_median"]) if fixed else interval("prior"),
                "posterior": "" if fixed else interval("posterior"),
                "contraction": "" if fixed else f"{p['contraction']:.2f}", "driven_by": p["driven_by"],
                "source": p["prior_source"], "sure": p["prior_sure"],
            }
        )  # fmt: skip
    return lines
