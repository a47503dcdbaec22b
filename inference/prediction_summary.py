"""summary.md of a prediction: what was asked, the main numbers, what is extrapolated."""

from typing import Any

import numpy as np
import pandas as pd

from .prediction_outcomes import FEBRILE, HAZARD_RATIO, NEUTROPENIA, PFS, PFS_MEAN, SEVERE
from .scenarios import Request

MAIN_MONTH = 12


def shown_probability(p: float) -> str:
    """Return a probability with two digits; with finitely many draws none is certain, not even one without exception."""
    return ">0.99" if p >= 0.995 else "<0.01" if p < 0.005 else f"{p:.2f}"


def shown_month(table: pd.DataFrame, outcome: str) -> int:
    """Return the latest month up to MAIN_MONTH at which ``outcome`` is given, else the first."""
    months = sorted({int(m) for m in table.loc[table["outcome"] == outcome, "month"]})
    return max((m for m in months if m <= MAIN_MONTH), default=months[0])


def _number(x: float) -> str:
    if np.isnan(x):
        return "unknown"
    return "not reached" if np.isinf(x) else f"{x:.3g}"


def _cell(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    median, low, high = (_number(float(line[c])) for c in ("median", "pi90_low", "pi90_high"))
    return f"{median} ({low} to {high}){' *' if line['extrapolated'] else ''}"


def main_outcomes(table: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Return (outcome, month, heading) of the numbers that the summary and figures show."""
    wanted = [
        (NEUTROPENIA, "neutropenia grade >=3 by month {m}, %"),
        (FEBRILE, "febrile neutropenia by month {m}, %"),
        (SEVERE, "infection grade >=3 by month {m}, %"),
        ("relative dose intensity, median", "median RDI, %"),
        (PFS, "PFS at month {m}, %"),
        ("PFS, median", "median PFS, months"),
        (PFS_MEAN, "mean PFS time up to month {m}, months"),
        (HAZARD_RATIO, "PFS hazard ratio against Kd"),
    ]
    out = []
    for outcome, heading in wanted:
        if (table["outcome"] == outcome).any():
            month = shown_month(table, outcome)
            out.append((outcome, month, heading.format(m=month)))
    return out


def _find(table: pd.DataFrame, scenario: str, outcome: str, month: int) -> dict[str, Any] | None:
    found = pd.DataFrame(
        table[(table["scenario"] == scenario) & (table["outcome"] == outcome) & (table["month"] == month)]
    )
    return next(iter(found.to_dict(orient="records")), None)


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (header, ["---"] * len(header), *rows)
    ]


def summary_text(
    request: Request, table: pd.DataFrame, differences: pd.DataFrame, utility: pd.DataFrame, origin: str
) -> str:
    """Return summary.md; ``origin`` says which structures the predictions come from."""
    p, u = request.prediction, request.utility
    names = list(dict.fromkeys(table["scenario"]))
    outcomes = main_outcomes(table)
    rows = [[name, *(_cell(_find(table, name, o, m)) for o, m, _ in outcomes)] for name in names]
    compared = [name for name in names if name != request.reference]
    paired = []
    for name in compared:
        cells = [name]
        for outcome, month, _ in outcomes:
            line = _find(differences, name, outcome, month)
            better = (
                ""
                if line is None or np.isnan(line["p_better"])
                else f"; P(better) {shown_probability(line['p_better'])}"
            )
            cells.append(_cell(line) + better)
        paired.append(cells)
    headings = [h for _, _, h in outcomes]
    balance = []
    for line in utility.to_dict("records"):
        better = "" if np.isnan(line["p_better"]) else shown_probability(line["p_better"])
        numbers = f"{line['utility']:.2f}", f"{line['difference']:+.2f}", better, f"{line['p_best']:.2f}"
        balance.append([line["scenario"], *numbers])
    share = float(table["extrapolated"].mean())
    above = [
        f"**Above the studied range** (up to {request.fitted.highest_mg:g} mg): {', '.join(request.above_range)}.",
        "",
    ]
    return "\n".join(
        [
            "# What if",
            "",
            origin,
            "",
            f"{len(names)} scenarios, Kd among them; {p.draws} posterior draws x {p.patients} simulated patients x "
            f"{p.horizon_months} months; seed {p.seed}. Reference: {request.reference}.",
            "",
            f"**\\* extrapolated** ({100.0 * share:.0f} % of the numbers): no reported number constrains it. It rests on "
            "priors of the drug class and on the model's structure, and is no ground for a dose.",
            "",
            *(above if request.above_range else []),
            "Median and 90 % interval of the population quantity (not of a trial of some size); the noise of finitely many "
            "simulated patients is taken out of the intervals, and `mc_error` in the tables says how far a median may be off "
            "for it. Neutropenia and infection are counted up to 28 days after treatment, as shares of all patients.",
            "",
            *_markdown(["scenario", *headings], rows),
            "",
            f"## Differences from {request.reference}",
            "",
            "Within posterior draws, in the same simulated patients. P(better): posterior probability that the scenario is "
            "better for the patient in this outcome. Where the structure of the model fixes a direction (more drug, more "
            "effect), P is near 0 or 1 by construction. The Monte Carlo error of a difference is inside P.",
            "",
            *_markdown(["scenario", *headings], paired),
            "",
            "## Benefit against risk",
            "",
            f"Utility per patient up to month {int(utility['month'].iloc[0])} = {u.pfs_month:g} x months of PFS (restricted "
            f"mean) {u.severe_infection:+g} x P(infection grade >=3) {u.febrile_neutropenia:+g} x P(febrile neutropenia). "
            "The default weights are arbitrary: set your own under [utility]. Febrile neutropenia was not fitted, and the "
            "model overstates it in the trial (check.csv).",
            "",
            *_markdown(["scenario", "utility", "difference", "P(better than reference)", "P(best)"], balance),
            "",
            "Files: predictions.csv, differences.csv, benefit_risk.csv (every number), scenarios.toml (what was simulated; "
            "`mezikd predict --scenarios scenarios.toml` runs it again), figures/.",
            "",
        ]
    )
