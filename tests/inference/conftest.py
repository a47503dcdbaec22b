"""The built-in fit as a log-density, small enough for tests: 64 virtual patients, 32 of Kd."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.commands import built_in_fit
from mezikd.inference.likelihood import PROBABILITY, Target
from mezikd.inference.problem import load_problem, with_patients


class RecordedTarget(Target):
    """The log-density, which also gives away what it is made of: one compiled function serves every test."""

    def log_likelihood(self, e, data):
        record = {
            "terms": self.terms(e, data),
            "scores": self.row_scores(e, data.observed),
            "probability": {r.name: PROBABILITY[r.outcome](e, r) for r in self.evidence.fit if r.statistic == "count"},
        }
        object.__setattr__(self, "record", record)
        return super().log_likelihood(e, data)

    def recorded(self, z, data):
        """Return the log-density and its parts."""
        return self.log_density(z, data), self.record


def built_in_target(mezikd: int = 64, kd: int = 32) -> RecordedTarget:
    """Return the log-density of the built-in fit; reported numbers as if independent."""
    problem = load_problem(built_in_fit())
    target = with_patients(problem, mezikd, kd, problem.settings.patients.seed)
    return RecordedTarget(**{f.name: getattr(target, f.name) for f in fields(target) if f.init})


@pytest.fixture(scope="session")
def target() -> RecordedTarget:
    """The log-density of the built-in fit."""
    return built_in_target()


@pytest.fixture(scope="session")
def evaluate(target):
    """(z, data) -> ((log-density, parts), gradient), compiled once."""
    compiled = jax.jit(jax.value_and_grad(target.recorded, has_aux=True))

    def call(z, data=None):
        data = target.data if data is None else data
        return jax.tree.map(np.asarray, compiled(jnp.asarray(z, float), data))

    return call
