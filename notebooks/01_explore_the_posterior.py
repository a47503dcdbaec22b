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
# # What does the posterior say, and how far can it be trusted?
#
# The package ships a posterior: draws of every parameter that agree with what SUCCESSOR-2 reported (1.0 mg mezigdomide on
# days 1-21 of 28 with carfilzomib and dexamethasone, against carfilzomib and dexamethasone alone, "Kd"). This notebook loads
# it, asks whether the sampler converged, which parameters the trial informed, and whether the model reproduces the reported
# numbers. There are no patient data inside.

# %%
import json

import arviz as az
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from mezikd.inference import figures
from mezikd.inference.check import check_table
from mezikd.inference.figures_course import new_figure
from mezikd.inference.places import built_in_fit, find_posterior
from mezikd.inference.posterior_file import load
from mezikd.inference.summary import MOVED, parameter_table
from pictures import show

pd.set_option("display.width", 200, "display.max_colwidth", 70)
BLUE, ORANGE = "#0072b2", "#d55e00"

# %% [markdown]
# ## One file, one DataTree
#
# `load` returns an xarray DataTree with the groups that ArviZ expects, so every ArviZ function works on it, and the problem
# that was fitted. Instead of the shipped fit, name the folder that `mezikd fit --out` wrote: `find_posterior(Path("runs/mine"))`.

# %%
tree, problem = load(find_posterior(built_in_fit()))
pd.DataFrame(
    [(name, len(group.data_vars), dict(group.sizes)) for name, group in tree.children.items()],
    columns=["group", "variables", "sizes"],
).set_index("group")

# %% [markdown]
# ## Did it converge?
#
# The gate of `mezikd fit`: R-hat at most 1.01, at least 400 effective draws in bulk and tails, at most 0.1 % divergences,
# E-BFMI at least 0.3. Read nothing else from a fit that failed it.

# %%
posterior = tree["posterior"].to_dataset()
worst = pd.DataFrame(
    {
        "R-hat": {k: float(v) for k, v in az.rhat(posterior).items()},
        "ESS bulk": {k: float(v) for k, v in az.ess(posterior, method="bulk").items()},
        "ESS tail": {k: float(v) for k, v in az.ess(posterior, method="tail").items()},
    }
)
divergences = int(tree["sample_stats"]["diverging"].sum())
gate = json.loads((built_in_fit() / "diagnostics.json").read_text())["gate"]
print(f"gate: {gate}; {posterior.sizes['chain']} chains x {posterior.sizes['draw']} draws, {divergences} divergences")
worst.sort_values("R-hat", ascending=False).head(5).round({"R-hat": 4, "ESS bulk": 0, "ESS tail": 0})

# %% [markdown]
# ## Summary table
#
# Median and 90 % interval in each parameter's own unit (`az.summary`), for the parameters that matter most to dose, marrow,
# infection and progression. `parameters.csv` of the fit holds all of them.

# %%
SHOWN = [
    "half_life_hours", "exposure_sd", "ec50", "hill", "emax", "anc0", "reserve_ratio", "hold_grade3", "intensity",
    "infection_drug", "infection_neutropenia", "progression_rate", "tumour_effect", "ec50_tumour",
]  # fmt: skip
table = az.summary(posterior, var_names=SHOWN, kind="stats_median", ci_prob=0.9, ci_kind="eti", round_to=3)
parameters = parameter_table(tree, problem).set_index("name")
table.insert(0, "unit", parameters.loc[table.index, "unit"])
table["contraction"] = parameters.loc[table.index, "contraction"].round(2)
table["meaning"] = parameters.loc[table.index, "meaning"]
table

# %% [markdown]
# ## Which parameters did the trial move?
#
# Contraction is 1 - posterior variance / prior variance, on the scale on which the prior is normal: 1 means that the trial
# settled the parameter, 0 that the posterior is the prior. Orange parameters (below 0.1) rest on the prior alone. `ec50_tumour`
# is one of them: no reported number depends on the dose, so **everything said about another dose is extrapolated**.

# %%
z = np.asarray(tree["unconstrained_posterior"]["z"])  # chain, draw, parameter; the prior is standard normal
names = [p.name for p in problem.free]
contraction = 1.0 - z.var(axis=(0, 1))
# Monte Carlo error of a variance from that many effective draws.
error = 1.645 * (1.0 - contraction) * np.sqrt(2.0 / worst.loc[names, "ESS bulk"].to_numpy())
order = np.argsort(-contraction)
q05, q25, q50, q75, q95 = np.quantile(z.reshape(-1, z.shape[-1]), (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)

figure = new_figure(0.185 * len(names) + 1.2)
left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1.0])
left.axvspan(-1.645, 1.645, color="0.9", lw=0)
left.axvspan(-0.674, 0.674, color="0.82", lw=0)
for y, i in enumerate(order):
    colour = ORANGE if contraction[i] < MOVED else BLUE
    left.plot([q05[i], q95[i]], [y, y], color=colour, lw=1.2)
    left.plot([q25[i], q75[i]], [y, y], color=colour, lw=4, alpha=0.6, solid_capstyle="butt")
    left.plot(q50[i], y, "o", color=colour, ms=3.5)
    right.errorbar(contraction[i], y, xerr=error[i], fmt="o", color=colour, ms=3.5, lw=1.0)
stars = {p.name: "*" if p.sure == "assumption" else "" for p in problem.free}
left.set_yticks(range(len(names)), [names[i] + stars[names[i]] for i in order], fontsize=7.5)
for label, i in zip(left.get_yticklabels(), order, strict=True):
    label.set_color(ORANGE if contraction[i] < MOVED else "black")
left.set_ylim(len(names) - 0.4, -0.6)
left.set_xlabel("posterior, in prior standard deviations from the prior median", fontsize=9)
right.axvline(MOVED, color="0.4", lw=0.8, ls="--")
right.set_xlabel("contraction (1: settled, 0: prior)", fontsize=9)
for axes in (left, right):
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.94", lw=0.6)
    axes.set_axisbelow(True)
handles = [
    Line2D([], [], color=BLUE, marker="o", ms=4, label="median, 50 and 90 % interval"),
    Line2D([], [], color="0.82", lw=7, label="prior, 50 and 90 %"),
    Line2D([], [], color=ORANGE, marker="o", ms=4, label=f"rests on the prior (contraction below {MOVED:g})"),
    Line2D([], [], ls="", marker="$*$", color="black", label="prior is an assumption"),
]
figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
figure.suptitle("What the trial moved (bars at the contraction: 90 % Monte Carlo error)", fontsize=10.5)
show(figure.savefig, alt="Posterior intervals of every parameter against its prior, and its contraction, sorted")

# %% [markdown]
# ## Four parameters together
#
# EC50 (potency) and half-life stand in for each other: the trial fixes how deep neutropenia goes, not which of the two makes
# it so. Two marginal intervals hide that; a draw keeps it. Emax is as its prior; the tumour effect was learnt from progression.

# %%
PAIR = {
    "ec50": ("EC50, mg", True),
    "half_life_hours": ("half-life, h", True),
    "emax": ("Emax, share of 1", False),
    "tumour_effect": ("tumour effect,\nlog hazard ratio at 1.0 mg", False),
}
draws = {k: posterior[k].values.ravel() for k in PAIR}
prior = {k: tree["prior"][k].values.ravel() for k in PAIR}
figure = new_figure(7.6)
cells = figure.subplots(4, 4)
for i, (row, (row_label, row_log)) in enumerate(PAIR.items()):
    for j, (column, (column_label, column_log)) in enumerate(PAIR.items()):
        axes = cells[i, j]
        if j > i:
            axes.axis("off")
            continue
        both = np.concatenate([draws[column], prior[column]])
        low, high = np.quantile(both, (0.005, 0.995))
        axes.set_xscale("log" if column_log else "linear")
        axes.set_xlim(low, high)
        if i == j:
            bins = np.geomspace(low, high, 26) if column_log else np.linspace(low, high, 26)
            for x, colour in ((prior, "0.7"), (draws, BLUE)):
                weights = np.full(x[column].size, 100.0 / x[column].size)
                axes.hist(x[column], bins, weights=weights, color=colour, alpha=0.55)
            a, b, c = np.quantile(draws[column], (0.05, 0.5, 0.95))
            axes.set_title(f"{b:.2g} (90 %: {a:.2g} to {c:.2g})", fontsize=8.5)
            axes.set_ylabel("draws, %", fontsize=8)
        else:
            axes.plot(draws[column], draws[row], ".", ms=2.2, alpha=0.45, color=BLUE, mew=0)
            axes.set_yscale("log" if row_log else "linear")
            ranks = [pd.Series(draws[k]).rank() for k in (column, row)]
            axes.set_title(f"rank correlation {ranks[0].corr(ranks[1]):+.2f}", fontsize=8.5)
            axes.set_ylabel(row_label if j == 0 else "", fontsize=8.5)
        axes.set_xlabel(column_label if i == 3 else "", fontsize=8.5)
        axes.tick_params(labelsize=7.5, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        for axis, log in ((axes.xaxis, column_log), (axes.yaxis, row_log and i != j)):
            if log:  # 0.1, 0.3, 1 instead of powers of ten
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_locator(NullLocator())
figure.legend(
    handles=[Line2D([], [], color="0.7", lw=7, label="prior"), Line2D([], [], color=BLUE, lw=7, alpha=0.55, label="posterior")],
    loc="upper right", bbox_to_anchor=(0.98, 0.9), fontsize=9, frameon=False,
)  # fmt: skip
figure.suptitle("Joint posterior: median and 90 % interval above each histogram", fontsize=10.5)
show(figure.savefig, alt="Pair plot of EC50, half-life, Emax and tumour effect with prior and posterior histograms")

# %% [markdown]
# ## Does it reproduce what was reported?
#
# `posterior_predictive` holds one simulated trial of the real size per draw, reduced by the paper's own estimators. A reported
# number should lie inside its 90 % interval nine times out of ten. The right half was not used in the fit: it is the test.

# %%
simulated = tree["posterior_predictive"]["reported"].values[0]
check = check_table(problem.evidence, simulated)
inside = check.groupby("role")["covered"].agg(["sum", "size"])
print("\n".join(f"{role}: {n['sum']} of {n['size']} inside the 90 % interval" for role, n in inside.iterrows()))
check.loc[~check["covered"], ["id", "arm", "statistic", "role", "reported", "pi90_low", "predicted", "pi90_high"]]

# %%
show(
    figures.reported_against_predicted, check, problem,
    alt="Each reported number on its 50 and 90 % posterior predictive interval; fitted left, unfitted right",
)  # fmt: skip

# %% [markdown]
# The likely reason for each number outside stands in `summary.md` of the fit. Next: `02_change_dose_or_schedule`.
