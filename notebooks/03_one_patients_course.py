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
# # What happens to one patient, and what drives whom?
#
# A virtual patient of the model, day by day: doses, neutrophils (ANC), the counts that a clinic would see, holds, dose
# reductions and G-CSF. Then the same patient under the whole posterior, and at last many patients: which of their
# characteristics decides about neutropenia, holds, dose intensity and infection.
#
# **A virtual patient is nobody.** There are no patient data inside, and no real patient is predicted.

# %%
import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mezikd.inference.figures_course import new_figure, thinned
from mezikd.inference.monte_carlo import Estimates, population_draws, quantiles
from mezikd.inference.places import built_in_fit, find_posterior
from mezikd.inference.posterior_file import load
from mezikd.model.exact import Batch, form_of, simulate_batch
from mezikd.model.gcsf import support_draws
from mezikd.model.parameters import REGIONS, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Gcsf, Scenario
from pictures import QUICK, show

pd.set_option("display.width", 200)
BLUE, GREEN, ORANGE, PURPLE = "#0072b2", "#009e73", "#d55e00", "#7f3c8d"
tree, problem = load(find_posterior(built_in_fit()))
design = problem.target.design
DRAWS, PATIENTS, WEEKS = (16, 128, 32) if QUICK else (120, 512, 53)

# %% [markdown]
# ## Simulate
#
# `simulate_batch` follows every patient of every posterior draw through a plan. With `record=True` it also returns the course
# behind the history. Two plans with the same keys share all luck, so what differs between them is the plan.

# %%
z = thinned(tree, DRAWS)
theta = dict(jax.vmap(lambda x: natural(x, problem.parameters))(z))
theta |= support_draws(1, len(z))  # effects of G-CSF: from their prior, no data
effects = np.random.default_rng(3).standard_normal((len(EFFECTS), PATIENTS))
region = np.random.default_rng(4).choice(len(REGIONS), PATIENTS, p=np.array(design.mezikd.regions) / 288)
trial = Scenario(regimen=design.regimen)
with_gcsf = Scenario(regimen=design.regimen, gcsf=Gcsf(policy="reactive"))


def run(scenario: Scenario, at: np.ndarray, patients: np.ndarray):
    """Return history and record of ``patients`` in the draws ``at``; shapes (draws, patients), (draws, weeks, 7, patients)."""
    keys = jax.random.split(jax.random.key(5), len(z))[at]
    some = {k: np.asarray(v)[at] for k, v in theta.items()}
    batch = Batch(some, np.stack([effects[:, patients]] * len(at)), region[patients], keys)
    out = simulate_batch(batch, plan_of(scenario, WEEKS), form_of(design, record=True))
    return jax.tree.map(np.asarray, out)


everybody = np.arange(PATIENTS)
middle = np.array([len(z) // 2])  # one draw
history, record = run(trial, middle, everybody)
supported, record_gcsf = run(with_gcsf, middle, everybody)

# %% [markdown]
# ## One course
#
# Of those with a grade 4 count, two weeks on hold, a reduction, and treatment to the end of the half year shown, the patient
# nearest the average. The band is where 90 % of counts would fall (error of a count). The second panel is the same patient,
# with the same luck, given G-CSF for five days after each grade 4 count or febrile neutropenia.

# %%
SHOWN = min(26, WEEKS)
days = np.arange(7 * SHOWN)
stays = history.stop[0] >= 7 * SHOWN
interesting = (
    stays
    & (record.held[0, :SHOWN].sum(axis=0) >= 2)
    & (history.first_reduction[0] < 7 * SHOWN)
    & (supported.gcsf_days[0] > 0)
)
interesting &= (supported.stop[0] >= 7 * SHOWN) & (np.nanmin(record.count[0, 1:SHOWN], axis=0, initial=9.0) < 0.5)
unusual = np.square(effects).sum(axis=0) + np.where(interesting, 0.0, 1e3)
one = int(np.argmin(unusual))
sigma = float(np.asarray(theta["sigma_anc"])[middle[0]])
print(
    f"region {REGIONS[region[one]]}; in SD between patients: "
    + ", ".join(f"{name} {value:+.1f}" for name, value in zip(EFFECTS, effects[:, one], strict=True))
)


def draw_course(axes: Axes, r, colour: str) -> None:
    """Draw latent ANC, counts and holds of the patient."""
    latent = r.anc[0, :SHOWN, :, one].ravel()
    for week in np.flatnonzero(r.held[0, :SHOWN, one]):
        axes.axvspan(7 * week, 7 * week + 7, color=ORANGE, alpha=0.22, lw=0)
    axes.fill_between(
        days, latent * np.exp(-1.645 * sigma), latent * np.exp(1.645 * sigma), color=colour, alpha=0.18, lw=0
    )
    axes.plot(days, latent, color=colour, lw=1.5)
    count, extra = r.count[0, :SHOWN, one], r.unscheduled[0, :SHOWN, one]
    at = 7 * np.arange(SHOWN)
    axes.plot(at[~extra], count[~extra], "o", color="black", ms=4)
    axes.plot(at[extra], count[extra], "o", color="black", mfc="white", ms=4)
    for limit, text in ((1.0, "grade 3"), (0.5, "grade 4")):
        axes.axhline(limit, color="0.3", lw=0.8, ls="--")
        axes.annotate(
            f"{text}\n< {limit}", (1.005, limit), xycoords=("axes fraction", "data"), va="center", fontsize=7.5
        )
    axes.set_yscale("log")
    axes.set_ylim(0.1, 12)
    axes.set_yticks([0.1, 0.5, 1, 2, 5, 10], ["0.1", "0.5", "1", "2", "5", "10"])
    axes.set_ylabel("ANC, 10⁹/L", fontsize=9)


figure = new_figure(7.6)
top, bottom, doses = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.3])
draw_course(top, record, BLUE)
draw_course(bottom, record_gcsf, GREEN)
given = record_gcsf.gcsf[0, :SHOWN, :, one].ravel() > 0
bottom.plot(days[given], np.full(given.sum(), 9.0), "|", color=PURPLE, ms=7)
for r, colour, line in ((record, BLUE, "-"), (record_gcsf, GREEN, "--")):
    doses.step(days, r.dose[0, :SHOWN, :, one].ravel(), line, where="post", color=colour, lw=1.4)
doses.set_ylabel("dose taken, mg", fontsize=9)
doses.set_ylim(0, 1.1)
doses.set_xlabel("days since the first dose", fontsize=9)
doses.set_xticks(np.arange(0, 7 * SHOWN + 1, 28))
doses.set_xlim(0, 7 * SHOWN)
top.set_title("1.0 mg 21/28 with the trial's dose rules", fontsize=9.5)
bottom.set_title(
    "the same with reactive G-CSF — extrapolated: its effect rests on priors, no data of this drug", fontsize=9.5
)
for axes in (top, bottom, doses):
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
handles = [
    Line2D([], [], color=BLUE, lw=1.5, label="ANC, dose"),
    Line2D([], [], color=GREEN, lw=1.5, ls="--", label="with G-CSF"),
    Patch(color=BLUE, alpha=0.25, label="90 % of counts"),
    Line2D([], [], ls="", marker="o", color="black", ms=4, label="scheduled count"),
    Line2D([], [], ls="", marker="o", color="black", mfc="white", ms=4, label="count on hold"),
    Patch(color=ORANGE, alpha=0.3, label="week on hold"),
    Line2D([], [], ls="", marker="|", color=PURPLE, ms=8, label="G-CSF day"),
]
figure.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=7.5, frameon=False)
figure.suptitle("One virtual patient, one posterior draw", fontsize=11)
show(
    figure.savefig,
    alt="ANC, counts, holds, doses and G-CSF of one virtual patient over 26 weeks, without and with G-CSF",
)

# %% [markdown]
# ## The same patient under the whole posterior
#
# The patient keeps their characteristics (as multiples of the spread between patients) in every draw; the draws differ in what
# the drug and the marrow do. The course above is one of these: even a patient of known characteristics has no single future.

# %%
every = np.arange(len(z))
ours, course = run(trial, every, np.array([one]))
anc = course.anc[:, :SHOWN, :, 0].reshape(len(z), -1)
held = 100.0 * course.held[:, :SHOWN, 0].mean(axis=0)
half = 164.5 * np.sqrt(np.maximum(held * (100.0 - held), 1e-9) / len(z)) / 100.0
figure = new_figure(5.4)
upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
q05, q25, q50, q75, q95 = np.quantile(anc, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
upper.fill_between(days, q05, q95, color=BLUE, alpha=0.18, lw=0, label="90 % interval")
upper.fill_between(days, q25, q75, color=BLUE, alpha=0.38, lw=0, label="50 % interval")
upper.plot(days, q50, color=BLUE, lw=1.6, label="median")
for limit, text in ((1.0, "grade 3"), (0.5, "grade 4")):
    upper.axhline(limit, color="0.3", lw=0.8, ls="--")
    upper.annotate(f"{text}\n< {limit}", (1.005, limit), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
upper.set_yscale("log")
upper.set_yticks([0.1, 0.5, 1, 2, 5, 10], ["0.1", "0.5", "1", "2", "5", "10"])
upper.set_ylim(0.08, 12)
upper.set_ylabel("ANC, 10⁹/L", fontsize=9)
upper.legend(fontsize=8, frameon=False, loc="upper right", ncols=3)
at = 7 * np.arange(SHOWN) + 3.5
lower.bar(at, held, width=6, color=ORANGE, alpha=0.5)
lower.errorbar(at, held, yerr=[np.minimum(half, held), half], fmt="none", ecolor="0.3", lw=0.8)
lower.set_ylabel("on hold, %\nof draws", fontsize=9)
lower.set_xlabel("days since the first dose", fontsize=9)
lower.set_xlim(0, 7 * SHOWN)
lower.set_xticks(np.arange(0, 7 * SHOWN + 1, 28))
for axes in (upper, lower):
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
figure.suptitle(
    f"The same virtual patient in {len(z)} posterior draws, 1.0 mg 21/28 (bars: 90 % Monte Carlo error)", fontsize=10.5
)
show(figure.savefig, alt="Posterior of one virtual patient's ANC over 26 weeks, and the share of draws on hold by week")

# %% [markdown]
# ## What drives whom
#
# For each characteristic: the quarter of patients with the highest value against the quarter with the lowest, difference within
# draw. Characteristics are independent of each other in the model, so each difference is its own effect. Infection frailty is
# left out: it is not known before the infection.

# %%
DRIVERS = {
    "exposure": "exposure to the drug",
    "anc0": "baseline ANC",
    "maturation": "speed of maturation",
    "intensity": "share of the dose taken\n(other causes)",
    "progression": "frailty of progression",
}
many = np.random.default_rng(6).standard_normal((len(z), len(EFFECTS), 4 * PATIENTS if not QUICK else PATIENTS))
where = np.random.default_rng(7).choice(len(REGIONS), many.shape[-1], p=np.array(design.mezikd.regions) / 288)
keys = jax.random.split(jax.random.key(8), len(z))
plan = plan_of(trial, WEEKS)
batches = [
    simulate_batch(
        Batch({k: np.asarray(v)[i : i + 8] for k, v in theta.items()}, many[i : i + 8], where, keys[i : i + 8]),
        plan,
        form_of(design),
    )
    for i in range(0, len(z), 8)
]
h = jax.tree.map(lambda *x: np.concatenate(x), *batches)
recorded = np.minimum(h.stop + 28.0, np.minimum(h.death, h.cutoff))
OUTCOMES = {
    "lowest ANC of cycle 1\n(10⁹/L)": np.asarray(h.nadir_cycle1),
    "held for neutropenia\n(points of %)": 100.0 * (h.first_hold <= recorded),
    "relative dose intensity\n(points of %)": 100.0 * h.given / np.maximum(h.planned, 1e-9),
    "infection grade ≥3\n(points of %)": 100.0 * (h.severe <= recorded),
}


def contrast(outcome: np.ndarray, driver: np.ndarray) -> np.ndarray:
    """Return draws of the mean in the highest quarter of ``driver`` minus that in the lowest, patients' noise taken out."""
    n = outcome.shape[-1]

    def one_part(part: slice) -> np.ndarray:
        x, y = driver[:, part], outcome[:, part]
        cut = np.quantile(x, (0.25, 0.75), axis=-1)[..., None]
        high, low = (np.where(inside, y, np.nan) for inside in (x >= cut[1], x <= cut[0]))
        return np.nanmean(high, axis=-1) - np.nanmean(low, axis=-1)

    return population_draws(Estimates(*(one_part(p) for p in (slice(None), slice(0, n // 2), slice(n // 2, None)))))


figure = new_figure(3.9)
cells = figure.subplots(1, len(OUTCOMES), sharey=True)
summary = {}
for axes, (title, outcome) in zip(cells, OUTCOMES.items(), strict=True):
    axes.axvline(0.0, color="0.4", lw=0.8)
    for y, name in enumerate(DRIVERS):
        a, b, c, d, e = quantiles(contrast(outcome, many[:, EFFECTS.index(name)]))
        axes.plot([a, e], [y, y], color=BLUE, lw=1.3)
        axes.plot([b, d], [y, y], color=BLUE, lw=5, alpha=0.5, solid_capstyle="butt")
        axes.plot(c, y, "o", color=BLUE, ms=5)
        summary.setdefault(title.replace("\n", " "), {})[DRIVERS[name].replace("\n", " ")] = (
            f"{c:+.2g} ({a:+.2g} to {e:+.2g})"
        )
    axes.set_title(title, fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="0.93", lw=0.6)
    axes.locator_params(axis="x", nbins=4)
    axes.spines[["top", "right"]].set_visible(False)
cells[0].set_yticks(range(len(DRIVERS)), list(DRIVERS.values()), fontsize=8.5)
cells[0].set_ylim(len(DRIVERS) - 0.5, -0.5)
months = round(WEEKS * 7 / 30.4375)
figure.suptitle(
    f"Highest minus lowest quarter of patients, 1.0 mg 21/28, {months} months: median, 50 and 90 % interval",
    fontsize=10,
)
show(
    figure.savefig,
    alt="Effect of each patient characteristic on nadir, holds, dose intensity and infection, with intervals",
)

# %%
pd.DataFrame(summary)

# %% [markdown]
# Baseline ANC and exposure decide about neutropenia, and through holds about dose intensity; the rules
# take dose from patients with much drug or few neutrophils. Between-patient spreads of exposure and of baseline ANC come from
# other drugs and trials (see `01_explore_the_posterior`): the order of the drivers rests partly on those priors.
