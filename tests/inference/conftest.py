"""The built-in fit as a log-density, small enough for tests: 64 virtual patients, 32 of Kd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.commands import built_in_fit
from mezikd.inference.evidence import load_evidence
from mezikd.inference.likelihood import PROBABILITY, Target, independent_block, survival_quantity
from mezikd.inference.settings import load_settings
from mezikd.model.parameters import DECLARED, REGIONS
from mezikd.model.regimen import Regimen, Visits
from mezikd.model.trial_design import Arm, Design


def design_of(settings) -> Design:
    """Return the design of the trial in ``settings``."""
    mezikd, kd = (
        Arm(arm.randomised, arm.treated, tuple(getattr(arm.regions, r) for r in REGIONS))
        for arm in (settings.trial.mezikd, settings.trial.kd)
    )
    given, visits = settings.regimen, settings.visits
    schedule = Visits(visits.weekly_cycles, tuple(visits.later_days))
    regimen = Regimen(given.dose_mg, given.days_on, given.cycle_days, tuple(given.levels_mg), schedule)
    return Design(mezikd, kd, regimen)


class RecordedTarget(Target):
    """The log-density, which also gives away what it is made of: one compiled function serves every test."""

    def terms(self, e, precision_root=None):
        out = super().terms(e, precision_root)
        record = {
            "terms": out,
            "survival": jnp.stack([survival_quantity(e, r) for r in self.survival.rows]),
            "probability": {
                r.name: PROBABILITY[r.outcome](e, r) for r in self.evidence.fit if r.statistic == "count"
            },
        }
        object.__setattr__(self, "record", record)
        return out

    def recorded(self, z, precision_root):
        """Return the log-density and its parts."""
        return self.log_density(z, precision_root), self.record


def built_in_target(mezikd: int = 64, kd: int = 32) -> RecordedTarget:
    """Return the log-density of the built-in fit; survival summaries as if independent."""
    settings = load_settings(built_in_fit())
    evidence, design = load_evidence(built_in_fit(), settings), design_of(settings)
    cohorts = [design.cohort(arm, n, settings.patients.seed) for arm, n in (("mezikd", mezikd), ("kd", kd))]
    return RecordedTarget(evidence, design, DECLARED, *cohorts, independent_block(evidence))


@pytest.fixture(scope="session")
def target() -> RecordedTarget:
    """The log-density of the built-in fit."""
    return built_in_target()


@pytest.fixture(scope="session")
def evaluate(target):
    """(z, root of the survival precision) -> ((log-density, parts), gradient), compiled once."""
    compiled = jax.jit(jax.value_and_grad(target.recorded, has_aux=True))

    def call(z, precision_root=None):
        root = target.survival.precision_root if precision_root is None else precision_root
        return jax.tree.map(np.asarray, compiled(jnp.asarray(z, float), jnp.asarray(root)))

    return call
