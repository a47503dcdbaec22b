"""define.md: what was simulated, and every column of the tables with unit, codes and origin."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
from mezikd.model.scenario import Scenario

from .problem import Problem
from .subject_tables import planned_treatment
from .table_columns import TABLES
from .virtual_trial import VirtualTrial

ORIGINS = """\
Origin: *assigned* by the program, *simulated* by the model, *derived* from other columns, *assumed* without data behind it.
"""
CONVENTIONS = """\
- Study day 1 is the day of randomisation and of the first dose (t = 0); a time of t days falls on study day floor(t) + 1.
  A month is 30.4375 days.
- Doses stop on the day on which treatment ends or data are cut. Adverse events that begin on treatment or within 28 days of
  its end are recorded; their ends up to death or data cutoff.
- Counts are taken at scheduled visits (the schedule is an assumption), and weekly while the drug is on hold. An episode of
  neutropenia begins at a scheduled count below 1.0 and ends with the first count of at least 1.0; counts that end it between
  visits are not in adlb, and an isolated count of at least 1.0 in adlb need not end it.
- Safety tables (adex, adlb, adae, TTINF3 of adtte) hold treated subjects only; PFS, TTP and OS all randomised.
- Infections last log-normally distributed times with medians 14 days (grade 3 or more) and 8 days: assumptions.
- An infection is fatal only in subjects without progression, as in the model; deaths after progression are one cause.
- There is no adpc table: pharmacokinetics are off, since no human concentrations of mezigdomide are public. Carfilzomib,
  dexamethasone and G-CSF are not modelled, and neither are dates, demographics or other laboratory values.
"""


def _cell(text: object) -> str:
    """Return a text that stays inside one cell of a Markdown table, and inert where Markdown is shown as HTML."""
    out = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return out.replace("|", "\\|").replace("`", "'")


def _table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return lines + [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]


def _rules(scenario: Scenario) -> str:
    """Return the dose rules in words."""
    if scenario.rdi is not None or scenario.rules is None:
        return "none act: the dose intensity is set" if scenario.rdi is not None else "none act"
    unset = {"maximum_delay_days": "no limit"}
    told = {k: unset.get(k, "as fitted") if v is None else v for k, v in asdict(scenario.rules).items()}
    return ", ".join(f"{k} = {v}" for k, v in told.items())


def _gcsf(scenario: Scenario) -> str:
    """Return the G-CSF policy in words."""
    if scenario.gcsf.policy == "none":
        return "none beyond the trial's average use, which is inside the fitted parameters"
    told = ", ".join(f"{k} = {v}" for k, v in asdict(scenario.gcsf).items())
    return f"{told}; its effects are prior medians: no data"


def _facts(trial: VirtualTrial, problem: Problem, provenance: Mapping[str, str]) -> list[tuple[object, ...]]:
    order, s = trial.order, problem.settings
    rows: list[tuple[object, ...]] = [
        ("Data", "SIMULATED, no patient data"),
        ("Study of the fit", f"{s.study.name}; {s.study.citation}"),
        *((f"Arm {a.name.upper()}", f"{a.size} subjects, {a.treated.sum()} treated: {planned_treatment(a)}") for a in trial.arms),
        ("Region", order.region or "the trial's mix"),
        ("Dose rules", _rules(order.scenario)),
        ("G-CSF", _gcsf(order.scenario)),
        ("Extrapolated", "yes: no reported number speaks of this regimen or mix of regions"
         if trial.extrapolated else "no: regimen and regions are the fitted ones"),
        ("Follow-up", "data cutoff and loss to follow-up as fitted"),
        ("Parameters", trial.draw),
        ("Seed", order.seed),
    ]  # fmt: skip
    return rows + list(provenance.items())


def define_text(
    trial: VirtualTrial,
    problem: Problem,
    tables: Mapping[str, pd.DataFrame],
    suffix: str,
    provenance: Mapping[str, str],
) -> str:
    """Return define.md; ``suffix`` is that of the table files, ``provenance`` what else is known of how they came to be."""
    lines = [
        "# Simulated trial",
        "",
        "**Simulated, no patient data.** Made by `mezikd simulate`.",
        "",
        "## What was simulated",
        "",
    ]
    lines += _table(("What", "Value"), _facts(trial, problem, provenance))
    lines += ["", "## Conventions", "", CONVENTIONS, ORIGINS]
    for name, (text, columns) in TABLES.items():
        file = f"{name}.csv" if name == "nonmem" else f"{name}{suffix}"
        lines += [f"## {file}", "", f"{text} {len(tables[name])} rows.", ""]
        lines += _table(("Column", "Meaning", "Unit", "Codes", "Origin"), [tuple(c) for c in columns])
        lines.append("")
    units = {p.name: p for p in problem.parameters}
    lines += ["## Parameter values", "", "The truth of this trial, for whoever estimates it anew.", ""]
    lines += _table(
        ("Parameter", "Symbol", "Value", "Unit", "Meaning"),
        [(k, units[k].symbol, f"{v:.6g}", units[k].unit, units[k].meaning) for k, v in trial.theta.items()],
    )
    return "\n".join(lines) + "\n"


def versions_text(versions: str) -> str:
    """Return the versions that a posterior file tells (JSON) in words."""
    return ", ".join(f"{name} {version}" for name, version in json.loads(versions).items())
