"""The built-in fit as a log-density, small enough for tests: 64 virtual patients, 32 of Kd."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.commands import built_in_fit
from mezikd.inference.likelihood import PROBABILITY, Target, survival_quantity
from mezikd.inference.problem import load_problem, with_patients


class RecordedTarget(Target):
    """The log-density, which also gives away what it is made of: one compiled function serves every test."""

    def terms(self, e, precision_root=None):
        out = super().terms(e, precision_root)
        record = {
            "terms": out,
            "survival": jnp.stack([survival_quantity(e, r) for r in self.survival.rows]),
            "probability": {r.name: PROBABILITY[r.outcome](e, r) for r in self.evidence.fit if r.statistic == "count"},
        }
        object.__setattr__(self, "record", record)
        return out

    def recorded(self, z, precision_root):
        """Return the log-density and its parts."""
        return self.log_density(z, precision_root), self.record


def built_in_target(mezikd: int = 64, kd: int = 32) -> RecordedTarget:
    """Return the log-density of the built-in fit; survival summaries as if independent."""
    problem = load_problem(built_in_fit())
    target = with_patients(problem, mezikd, kd, problem.settings.patients.seed)
    return RecordedTarget(**{f.name: getattr(target, f.name) for f in fields(target) if f.init})


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
