"""`mezikd predict FIT --patient ID`: from the posterior of single patients to the forecast of one, written as files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mezikd.model.regimen import DAYS_PER_MONTH
from pydantic import ValidationError

from .arrest_prediction import predict_arrest
from .arrest_settings import ArrestFit
from .errors import input_error, nearest_first
from .figures_patient_prediction import NAME, draw_prediction
from .friberg_prediction import predict_friberg
from .patient_fit import console
from .patient_regimen import DRAWS, THRESHOLDS, VISIT_DAYS, Forecast, Predicted, Proposal
from .patient_settings import PatientFit
from .patient_store import load_patient_fit
from .posterior_file import caution
from .prediction_tables import csv_text
from .processor import keep_memory, keep_programs
from .results_folder import new_results, publish

COLUMNS = [
    "scenario", "patient", "outcome", "day", "cycle", "month", "unit", "median", "pi90_low", "pi90_high", "extrapolated",
    "pi50_low", "pi50_high", "mean",
]  # fmt: skip
MEANING = {
    "severe_infection": "P(first severe infection by then)",
    "progression_free": "P(alive without progression then)",
}
SHOWN_IDS = 20


def run_patient_prediction(posterior: Path, proposal: Proposal, out: Path) -> None:
    """Predict one patient and write predictions.csv, summary.md and figures/patient.png into ``out``.

    Raises
    ------
    InputError: an unknown patient, more draws than the posterior has, or as ``predict_arrest`` and ``predict_friberg``.
    """
    keep_memory()
    keep_programs()
    tree, tables = load_patient_fit(posterior)
    if proposal.patient not in tables.ids:
        known = nearest_first(proposal.patient, tables.ids)
        more = f" and {len(known) - SHOWN_IDS} more" if len(known) > SHOWN_IDS else ""
        raise input_error(
            "--patient", f"{proposal.patient!r} is not in the fit", f"did you mean {known[0]}?",
            allowed=", ".join(sorted(known[:SHOWN_IDS], key=tables.ids.index)) + more,
        )  # fmt: skip
    first = tree["unconstrained_posterior"]["x"]
    kept = first.shape[0] * first.shape[1]
    if (proposal.draws or 0) > kept:
        problem = f"value {proposal.draws} is more than the posterior's {kept}"
        raise input_error("--draws", problem, "ask for fewer, or fit with more", allowed=f"20 to {kept}")
    number = proposal.draws or min(DRAWS, kept)
    proposal, draws = replace(proposal, draws=number), np.linspace(0, kept - 1, number).astype(int)
    settings = _settings(posterior, tree.attrs["settings"])
    if isinstance(settings, ArrestFit):
        predicted = predict_arrest(posterior, tree, tables, settings, proposal, draws)
    else:
        predicted = predict_friberg(tree, tables, settings, proposal, draws)
    table = prediction_table(predicted)
    new = new_results(out)
    (new / "predictions.csv").write_text(csv_text(table), "utf-8")
    (new / "summary.md").write_text(summary_text(predicted, table, settings, posterior, caution(tree)), "utf-8")
    draw_prediction(predicted, new / "figures" / NAME)
    publish(out, last="predictions.csv")
    if warning := caution(tree):
        console.print(f"mezikd: warning: {warning}", soft_wrap=True)
    console.print(f"written to {out}: read summary.md first", soft_wrap=True)


def _settings(posterior: Path, text: str) -> ArrestFit | PatientFit:
    for kind in (ArrestFit, PatientFit):
        try:
            return kind.model_validate_json(text)
        except ValidationError:
            continue
    raise input_error(
        posterior, "a fit of another version: its settings are not those that this one reads", "fit again"
    )


def prediction_table(predicted: Predicted) -> pd.DataFrame:
    """Return predictions.csv: quantiles and mean over draws of each outcome; the mean of a probability is the predictive one.

    anc is the course, anc_count a count with its error, by day; P(lowest weekly count of a cycle below a threshold) by cycle;
    events by month. ``day`` is the patient's own in every row.
    """
    lines = []
    for f in predicted.forecasts:
        for outcome, day, cycle, month, unit, x in _outcomes(predicted, f):
            q05, q25, q50, q75, q95 = np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95])
            lines.append(
                {"scenario": f.scenario, "patient": predicted.proposal.patient, "outcome": outcome, "day": day}
                | {"cycle": cycle, "month": month, "unit": unit, "median": q50, "pi90_low": q05, "pi90_high": q95}
                | {"extrapolated": f.extrapolated or day > predicted.followed, "pi50_low": q25, "pi50_high": q75}
                | {"mean": float(np.mean(x))}
            )
    return pd.DataFrame(lines, columns=pd.Index(COLUMNS)).astype({"cycle": "Int64", "month": "Int64"})


def _outcomes(predicted: Predicted, f: Forecast) -> Iterator[tuple[str, float, Any, Any, str, np.ndarray]]:
    p, now = predicted.proposal, predicted.now
    end = now + p.months * DAYS_PER_MONTH
    ahead = np.flatnonzero((f.days > now - 1e-6) & (f.days <= end + 1e-6))
    for outcome, course in (("anc", f.anc), ("anc_count", f.count)):
        for j in ahead:
            yield outcome, float(f.days[j]), pd.NA, pd.NA, "10^9/L", course[:, j]
    for cycle in range(1, int(p.months * DAYS_PER_MONTH // p.cycle_days) + 1):
        last = now + cycle * p.cycle_days
        visits = [
            int(np.argmin(abs(f.days - d))) for d in np.arange(last - p.cycle_days + VISIT_DAYS, last + 1, VISIT_DAYS)
        ]
        for t in THRESHOLDS:
            yield (
                f"count_below_{t:g}",
                last,
                cycle,
                pd.NA,
                "probability",
                1.0 - np.prod(1.0 - f.below[t][:, visits], axis=1),
            )
    for outcome, risk in f.risks.items():
        for month in range(1, risk.shape[1] + 1):
            day = now + month * DAYS_PER_MONTH
            yield outcome, round(day, 3), pd.NA, month, "probability", risk[:, month - 1]


def _priors(settings: ArrestFit | PatientFit, posterior: Path) -> str:
    """Return what of the fit its priors drive: read from parameters.csv beside the posterior where it is there."""
    path = posterior.parent / "parameters.csv"
    driven = "not known: parameters.csv does not lie beside the posterior"
    if path.is_file():
        t = pd.read_csv(path)
        driven = ", ".join(t.loc[t["driven_by"] == "prior", "name"].astype(str)) or "none"
    fixed = (
        "parameters not named in [parameters] are fixed at their declared centre"
        if isinstance(settings, ArrestFit)
        else "fixed, or given by a column: "
        + (", ".join(n for n, p in settings.parameters.items() if not p.prior_sd) or "none")
    )
    return f"Population parameters driven by their priors: {driven}; {fixed}."


def summary_text(
    predicted: Predicted, table: pd.DataFrame, settings: ArrestFit | PatientFit, posterior: Path, warning: str
) -> str:
    """Return summary.md; ``warning`` is ``posterior_file.caution`` of the fit."""
    p = predicted.proposal
    new = [f.scenario for f in predicted.forecasts if f.extrapolated]
    lines = [
        f"# Patient {p.patient} after day {predicted.now:.0f}", "",
        f"{settings.study.name}: {p.draws} draws of the posterior of {posterior.parent.name}, at this patient's own parameters, given "
        f"all of its data; {p.months} months from the end of the data. {predicted.seen.shape[1]} counts are known of this patient.", "",
        *(f"- {n}" for n in ([f"**{warning}**"] if warning else []) + list(predicted.notes)),
        f"- Counts are supposed weekly; a count below a threshold in a cycle is one or more of its {p.cycle_days // VISIT_DAYS}.",
        "- mean: posterior predictive probability. Intervals of probabilities: how well the patient's own is known.", "",
        "## What rests on priors", "", _priors(settings, posterior),
        "What this patient's data do not tell, the other patients' do, and the priors beyond that. A dose that the patient did not "
        "take is extrapolation through the dose-response, whose shape the fit knows from the doses in its tables alone.",
        f"**Extrapolated** (*): {'; '.join(new) if new else 'no scenario, the dose is one that the patient took'}"
        f"; everything after day {predicted.followed:.0f}, the longest follow-up of the fit.", "",
        "A research tool: no medical advice, and not for decisions about a patient.", "",
        "| scenario | outcome | cycle or month | mean | median | 90 % interval |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for r in table.loc[table["unit"] == "probability"].to_dict("records"):
        when = f"cycle {r['cycle']}" if pd.notna(r["cycle"]) else f"month {r['month']}"
        what = MEANING.get(r["outcome"]) or f"P(a count < {r['outcome'].removeprefix('count_below_')})"
        star = " *" if r["extrapolated"] else ""
        lines.append(
            f"| {r['scenario']}{star} | {what} | {when} | {r['mean']:.3f} | {r['median']:.3f} | "
            f"{r['pi90_low']:.3f} to {r['pi90_high']:.3f} |"
        )
    return "\n".join([*lines, "", "Files: predictions.csv (ANC day by day too), figures/patient.png.", ""])
