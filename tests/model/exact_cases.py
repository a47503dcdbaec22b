"""Exact patients for tests: one cohort, one horizon, one compiled program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.exact import Batch, Form, History, Realised, Record, simulate_batch
from mezikd.model.parameters import DECLARED, REGIONS, free, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Scenario

PATIENTS, WEEKS = 64, 24
REGION = np.arange(PATIENTS) % len(REGIONS)
Z = np.random.default_rng(5).standard_normal((len(EFFECTS), PATIENTS))
POTENT = {"ec50": 0.1}
"""Most patients become neutropenic."""
TREATED = {
    "stop_rate_mezikd": 1e-9, "stop_rate_kd": 1e-9, "death_rate": 1e-9, "progression_rate": 1e-9, "infection_fatal": 1e-9,
}  # fmt: skip
"""Everybody stays on treatment."""


@functools.cache
def prior_median() -> dict:
    """Return the parameters at the prior median."""
    return natural(jnp.zeros(len(free(DECLARED))))


def run(scenario: Scenario, changes=None, realised=None, key: int = 0) -> tuple[History, Record]:
    """Return history and record of the 64 at the prior median but for ``changes``, as numpy arrays."""
    leaves = prior_median() | {k: jnp.asarray(v, float) for k, v in (changes or {}).items()}
    theta = {k: jnp.asarray(v)[None] for k, v in leaves.items()}
    if realised is not None:
        realised = Realised(*(np.asarray(x)[None] for x in realised))
    keys, plan = jax.random.key(key)[None], plan_of(scenario, WEEKS)
    out = simulate_batch(Batch(theta, Z[None], REGION, keys, realised), plan, Form(record=True))
    return jax.tree.map(lambda x: np.asarray(x[0]), out)


def by_day(x):
    """Return a record's daily array with days and patients as axes."""
    return x.reshape(-1, x.shape[-1])
