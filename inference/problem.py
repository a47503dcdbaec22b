"""From a fit folder to the log-density: settings, evidence, priors, design, virtual patients."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mezikd.model.parameters import DECLARED, Parameter, free, with_priors
from mezikd.model.regimen import Regimen, Visits
from mezikd.model.trial_design import Arm, Design

from .evidence import Evidence, load_evidence
from .likelihood import Target
from .priors import load_priors
from .settings import FitSettings, load_settings, with_overrides
from .variants import with_structure

FILES = ("fit.toml", "evidence.csv", "priors.csv")


@dataclass(frozen=True)
class Problem:
    """A fit, read and checked."""

    folder: Path
    settings: FitSettings
    evidence: Evidence
    parameters: tuple[Parameter, ...]

    @cached_property
    def design(self) -> Design:
        """What was given to whom, as the settings describe it."""
        return design_of(self.settings)

    @cached_property
    def target(self) -> Target:
        """The log-density, with its virtual patients: made when asked for, predictions do without."""
        p = self.settings.patients
        mezikd, kd = (self.design.cohort(arm, getattr(p, arm), p.seed) for arm in ("mezikd", "kd"))
        leave_out = self.settings.likelihood.leave_out
        return Target(self.evidence, self.design, self.parameters, mezikd, kd, leave_out)

    @property
    def free(self) -> tuple[Parameter, ...]:
        """The estimated parameters, in the order of the coordinates."""
        return free(self.parameters)

    def texts(self) -> dict[str, str]:
        """Return the contents of the fit's files, by name."""
        return {f: (self.folder / f).read_text("utf-8-sig") for f in FILES if (self.folder / f).exists()}


def design_of(settings: FitSettings) -> Design:
    """Return the design that the settings describe."""

    def arm(a) -> Arm:
        r = a.regions
        return Arm(a.randomised, a.treated, (r.usa, r.europe, r.asia, r.rest_of_world))

    g, m = settings.regimen, settings.model
    visits = Visits(settings.visits.weekly_cycles, settings.visits.later_days)
    return Design(
        mezikd=arm(settings.trial.mezikd),
        kd=arm(settings.trial.kd),
        regimen=Regimen(g.dose_mg, g.days_on, g.cycle_days, g.levels_mg, visits),
        structure_name=m.structure,
        tumour_memory=m.tumour == "memory",
        daily_weeks=m.daily_cycles * g.cycle_days // 7,
        steps_per_day=m.steps_per_day,
    )


def load_problem(
    folder: Path, overrides: Mapping[str, int | str] | None = None, settings: FitSettings | None = None
) -> Problem:
    """Return the fit in ``folder``; InputError where a file has a mistake. ``settings`` replace those of its fit.toml."""
    settings = with_overrides(load_settings(folder), overrides or {}) if settings is None else settings
    evidence = load_evidence(folder, settings)
    parameters = with_structure(with_priors(load_priors(folder, DECLARED)), settings.model)
    return Problem(folder, settings, evidence, parameters)


def with_patients(problem: Problem, mezikd: int, kd: int, seed: int) -> Target:
    """Return the same log-density over other virtual patients (to measure the integration error)."""
    design = problem.target.design
    return replace(
        problem.target,
        mezikd=design.cohort("mezikd", mezikd, seed),
        kd=design.cohort("kd", kd, seed),
    )
