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
# # How do I enter another trial?
#
# A fit is a folder with `fit.toml` (size, regimen, settings), `evidence.csv` (one line a reported number) and, if you wish,
# `priors.csv`; `fits/README.md` describes every column. This notebook writes such a folder, makes a mistake, corrects it,
# fits it with tiny settings and reads the check.
#
# **The trial EXAMPLE-1 is invented.** Its numbers are simulated from the model itself, at 0.6 mg and another size. They are
# no evidence about anything; with a real trial you would type the numbers of its publication instead.

# %%
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from mezikd.inference.figures_course import new_figure
from mezikd.inference.places import built_in_fit, find_posterior
from mezikd.inference.posterior_file import load
from mezikd.inference.problem import design_of
from mezikd.inference.settings import load_settings
from mezikd.inference.trial import reduce, simulated_trials
from pictures import QUICK, show

pd.set_option("display.width", 200, "display.max_colwidth", 60)
os.chdir(tempfile.mkdtemp())  # a scratch place; yours would stay where you want it
folder = Path("example1")
folder.mkdir()

# %% [markdown]
# ## fit.toml
#
# The sampler settings are tiny, so that this page is made in a minute: far too few draws and virtual patients to be believed.

# %%
SIZE = (32, 32, 3) if QUICK else (64, 32, 4)
DRAWS = 20 if QUICK else 50
(folder / "fit.toml").write_text(f"""\
[study]
name = "EXAMPLE-1 (invented)"
title = "An invented trial, simulated from the model: not real"
citation = "none: invented for a notebook of mezikd"

[trial.mezikd]
randomised = 120
treated = 120
regions = {{ usa = 30, europe = 50, asia = 20, rest_of_world = 20 }}

[trial.kd]
randomised = 80
treated = 80
regions = {{ usa = 20, europe = 34, asia = 13, rest_of_world = 13 }}

[regimen]
dose_mg = 0.6
days_on = 21
cycle_days = 28

[patients]
mezikd = {SIZE[0]}
kd = {SIZE[1]}

[model]
daily_cycles = {SIZE[2]}

[likelihood]
covariance = "independent"

[sampler]
chains = 2
warmup = {DRAWS}
draws = {DRAWS}
max_tree_depth = 3
""")
settings = load_settings(folder)
settings.regimen

# %% [markdown]
# ## evidence.csv
#
# One simulated trial of that size stands in for the publication. The outcomes, statistics and units are those of the shipped
# fit; `role` says what is fitted and what is kept for the check, `given` on which number another is conditional.

# %%
tree, shipped = load(find_posterior(built_in_fit()))
truth = np.asarray(tree["unconstrained_posterior"]["z"]).mean(axis=(0, 1))  # one point of the posterior
trial, _ = next(simulated_trials(truth[None], shipped.parameters, design_of(settings), seed=9))
FITTED = (
    "neutropenia_g34", "hold_mezigdomide_neutropenia", "rdi_mezigdomide", "reduction_mezigdomide", "infection_g34",
    "infection_any", "pfs_hr", "pfs_events", "treatment_duration", "followup", "deaths",
)  # fmt: skip
CHECKED = ("febrile_neutropenia_g34", "treated_one_year", "still_on_treatment", "deaths_progression", "os_hr")
patients = {"mezikd": 120, "kd": 80, "both": 200, "mezikd_vs_kd": 200}
events = sum(int(arm.time_to_event("pfs")[1].sum()) for arm in trial.values())
lines = []
for row in shipped.evidence.rows:
    if row.subgroup != "all" or row.id not in FITTED + CHECKED:
        continue
    low, value, high = reduce(trial, row)
    interval = row.interval
    if row.statistic == "hazard_ratio" and row.id in FITTED:  # 95 % interval from the number of events
        half = 1.96 / np.sqrt(events * 0.6 * 0.4)
        low, high = value * np.exp(-half), value * np.exp(half)
    elif row.statistic != "quartiles":
        interval = "none"
    texts = [f"{x:.3g}" if np.isfinite(x) else "" for x in (value, low, high)]
    role = "fit" if row.id in FITTED else "check"
    cells = [row.id, row.arm, "all", row.outcome, row.statistic, *texts, interval, patients[row.arm], row.unit]
    lines.append([*cells, "simulated: invented", role, row.given])
columns = [
    "id", "arm", "subgroup", "outcome", "statistic", "value", "low", "high", "interval", "denominator", "unit", "where",
    "role", "given",
]  # fmt: skip
evidence = pd.DataFrame(lines, columns=columns)
evidence.to_csv(folder / "evidence.csv", index=False)
evidence.drop(columns=["subgroup", "where", "outcome"])

# %% [markdown]
# ## A mistake, and what the command says
#
# The most common one: a percentage where a number of patients belongs. Everything is checked before anything runs; the message
# is one line with file, line, row, column, value and remedy, the exit code is 2, and nothing is written.


# %%
def mezikd(*arguments: str) -> int:
    """Run the command as in a shell, print what it says, return its exit code."""
    print("$ mezikd", *arguments)
    command = [sys.executable, "-m", "mezikd.inference.commands", *arguments]
    # Jupyter asks programs for colours and moving bars; a page wants plain lines.
    plain = {k: v for k, v in os.environ.items() if "COLOR" not in k} | {"COLUMNS": "110", "TERM": "dumb"}
    done = subprocess.run(command, capture_output=True, text=True, env=plain, check=False)
    print((done.stdout + done.stderr).strip())
    print("exit code", done.returncode)
    return done.returncode


wrong = evidence.copy()
wrong.loc[0, "value"] = "52.5"
wrong.to_csv(folder / "evidence.csv", index=False)
assert mezikd("fit", "example1", "--out", "fit1") == 2

# %% [markdown]
# ## Fit
#
# With the patients entered, it runs. Exit code 3 says: sampled and saved, but the convergence gate failed.

# %%
evidence.to_csv(folder / "evidence.csv", index=False)
code = mezikd("fit", "example1", "--out", "fit1")
assert code == 3

# %%
diagnostics = json.loads(Path("fit1/diagnostics.json").read_text())
print("gate:", diagnostics["gate"])
print("\n".join(f"- {reason}" for reason in diagnostics["failed"].split("; ")))

# %% [markdown]
# As it must: a hundred draws from two short chains cannot have 400 effective ones, and R-hat cannot come down to 1.01. The remedy is in
# `fit.toml`: leave out `[sampler]`, `[patients]`, `[model]` and `[likelihood]` to have the defaults, or copy those of
# `fits/successor2/fit.toml` (minutes on two cores). **Until the gate passes, nothing below may be used**; it shows how to read it.
#
# ## Read the check
#
# `check.csv` sets each number beside its prediction for a trial of the same size. Look at the unfitted rows first, and at
# every number outside its 90 % interval.

# %%
check = pd.read_csv("fit1/check.csv")
inside = check.groupby("role")["covered"].agg(["sum", "size"])
print(
    "\n".join(f"{role}: {n['sum']} of {n['size']} inside the 90 % predictive interval" for role, n in inside.iterrows())
)
known = check[check["reported"] > 0].sort_values(["role", "id"]).reset_index(drop=True)
figure = new_figure(0.25 * len(known) + 1.5)
axes = figure.subplots()
axes.axvline(1.0, color="black", lw=1.0)
for y, line in known.iterrows():
    colour = "#0072b2" if line["covered"] else "#d55e00"
    ratio = line[["pi90_low", "pi50_low", "predicted", "pi50_high", "pi90_high"]].astype(float) / line["reported"]
    ratio = ratio.clip(0.12, 8.0)
    axes.plot(ratio.iloc[[0, 4]], [y, y], color=colour, lw=1.3)
    axes.plot(ratio.iloc[[1, 3]], [y, y], color=colour, lw=5, alpha=0.5, solid_capstyle="butt")
    axes.plot(ratio["predicted"], y, "o", color=colour, ms=4.5, mfc="white" if line["role"] == "check" else colour)
    axes.annotate(f"{line['reported']:g}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
axes.annotate("number entered", (1.01, -1.1), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
units = {row.key: row.unit for row in shipped.evidence.rows}
arms = {"mezikd": "MeziKd", "kd": "Kd", "both": "both", "mezikd_vs_kd": "MeziKd vs Kd"}
labels = [
    f"{r.id}, {arms[r.arm]}{', ' + r.statistic if r.statistic.startswith('quartile') else ''} ({units[r.id, r.arm, 'all']})"
    for r in known.itertuples()
]
axes.set_yticks(range(len(known)), labels, fontsize=7.5)
axes.set_ylim(len(known) - 0.4, -0.7)
axes.set_xscale("log")
axes.set_xlim(0.12, 8.0)
axes.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["⅛", "¼", "½", "1", "2", "4", "8"])
axes.minorticks_off()
axes.set_xlabel("predicted / entered", fontsize=9)
axes.grid(color="0.93", lw=0.6)
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
handles = [
    Line2D([], [], color="#0072b2", marker="o", label="fitted"),
    Line2D([], [], color="#0072b2", marker="o", mfc="white", label="unfitted (check)"),
    Line2D([], [], color="#d55e00", marker="o", label="entered number outside the 90 % interval"),
    Line2D([], [], color="#0072b2", lw=5, alpha=0.5, label="50 %"),
    Line2D([], [], color="#0072b2", lw=1.3, label="90 %"),
]
figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
figure.suptitle(
    "EXAMPLE-1, an invented trial (0.6 mg 21/28): predictive intervals over the number entered\ngate failed: not to be used",
    fontsize=10,
)
show(figure.savefig, alt="Predicted over entered numbers of the invented trial with 50 and 90 % predictive intervals")

# %% [markdown]
# `fit1/summary.md` says the same in words, with what rests on priors. From here on every command takes the folder:
# `mezikd check fit1 --out ...`, `mezikd predict fit1 --dose 0.3 --out ...`. For this trial, 0.6 mg is what was fitted and 1.0 mg
# is extrapolated.
