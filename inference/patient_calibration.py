"""Calibration of fits to single patients: one simulated trial with a known truth, fitted as a user fits its tables.

The truth is drawn from the prior of fit.toml (parameters that it does not name stay at their declared centre: those of dose
rules, follow-up and drop-out too). The exact simulator makes a trial of it, `mezikd simulate`'s tables are written and read
again, and the fit is that of `mezikd fit`: the same start, sampler and gate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from mezikd.model.parameters import free, natural
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario
from mezikd.model.trial_design import ARMS, Design
from rich.console import Console

from .arrest_problem import WEEK, build, read_tables
from .arrest_results import reader
from .arrest_settings import ArrestFit
from .arrest_start import find_arrest_start
from .arrest_target import ArrestInputs, ArrestTarget
from .calibration import RANKED, Fitted
from .diagnostics import passes
from .patient_output import diagnosed
from .patient_posterior import Reader
from .patient_start import Gradient, scale_of
from .sampler import Draws, SamplerSettings
from .side_by_side import SideBySide
from .side_by_side_run import sample_side_by_side
from .virtual_tables import tables_of
from .virtual_trial import Order, VirtualTrial, simulated_at

VERSION = "patients"
EXACTLY = 1e-9
"""SD of the log of follow-up that is the same for all patients."""
SEED_STEP = 7919


@dataclass(frozen=True)
class TrialPlan:
    """What every simulated trial is like."""

    settings: ArrestFit
    design: Design
    """Of whom a trial is made: arms, regions, regimen, visits."""
    patients: int
    """Of both arms together, in the design's ratio."""
    cycles: int
    """Data cutoff of every patient."""
    seed: int

    @property
    def weeks(self) -> int:
        """Until the data cutoff."""
        return self.cycles * self.design.regimen.cycle_days // WEEK

    @property
    def of_drug(self) -> int:
        """Patients of the arm with mezigdomide."""
        a, b = self.design.mezikd.randomised, self.design.kd.randomised
        return round(self.patients * a / (a + b))


class PatientTrial(NamedTuple):
    """One trial: the truth of each estimated parameter, its ranked draws, and how the fit went."""

    truth: dict[str, float]
    fits: dict[str, Fitted]
    """By version: VERSION alone."""
    told: dict[str, Any]
    """counts, infections, progressions, deaths, gate (pass or fail), failed, max_rhat, min_ess_bulk, draws, gradients."""


def simulated(plan: TrialPlan, z: np.ndarray, index: int) -> VirtualTrial:
    """Return trial ``index``, at prior-scaled coordinates ``z``; its patients are those of the seed and the number."""
    months = plan.cycles * plan.design.regimen.cycle_days / DAYS_PER_MONTH
    theta = natural(z, plan.settings.declared) | {"followup_months": months, "followup_sd": EXACTLY}
    design = replace(plan.design, horizon_weeks=plan.weeks)
    scenario = Scenario(regimen=design.regimen)
    order = Order(plan.of_drug, ARMS, scenario, None, "random", plan.seed + SEED_STEP * (index + 1))
    return simulated_at(theta, design, order, f"calibration, trial {index}")


def written(trial: VirtualTrial, folder: Path) -> None:
    """Write the tables of a trial that a fit reads."""
    for name, table in tables_of(trial, "calibration").items():
        if name != "nonmem":
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def of_size(data: ArrestInputs, weeks: int) -> ArrestInputs:
    """Return ``data`` with room for ``weeks`` weeks and as many counts, so that one compiled program serves all trials.

    What is added is doses of 0 after all follow-up, and counts that are not there.
    """
    ledger, counts = data.ledger, data.counts
    more = weeks - ledger.dose.shape[0], weeks - counts.day.shape[1]
    if min(more) < 0:
        raise ValueError(
            f"a trial of {ledger.dose.shape[0]} weeks and {counts.day.shape[1]} counts a patient, room for {weeks}"
        )
    dose, going_on = (
        None if x is None else np.pad(x, ((0, more[0]), (0, 0), (0, 0))) for x in (ledger.dose, ledger.going_on)
    )
    padded = [np.pad(x, ((0, 0), (0, more[1]))) for x in counts]
    return data._replace(ledger=ledger._replace(dose=dose, going_on=going_on), counts=type(counts)(*padded))


def evenly(draws: Draws, size: int) -> np.ndarray:
    """Return ``size`` draws of all chains, as far from one another as can be, ``size coordinates``."""
    flat = draws.z.reshape(-1, draws.z.shape[-1])
    return flat[np.linspace(0, len(flat) - 1, size).astype(int)]


@dataclass(frozen=True)
class PatientCalibrator:
    """Everything compiled that one trial's fit needs; shared by the threads of a process."""

    plan: TrialPlan
    target: ArrestTarget
    gradient: Gradient
    sampler: SideBySide
    sampling: SamplerSettings
    reader: Reader

    @classmethod
    def build(cls, plan: TrialPlan) -> "PatientCalibrator":
        """Compile; shapes are those of a first trial at the prior's centre.

        Chains go on until the gate is passed, as fit.toml allows.
        """
        sampling = SamplerSettings(**plan.settings.sampler.model_dump(exclude={"method"}))
        target, data = problem_of(plan, simulated(plan, np.zeros(len(free(plan.settings.declared))), -1))
        gradient = Gradient(target, data)
        gradient(np.zeros(target.dimensions))
        size, along = (target.dimensions, target.shared_size), target.in_single().log_densities
        sampler = SideBySide(target.log_densities, sampling.chains, *size, gradient.data, along)
        return cls(plan, target, gradient, sampler, sampling, reader(target))

    def fit(self, index: int, truth: np.ndarray) -> PatientTrial:
        """Simulate and fit trial ``index`` with the truth at coordinates ``truth``; a pure function of both."""
        parameters = free(self.plan.settings.declared)
        target, data = problem_of(self.plan, simulated(self.plan, truth, index))
        if target != self.target:
            raise RuntimeError("the trial has other patients without a dose than the one that was compiled for")
        gradient = self.gradient.of(data)
        start = find_arrest_start(target, data, gradient)
        sampling = replace(self.sampling, seed=self.sampling.seed + index)
        scale, inputs = scale_of(start, target.shared_size), jax.tree.map(jnp.asarray, start.data)

        def posterior(z: np.ndarray) -> xr.Dataset:
            return self.reader.posterior(z, inputs, [str(i) for i in range(target.patients)])

        def enough(z: np.ndarray) -> bool:
            return passes(posterior(z))

        with TemporaryDirectory() as work:
            sampled = sample_side_by_side(
                self.sampler, sampling, scale, inputs, Path(work), Console(quiet=True), enough=enough
            )
        d = diagnosed(posterior(sampled.draws.z), sampled, start.gradients)

        def values(x: np.ndarray) -> dict[str, np.ndarray]:
            return {p.name: np.asarray(p.from_standard(x[..., i])) for i, p in enumerate(parameters)}

        chosen = values(np.asarray(target.prior_scaled(evenly(sampled.draws, RANKED))))
        fitted = Fitted(chosen, float(sampled.draws.accept.mean()), d.divergences)
        told = {
            "counts": int(data.counts.there.sum()), "infections": int(data.ledger.infected.sum()),
            "progressions": int(data.ledger.progressed.sum()),
            "deaths": int((data.deaths.before + data.deaths.after + data.deaths.fatal).sum()), "gate": d.gate, "failed": d.failed,
            "max_rhat": d.max_rhat, "min_ess_bulk": d.min_ess_bulk, "draws": d.chains * d.draws, "gradients": d.gradients,
        }  # fmt: skip
        return PatientTrial({n: float(x) for n, x in values(truth).items()}, {VERSION: fitted}, told)


def problem_of(plan: TrialPlan, trial: VirtualTrial) -> tuple[ArrestTarget, ArrestInputs]:
    """Return the log-density and what it is given, from the tables of ``trial`` as a user would read them."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        written(trial, folder)
        settings = plan.settings.model_copy(update={"tables": plan.settings.tables.model_copy(update={"file": "."})})
        target, data = build(folder, settings, read_tables(folder, settings))
    return target, of_size(data, plan.weeks + 1)


def trial_table(trials: Mapping[int, PatientTrial]) -> list[dict[str, Any]]:
    """Return the lines of trials.csv: how each fit went."""
    return [{"trial": i, **t.told} for i, t in sorted(trials.items())]
