# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What would a lower dose or a shorter schedule do?
#
# Six regimens: 1.0, 0.6 and 0.3 mg mezigdomide, on days 1-21 or 1-14 of 28, with carfilzomib and dexamethasone; and Kd alone.
# All of them run through the same posterior draws, the same simulated patients and the same luck, so a difference between two
# regimens is a difference **within draw**.
#
# **Only 1.0 mg 21/28 was given in the trial. Everything else is extrapolated**: it rests on priors of the drug class and on
# the model's structure. It can say what to measure next; it is no ground for a dose.

# %%
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from mezikd.inference import extrapolation
from mezikd.inference.figures_course import ARM_COLOURS, new_figure
from mezikd.inference.figures_scenarios import WARNING, forest
from mezikd.inference.monte_carlo import population_draws, quantiles
from mezikd.inference.places import built_in_fit, find_posterior
from mezikd.inference.predict import predict_structures, prepare
from mezikd.inference.prediction_outcomes import NEUTROPENIA, PFS, SEVERE, Key
from mezikd.inference.prediction_tables import difference_draws, difference_table, prediction_table
from mezikd.inference.scenario_files import Source
from mezikd.inference.scenario_settings import ScenarioFile
from mezikd.inference.scenarios import CONTROL
from pictures import QUICK, show

pd.set_option("display.width", 200, "display.max_colwidth", 60)

# %% [markdown]
# ## Ask
#
# The dictionary says what a scenario file (`fits/scenarios/*.toml`) says; a mistake in it is reported in the same way. Without
# a `reference`, every scenario is compared with the fitted regimen.

# %%
MONTH = 12
asked = ScenarioFile.model_validate(
    {
        "grid": {"dose_mg": [1.0, 0.6, 0.3], "schedule": ["21/28", "14/28"]},
        "prediction": {"draws": 32 if QUICK else 200, "patients": 128 if QUICK else 512, "horizon_months": 18},
    }
)
request, problem, structures = prepare(find_posterior(built_in_fit()), Source(asked), "stacked")
predicted = predict_structures(request, structures)
is_extrapolated = partial(extrapolation.is_extrapolated, fitted=request.fitted, evidence=problem.evidence)
table = prediction_table(predicted, is_extrapolated)
differences = difference_table(predicted, request.reference, is_extrapolated)
names = [s.name for s in predicted.scenarios]
print(
    f"{request.prediction.draws} draws x {request.prediction.patients} patients; reference: {request.reference}; scenarios: {', '.join(names)}"
)

# %% [markdown]
# ## What each regimen gives
#
# Median and 90 % interval over the posterior; a star marks what is extrapolated.

# %%
MAIN = {
    (NEUTROPENIA, MONTH): "neutropenia grade >=3 by month 12, %",
    (SEVERE, MONTH): "infection grade >=3 by month 12, %",
    ("relative dose intensity, median", 18): "median RDI, %",
    (PFS, MONTH): "PFS at month 12, %",
}


def shown(line: pd.Series, digits: int) -> str:
    """Return "median (90 % interval)", with a star where extrapolated."""
    numbers = [f"{line[c]:.{digits}f}" for c in ("median", "pi90_low", "pi90_high")]
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]}){' *' if line['extrapolated'] else ''}"


by_outcome = table.set_index(["outcome", "month", "scenario"]).sort_index()
pd.DataFrame(
    {
        heading: {n: shown(by_outcome.loc[(*key, n)], 0) if (*key, n) in by_outcome.index else "" for n in names}
        for key, heading in MAIN.items()
    }
)

# %% [markdown]
# ## Differences within draw, and the probability that a regimen is better
#
# P is the posterior probability that the regimen is better for the patient in that outcome. Where the structure of the model
# fixes the direction (less drug, less neutropenia), P is near 0 or 1 by construction: look at the size, not at P.

# %%
show(
    forest, request, differences,
    alt="Paired differences of each regimen from 1.0 mg 21/28 with 50 and 90 % intervals and P(better)",
)  # fmt: skip

# %% [markdown]
# Why within draw: the posterior does not know the level of an outcome well, but what is unknown is common to both regimens and
# cancels. The same two regimens compared as if they came from independent draws would have much wider intervals:

# %%
one, two = "0.6 mg 21/28", request.reference
width = {}
for outcome in (NEUTROPENIA, SEVERE, PFS):
    a, b = (predicted.outcomes[n][Key(outcome, MONTH)] for n in (one, two))
    paired = difference_draws(a, b)[0]
    shuffled = np.random.default_rng(1).permutation(len(paired))
    unpaired = population_draws(a) - population_draws(b)[shuffled]
    low_high = [quantiles(x)[[0, 4]] for x in (paired, unpaired)]
    width[f"{outcome}, month {MONTH}"] = [f"{low:+.1f} to {high:+.1f}" for low, high in low_high]
pd.DataFrame(width, index=["within draw", "as if independent"]).T.rename_axis(f"{one} minus {two}, percentage points")

# %% [markdown]
# ## The trade-off
#
# Each draw answers two questions at once, so joint probabilities can be read off: fewer severe infections **and** not more than
# 3 percentage points of PFS lost at month 12. The margin is a judgement: change it.

# %%
MARGIN = 3.0
rows = {}
for name in [s.name for s in request.scenarios if s.name != request.reference]:
    infection, pfs = (
        difference_draws(predicted.outcomes[name][Key(o, MONTH)], predicted.outcomes[two][Key(o, MONTH)])[0]
        for o in (SEVERE, PFS)
    )
    fewer, kept = infection < 0.0, pfs > -MARGIN
    rows[f"{name} *"] = {
        "P(fewer severe infections)": fewer.mean(),
        f"P(PFS loss below {MARGIN:g} points)": kept.mean(),
        "P(both)": (fewer & kept).mean(),
    }
pd.DataFrame(rows).T.round(2).rename_axis("against 1.0 mg 21/28 (* extrapolated)")

# %%
figure = new_figure(5.6)
axes = figure.subplots()
doses = {1.0: "#0072b2", 0.6: "#009e73", 0.3: "#cc79a7"}
for s in predicted.scenarios:
    x, y = (by_outcome.loc[(o, MONTH, s.name)] for o in (SEVERE, PFS))
    kd = s.name == CONTROL
    colour = ARM_COLOURS["kd"] if kd else doses[s.scenario.regimen.dose_mg]
    for low, high, lw, alpha in (("pi90_low", "pi90_high", 1.1, 0.6), ("pi50_low", "pi50_high", 3.5, 0.35)):
        axes.plot([x[low], x[high]], [y["median"]] * 2, color=colour, lw=lw, alpha=alpha, solid_capstyle="butt")
        axes.plot([x["median"]] * 2, [y[low], y[high]], color=colour, lw=lw, alpha=alpha, solid_capstyle="butt")
    hollow = bool(x["extrapolated"] or y["extrapolated"])
    marker = "D" if kd else "o" if s.scenario.regimen.days_on == 21 else "s"
    axes.plot(
        x["median"], y["median"], marker, ms=8, mec=colour, mew=1.6, color="white" if hollow else colour, zorder=5
    )
handles = [Line2D([], [], color=c, lw=4, label=f"{d:.1f} mg") for d, c in doses.items()]
handles += [Line2D([], [], color=ARM_COLOURS["kd"], marker="D", ls="", label="Kd (fitted)")]
handles += [
    Line2D([], [], ls="", marker="o", color="0.3", label="1.0 mg 21/28 (fitted)"),
    Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="21/28, extrapolated"),
    Line2D([], [], ls="", marker="s", color="0.3", mfc="white", label="14/28, extrapolated"),
    Line2D([], [], color="0.3", lw=4, alpha=0.4, label="50 % interval"),
    Line2D([], [], color="0.3", lw=1.1, label="90 % interval"),
]
figure.legend(handles=handles, loc="outside right center", fontsize=8.5, frameon=False)
axes.set_xlabel(f"infection grade ≥3 by month {MONTH}, % of patients (lower is better)", fontsize=9)
axes.set_ylabel(f"PFS at month {MONTH}, % of patients (higher is better)", fontsize=9)
axes.grid(color="0.93", lw=0.6)
axes.spines[["top", "right"]].set_visible(False)
axes.set_title(f"PFS against severe infection\nhollow marks {WARNING}", fontsize=10)
show(figure.savefig, alt="PFS at month 12 against severe infection by month 12 for six regimens and Kd, with intervals")

# %% [markdown]
# What a lower dose costs in PFS rests on `ec50_tumour`, which no trial has informed: a dose-ranging arm would have to measure it.
# The same on the command line: `mezikd predict --scenarios FILE.toml --out DIR`; other rules, G-CSF and region mixes:
# `fits/scenarios/`.
