"""A tumour effect without memory: it follows the week's own exposure and ends with treatment."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import fate, progression
from mezikd.model.chance import Chance
from mezikd.model.outcomes import Person, Weekly, tally
from mezikd.model.parameters import free, natural
from mezikd.model.progression import WEEK_MONTHS, Hazards
from scipy.linalg import expm

WEEKS, BUMP = 12, 4
BASE = 0.02
"""Progression hazard per week without effect."""


def weekly_hazards(block: np.ndarray, memory: bool) -> np.ndarray:
    """Return each week's hazard of progression or death on treatment, of one patient whom nothing else stops."""
    theta = natural(jnp.zeros(len(free()))) | {"infection_fatal": jnp.zeros(()), "death_rate": jnp.zeros(())}
    ones = jnp.ones((WEEKS, 1))
    weekly = Weekly(
        base_hazard=jnp.full(WEEKS, BASE), early=jnp.ones((WEEKS, 1)), follow_up=jnp.ones(WEEKS),
        follow_up_middle=jnp.ones(WEEKS), follow_up_next=jnp.ones(WEEKS), lost=ones, tumour_block=jnp.asarray(block)[:, None],
        infection=ones, infection_concurrent=0.0 * ones, grade3=0.0 * ones, hold=0.0 * ones, full_level=ones,
    )  # fmt: skip
    person = Person(jnp.ones(1), jnp.full(1, 1e-4), jnp.zeros(1), jnp.ones(1))
    out, _ = tally(weekly, person, theta, lambda x: x, lambda x: x, memory)
    return -np.diff(np.log(np.asarray(out.free[:, 0])))


def test_effect_follows_the_week_alone():
    """A week more or less of exposure changes that week's hazard and no other; with memory it changes the later ones."""
    theta = natural(jnp.zeros(len(free())))
    slope = float(theta["tumour_effect"] / progression.reference_effect(theta))
    block = np.full(WEEKS, 0.6)
    bumped = block.copy()
    bumped[BUMP] = 0.0
    plain, gap = (weekly_hazards(x, memory=False) for x in (block, bumped))
    np.testing.assert_allclose(plain, BASE * np.exp(-slope * 0.6), rtol=1e-9)
    assert gap[BUMP] == pytest.approx(BASE, rel=1e-9)
    np.testing.assert_allclose(np.delete(gap, BUMP), np.delete(plain, BUMP), rtol=1e-9)
    plain, gap = (weekly_hazards(x, memory=True) for x in (block, bumped))
    np.testing.assert_allclose(gap[:BUMP], plain[:BUMP], rtol=1e-9)
    assert (gap[BUMP:] > plain[BUMP:] * 1.001).all() and gap[BUMP] < 0.9 * BASE


def rates(h: Hazards) -> np.ndarray:
    """Return the generator of the chain on treatment, off it, progressed, dead: who stops loses the effect at once."""
    q = np.zeros((4, 4))
    q[0, 1:] = h.stop, h.on, h.death
    q[1, 2:] = h.off, h.death
    return q - np.diag(q.sum(axis=1))


def states_of(h: Hazards, steps: int) -> progression.States:
    """Return the states of one patient after 0, 1, ... 60 weeks of ``steps`` steps."""
    on, off, death = (jnp.full((60 * steps, 1), x / steps) for x in h[:3])
    found = progression.states(Hazards(on, off, death, jnp.full(1, h.stop / steps), None))
    return progression.States(*(x[::steps] for x in found))


@pytest.mark.parametrize("stop", [0.0, 0.02, 0.3])
def test_states_follow_the_continuous_chain(stop):
    """Time on treatment exactly; off it to second order in the week, and small at the model's own size (2 % a week)."""
    h = Hazards(on=0.012, off=0.02, death=0.004, stop=stop, effect_loss=None)  # type: ignore[arg-type]
    exact = np.array([np.eye(4)[0] @ expm(rates(h) * t) for t in range(61)])
    whole, half = states_of(h, 1), states_of(h, 2)
    assert (np.asarray(whole.carried) == 0.0).all()
    np.testing.assert_allclose(whole.on[:, 0], exact[:, 0], atol=1e-12)
    error, halved = (np.abs(np.asarray(x.off)[:, 0] - exact[:, 1]).max() for x in (whole, half))
    assert error < (2e-5 if stop < 0.1 else 2e-4)
    assert stop == 0.0 or error / halved > 3.0
    slope = jax.grad(lambda s: states_of(h._replace(stop=s), 1).free().sum())(stop)
    assert np.isfinite(slope)


def followed(memory: bool, patients: int = 40_000, weeks: int = 40) -> np.ndarray:
    """Return the phases of exact patients after ``weeks`` weeks under constant hazards."""
    theta = natural(jnp.zeros(len(free())))
    h = fate.hazards(theta, 0.03 / WEEK_MONTHS, memory)
    nobody = jnp.zeros(patients, bool)

    @jax.jit
    def all_weeks(key):
        def week(phase, w):
            event = fate.week(phase, 0.6, 0.02, nobody, 0.0, 7.0 * w, h, Chance(key, w, patients))
            return event.phase, None

        return jax.lax.scan(week, jnp.zeros(patients, int), jnp.arange(weeks))[0]

    return np.asarray(all_weeks(jax.random.key(2)))


def test_exact_patients_lose_the_effect_with_treatment():
    """Shares on treatment and off it as in the expectations, within four binomial standard errors and the week's step."""
    phase, theta = followed(memory=False), natural(jnp.zeros(len(free())))
    assert not (phase == fate.CARRIED).any() and (followed(memory=True) == fate.CARRIED).any()
    full = partial(jnp.full, (40, 1))
    h = fate.hazards(theta, 0.03 / WEEK_MONTHS, memory=False)
    reduced = 0.02 * float(jnp.exp(-h.effect * 0.6))
    states = progression.states(Hazards(full(reduced), full(0.02), full(float(h.death)), jnp.full(1, 0.03), None))
    for share, expected in (((phase == fate.TREATED).mean(), states.on), ((phase == fate.OFF).mean(), states.off)):
        p = float(expected[-1, 0])
        assert abs(share - p) < 4.0 * np.sqrt(p * (1.0 - p) / len(phase)) + 0.006, (share, p)
