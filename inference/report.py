"""One self-contained HTML page of a fit: question, data, model, diagnostics, check, parameters, scenarios, assumptions.

Everything is computed from the posterior file alone, whatever folder it lies in. The page asks for nothing outside
itself and carries no script; every text from a file is escaped.
"""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import Markup
from rich.console import Console

from . import diagnostics, posterior_file, summary
from .check import check_table
from .problem import Problem
from .report_pictures import fit_pictures
from .report_predictions import read_predictions
from .report_tables import ROLES, check_lines, evidence_lines, parameter_lines
from .results_folder import new_results, publish

REPORT = "report.html"
SECTIONS = {
    "question": "Question",
    "data": "Data",
    "model": "Model",
    "diagnostics": "Diagnostics",
    "check": "Reported against predicted",
    "parameters": "Parameters",
    "scenarios": "Scenarios",
    "assumptions": "Priors and assumptions",
    "reproduce": "Reproduce",
}
SHOWN_FILES = ("fit.toml", "priors.csv")
"""Inputs printed in full; evidence.csv is a table of its own."""
CAPTIONS = {
    "fit": "Numbers that the fit used.",
    "check": "Numbers that the fit did not use.",
}
console = Console(stderr=True, highlight=False, markup=False)


def gate(tree: xr.DataTree, problem: Problem) -> diagnostics.Diagnostics:
    """Return the convergence diagnostics of the saved draws; times that the file does not hold are NaN."""
    stats = tree["sample_stats"]
    energy, steps = np.asarray(stats["energy"]), np.asarray(stats["n_steps"])
    return diagnostics.diagnose(
        tree["posterior"].to_dataset(), energy, np.asarray(stats["diverging"]),
        seconds=float(tree.attrs["seconds"]), gradient_ms=float("nan"), gradients=int(steps.sum()),
        virtual_patients=problem.settings.patients.mezikd, device=str(tree.attrs["device"]), draws=energy.shape[1],
        chains=energy.shape[0], mean_steps=float(steps.mean()), sampling_seconds=float("nan"),
    )  # fmt: skip


def _criteria(d: diagnostics.Diagnostics) -> list[tuple[str, str, str, bool]]:
    total = d.draws * d.chains
    share = d.divergences / total
    return [
        ("R-hat, largest", f"{d.max_rhat:.4f} ({d.worst_parameter})", f"at most {diagnostics.MAX_RHAT}",
         d.max_rhat <= diagnostics.MAX_RHAT),
        ("Effective sample size, bulk, smallest", f"{d.min_ess_bulk:.0f}", f"at least {diagnostics.MIN_ESS:.0f}",
         d.min_ess_bulk >= diagnostics.MIN_ESS),
        ("Effective sample size, tail, smallest", f"{d.min_ess_tail:.0f}", f"at least {diagnostics.MIN_ESS:.0f}",
         d.min_ess_tail >= diagnostics.MIN_ESS),
        ("Divergences", f"{d.divergences} of {total}", f"at most {100 * diagnostics.MAX_DIVERGENT:g} %",
         share <= diagnostics.MAX_DIVERGENT),
        ("E-BFMI, smallest", f"{d.ebfmi_min:.2f}", f"at least {diagnostics.MIN_BFMI}", d.ebfmi_min >= diagnostics.MIN_BFMI),
    ]  # fmt: skip


def _doi(citation: str) -> str:
    """Return a link to the publication; empty where the citation holds no DOI."""
    found = re.search(r"\b10\.\d{4,9}/[^\s\"'<>]+", citation)
    return "https://doi.org/" + quote(found[0].rstrip(".,;"), safe="/()") if found else ""


def _outside(table: pd.DataFrame) -> list[str]:
    out = {}
    for row in table.loc[~table["covered"].astype(bool)].to_dict(orient="records"):
        reason = summary.REASONS.get(row["id"], "not explained yet")
        out.setdefault(f"{row['id']} ({ROLES[row['role']]}): {reason}.", None)
    return list(out)


def _provenance(tree: xr.DataTree, problem: Problem, posterior: Path) -> list[tuple[str, str]]:
    versions = json.loads(str(tree.attrs["versions"]))
    return [
        ("Fitted", f"{tree.attrs['created_at']}, {float(tree.attrs['seconds']):.0f} s, {tree.attrs['device']}"),
        ("Seed", str(tree.attrs["seed"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("evidence.csv, SHA-256", problem.evidence.sha256),
        ("priors.csv, SHA-256", str(tree.attrs["priors_sha256"])),
        ("posterior.nc, SHA-256", hashlib.sha256(posterior.read_bytes()).hexdigest()),
    ]


def render(context: dict[str, Any]) -> str:
    """Return the page; texts in ``context`` are escaped unless they are Markup."""
    folder = resources.files(__package__) / "templates"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    css = Markup((folder / "report.css").read_text("utf-8"))
    course = Markup(environment.get_template("course.svg.jinja").render())
    return environment.get_template("report.html.jinja").render(context, css=css, course=course) + "\n"


def run_report(posterior: Path, out: Path, predictions: Path | None) -> None:
    """Write ``out``/report.html of the fit in ``posterior``, with the predictions of a folder if given."""
    told = None if predictions is None else read_predictions(predictions)
    tree, problem = posterior_file.load(posterior)
    simulated = np.asarray(tree["posterior_predictive"]["reported"])
    simulated = simulated.reshape(-1, *simulated.shape[2:])
    table = check_table(problem.evidence, simulated)
    frame = summary.parameter_table(tree, problem)
    with console.status("figures"):
        pictures = fit_pictures(tree, problem, table)
    page = render(context(tree, problem, table, frame, len(simulated), pictures, posterior) | {"predictions": told})
    (new_results(out) / REPORT).write_text(page, "utf-8")
    publish(out)
    console.print(f"{out / REPORT} ({len(page.encode()) / 1e6:.1f} MB)")


def context(
    tree: xr.DataTree,
    problem: Problem,
    table: pd.DataFrame,
    frame: pd.DataFrame,
    trials: int,
    pictures: dict,
    posterior: Path,
) -> dict[str, Any]:
    """Return what the template prints of a fit."""
    s, d = problem.settings, gate(tree, problem)
    roles = []
    for role, name in ROLES.items():
        lines = check_lines(table, problem, role)
        inside = sum(x["covered"] for x in lines)
        roles.append({"name": name, "lines": lines, "inside": inside, "caption": CAPTIONS[role]})
    g = s.regimen
    return {
        "version": json.loads(str(tree.attrs["versions"]))["mezikd"],
        "study": s.study,
        "doi": _doi(s.study.citation),
        "sizes": s.trial,
        "planned": f"{g.dose_mg:g} mg on days 1–{g.days_on} of {g.cycle_days}",
        "structure": s.model.structure,
        "virtual": s.patients.mezikd + s.patients.kd,
        "visits": s.visits,
        "sections": list(SECTIONS.items()),
        "gate": d,
        "criteria": _criteria(d),
        "evidence": evidence_lines(problem),
        "roles": roles,
        "outside": _outside(table),
        "trials": trials,
        "parameters": parameter_lines(frame),
        "moved": int((frame["driven_by"] == "data").sum()),
        "estimated": len(problem.free),
        "moved_bar": f"{summary.MOVED:g}",
        "pictures": pictures,
        "provenance": _provenance(tree, problem, posterior),
        "files": [(name, str(tree.attrs[f"file:{name}"])) for name in SHOWN_FILES if f"file:{name}" in tree.attrs],
        "command": "mezikd fit FOLDER --out DIR   # FOLDER: the files of this fit; left out: the built-in fit\n"
        "mezikd report DIR --out DIR",
    }  # fmt: skip
