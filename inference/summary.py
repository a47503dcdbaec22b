"""What a reader is told of a fit: parameters.csv, the integration error, summary.md."""

from collections.abc import Iterable
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.expected import Expected
from mezikd.model.trial_design import ARMS

from .diagnostics import Diagnostics
from .evidence import Row
from .likelihood import CUMULATIVE, NOTHING, PROBABILITY, survival_quantity
from .observed import log_error
from .problem import Problem, with_patients
from .variants import structure_name

MOVED = 0.1
"""Contraction below which a parameter counts as prior-driven."""
QUANTILES = (0.05, 0.5, 0.95)


def parameter_table(tree: xr.DataTree, problem: Problem) -> pd.DataFrame:
    """Return parameters.csv: prior and posterior quantiles and contraction of every parameter, fixed ones included.

    contraction = 1 - posterior variance / prior variance on the scale on which the prior is normal; ``driven_by`` says
    'prior' below MOVED, 'fixed', or 'data'.
    """
    z = np.asarray(tree["unconstrained_posterior"]["z"]).reshape(-1, len(problem.free))
    index = {p.name: i for i, p in enumerate(problem.free)}
    normal = np.array([-1.6448536269514722, 0.0, 1.6448536269514722])
    lines = []
    for p in problem.parameters:
        if p.fixed:
            prior = post = np.full(3, p.centre)
            contraction, driven = float("nan"), "fixed"
        else:
            draws = z[:, index[p.name]]
            prior = np.asarray(p.from_standard(normal))
            post = np.asarray(p.from_standard(np.quantile(draws, QUANTILES)))
            contraction = 1.0 - float(draws.var())
            driven = "prior" if contraction < MOVED else "data"
        lines.append(
            dict(
                name=p.name, unit=p.unit, prior_q05=prior[0], prior_median=prior[1], prior_q95=prior[2],
                posterior_q05=post[0], posterior_median=post[1], posterior_q95=post[2], contraction=contraction,
                driven_by=driven, prior_sure=p.sure, symbol=p.symbol, meaning=p.meaning, prior_source=p.source,
            )
        )  # fmt: skip
    return pd.DataFrame(lines)


def _quantities(e: Expected, rows: Iterable[Row]) -> dict[str, np.ndarray]:
    out = {}
    for row in rows:
        if row.statistic == "quartiles":
            out[row.name] = CUMULATIVE[row.outcome](e, row, np.array([row.low, row.value, row.high]))
        elif row.statistic in ("median", "hazard_ratio"):
            out[row.name] = survival_quantity(e, row)
        else:
            out[row.name] = PROBABILITY[row.outcome](e, row)
    return {k: np.asarray(v) for k, v in out.items()}


def integration_error(problem: Problem, z) -> pd.DataFrame:
    """Return, for each fitted row, the error of the virtual patients against 8 times as many (three other scrambles).

    In units of the reported number's own standard error, at coordinates ``z``; for quartiles the largest of the three.
    """
    p, rows = problem.settings.patients, problem.evidence.fit
    targets = [with_patients(problem, 8 * p.mezikd, 8 * p.kd, p.seed + 100 + i) for i in range(3)]

    @jax.jit
    def expected(z, effects):  # the effects as an argument: compiled once for all scrambles
        cohorts = {a: replace(getattr(targets[0], a), z=x) for a, x in effects.items()}
        return replace(targets[0], **cohorts).expected(z)

    ours = _quantities(problem.target.compiled_expected(z), rows)
    fine = [_quantities(expected(z, {a: getattr(t, a).z for a in ARMS}), rows) for t in targets]
    lines = []
    for row in problem.evidence.fit:
        exact = np.mean([f[row.name] for f in fine], axis=0)
        if row.statistic in ("median", "hazard_ratio"):
            error = log_error(row.value, row.low, row.high)
        else:
            error = np.sqrt(np.maximum(exact * (1.0 - exact), 0.25 / row.denominator) / row.denominator)
        off = np.abs(ours[row.name] - exact) / error
        lines.append(dict(id=row.id, arm=row.arm, subgroup=row.subgroup, error_in_se=float(np.max(off))))
    return pd.DataFrame(lines)


JOINT = {
    "simulated": "the reported numbers vary together as in trials simulated at the mode",
    "independent": "the reported numbers are independent, which counts patients twice",
}
REASONS = {
    "neutropenia_any": "reports of grade 1-2 neutropenia are left to the investigator; the model counts every ANC below 1.5",
    "febrile_neutropenia_g34": "the febrile share is a prior and counts every episode; no fitted number informs it",
    "infection_g34_onset": "one decay time of the early excess serves both arms; onset on Kd is later than it allows",
    "neutropenia_duration": "when ANC is counted within an episode is an assumption, the same in both arms",
    "treatment_duration": "treatment stops for other reasons at a constant rate; early stops are too many for it",
    "os_hr": "death after progression has the same hazard in both arms",
    "infection_g34": "no region-specific behaviour beyond a hazard ratio; none in 27 patients is a rare draw",
}
"""Likely reason for a reported number outside its predictive interval, by id."""


def _outside(table: pd.DataFrame) -> list[str]:
    lines = []
    for row in table.loc[~table["covered"].astype(bool)].to_dict(orient="records"):
        reason = REASONS.get(row["id"], "not explained yet")
        lines.append(
            f"- {row['id']}, {row['arm']}, {row['subgroup']}, {row['statistic']} ({row['role']}): reported "
            f"{row['reported']:g}, 90 % predictive interval {row['pi90_low']:.4g} to {row['pi90_high']:.4g}. "
            f"Likely reason: {reason}."
        )
    return lines or ["None."]


def _effort(d: Diagnostics, method: str) -> str:
    """Return in words what sampling took."""
    if method == "emulated":
        return f"{d.gradients} computations of the model, without gradient; {d.mean_steps:.1f} steps along its emulator a draw"
    return f"{d.gradients} gradients of {d.gradient_ms:.1f} ms a chain, {d.mean_steps:.1f} a draw"


def summary_text(
    problem: Problem, d: Diagnostics, parameters: pd.DataFrame, table: pd.DataFrame, error: pd.DataFrame
) -> str:
    """Return summary.md."""
    inside = table.groupby("role")["covered"].agg(["sum", "size"])
    prior_driven = parameters[parameters["driven_by"] == "prior"]["name"].tolist()
    assumed = parameters[parameters["prior_sure"] == "assumption"]["name"].tolist()
    worst = error.sort_values("error_in_se", ascending=False).iloc[0]
    s = problem.settings
    group = s.likelihood.leave_out
    left_out = (
        "" if group == NOTHING else f" **Fitted without the numbers on {group}**, to see how the others predict them."
    )
    numbers = [f"- {role}: {line['sum']} of {line['size']}" for role, line in inside.iterrows()]
    return "\n".join(
        [
            f"# {s.study.name}: fit",
            "",
            f"{len(problem.evidence.fit)} reported numbers fitted, {len(problem.evidence.check)} kept for the check. "
            f"Structure: {structure_name(s.model)}.{left_out} Source: {s.study.citation}",
            "",
            "## Convergence",
            "",
            f"Gate: **{d.gate}**{' (' + d.failed + ')' if d.failed else ''}. "
            f"R-hat at most {d.max_rhat:.4f} ({d.worst_parameter}); smallest effective sample size {d.min_ess_bulk:.0f} "
            f"(bulk), {d.min_ess_tail:.0f} (tail) of {d.chains} x {d.draws} draws; divergences {d.divergences}; "
            f"E-BFMI at least {d.ebfmi_min:.2f}.",
            f"{_effort(d, s.sampler.method)}; {d.seconds:.0f} s in all on {d.device}.",
            "",
            "## Reported numbers inside their 90 % predictive interval",
            "",
            *numbers,
            "",
            "Outside:",
            "",
            *_outside(table),
            "",
            "Predictive intervals come from exact simulated trials of the real size (check.csv). Quartiles count as three "
            "numbers.",
            "",
            "## Integration error",
            "",
            f"Virtual patients against 8 times as many: at most {worst['error_in_se']:.2f} of a number's standard error "
            f"({worst['id']}, {worst['arm']}, {worst['subgroup']}); integration_error.csv has each.",
            "",
            "## What rests on priors",
            "",
            "**extrapolated**: every prediction at 0.3 or 0.6 mg or at another schedule. No reported number of the trial "
            "depends on the dose; EC50, exposure and EC50_T tie the dose to effects through priors of the drug class.",
            "",
            f"**prior-driven** (contraction below {MOVED:g}): {', '.join(prior_driven)}.",
            "",
            f"**assumed** (no outside source for the prior): {', '.join(assumed)}.",
            "",
            "Also assumed: counts every week in the first "
            f"{s.visits.weekly_cycles} cycles, then on days {', '.join(map(str, s.visits.later_days))} (the schedule is "
            f"not public); {JOINT[s.likelihood.covariance]}; follow-up means time to death or data cutoff; treatment duration counts treatment still going "
            "on; the hazard ratio is unstratified.",
            "",
        ]
    )
