"""Progression, death and stop: weekly states against a Markov chain; medians; the Cox root."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from mezikd.model import progression
from mezikd.model.parameters import DECLARED, free, natural
from mezikd.model.progression import WEEK_MONTHS, Hazards
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.stats import norm

WEEKS = 80
WEEKLY = Hazards(on=0.012, off=0.02, death=0.004, stop=0.01, effect_loss=0.25)
"""About the model's own size: a tenth a month, the effect gone within weeks."""
DEATH_AFTER = 0.015


def weekly_states(h: Hazards, weeks: int, steps: int = 1):
    """Return states and the probabilities of each exit of one patient, in ``weeks`` weeks of ``steps`` steps."""
    n, per_step = weeks * steps, Hazards(*(jnp.asarray(x) / steps for x in h))
    on, off, death = (jnp.full((n, 1), x) for x in per_step[:3])
    states = progression.states(Hazards(on, off, death, jnp.full(1, per_step.stop), per_step.effect_loss))
    progressed, died = progression.exits(states.free(), death)
    after = progression.alive_after(progressed, DEATH_AFTER / steps)
    return states, after, progressed, died


def generator(h: Hazards) -> np.ndarray:
    """Rates of the chain on, carried, off, progressed alive; then counts: progression, deaths free, after."""
    q = np.zeros((7, 7))
    for i, leave, progress, to in ((0, h.stop, h.on, 1), (1, h.effect_loss, h.on, 2), (2, 0.0, h.off, 2)):
        q[i, i] -= leave + progress + h.death
        q[i, to] += leave
        q[i, 3] += progress
        q[i, 4] += progress
        q[i, 5] += h.death
    q[3, 3] -= DEATH_AFTER
    q[3, 6] += DEATH_AFTER
    return q


def markov(h: Hazards, times) -> np.ndarray:
    """Return the chain's state and counts at ``times``, from everyone on treatment."""
    start = np.eye(7)[0]
    return np.array([start @ expm(generator(h) * t) for t in times])


def states_and_counts(h: Hazards, weeks: int, steps: int = 1) -> np.ndarray:
    """Return the package's counterpart of ``markov`` after each week."""
    states, after, progressed, died = weekly_states(h, weeks, steps)
    gone = np.cumsum(progressed - np.diff(after, axis=0), axis=0)
    counts = [np.cumsum(x, axis=0) for x in (progressed, died)]
    columns = [*(x[1:] for x in states), after[1:], *counts, gone]
    return np.stack([np.asarray(x)[steps - 1 :: steps, 0] for x in columns], axis=1)


def test_recursion_and_its_gradient():
    """Against the explicit lower triangle of powers of ``keep``, alone and for several at once."""
    rng = np.random.default_rng(4)
    x, weight, keep = rng.normal(size=(9, 3)), rng.normal(size=(10, 3)), 0.7
    power = np.arange(10)[:, None] - np.arange(9)[None] - 1
    triangle = np.where(power >= 0, keep ** np.maximum(power, 0), 0.0)
    slope = np.where(power >= 1, power * keep ** np.maximum(power - 1, 0), 0.0)
    np.testing.assert_allclose(progression.recursion(x, keep), triangle @ x, rtol=1e-14)
    np.testing.assert_allclose(progression.running_sum(x)[1:], np.cumsum(x, axis=0), rtol=1e-13)

    def loss(x, keep):
        return (weight * progression.recursion(x, keep)).sum()

    by_x, by_keep = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, keep)
    np.testing.assert_allclose(by_x, triangle.T @ weight, rtol=1e-13)
    np.testing.assert_allclose(by_keep, (weight * (slope @ x)).sum(), rtol=1e-13)
    several = jax.vmap(jax.grad(loss), in_axes=(0, None))(np.stack([x, 2.0 * x]), keep)
    np.testing.assert_allclose(several, np.stack([by_x, by_x]), rtol=1e-13)


def test_states_follow_the_continuous_chain():
    """Of second order in the week, and small."""
    exact = markov(WEEKLY, np.arange(1, WEEKS + 1))
    whole = np.abs(states_and_counts(WEEKLY, WEEKS) - exact)
    half = np.abs(states_and_counts(WEEKLY, WEEKS, 2) - exact)
    assert whole.max() < 2e-5, f"largest difference {whole.max(axis=0)}"
    assert whole.max() / half.max() > 3.0


@pytest.mark.parametrize("stop", [0.0, 0.01, 0.25, 0.9])
def test_time_with_the_effect_is_exact(stop):
    """On treatment and carried, also where the stop rate equals that of the loss of the effect."""
    h = WEEKLY._replace(stop=stop)
    exact = markov(h, np.arange(WEEKS + 1))
    states, *_ = weekly_states(h, WEEKS)
    np.testing.assert_allclose(states.on[:, 0], exact[:, 0], atol=1e-12)
    np.testing.assert_allclose(states.carried[:, 0], exact[:, 1], atol=1e-12)
    slope = jax.grad(lambda s: weekly_states(WEEKLY._replace(stop=s), WEEKS)[0].free().sum())(stop)
    assert np.isfinite(slope)


def test_hazards_that_empty_a_state_at_once_stay_finite():
    h = Hazards(*(jnp.full((WEEKS, 1), x) for x in (400.0, 900.0, 50.0)), jnp.full(1, 0.1), jnp.asarray(0.25))
    states = progression.states(h)
    for x in (*states, *progression.exits(states.free(), h.death)):
        assert np.isfinite(x).all() and (np.asarray(x) >= 0.0).all() and (np.asarray(x) <= 1.0).all()


def test_nobody_is_lost():
    states, after, progressed, died = weekly_states(WEEKLY, WEEKS)
    free = states.free()
    np.testing.assert_allclose(free[:-1] - free[1:], progressed + died, atol=1e-15)
    assert all((np.asarray(x) >= 0.0).all() for x in (*states, after, progressed, died))
    assert (np.diff(after, axis=0) <= np.asarray(progressed)).all()


def test_median_time():
    """Exact for a constant hazard between the times and beyond them; the crossing of a bent curve."""
    times = jnp.arange(0.0, 20.0)
    assert float(progression.median_time(times, -0.11 * times)) == pytest.approx(np.log(2.0) / 0.11)
    assert float(progression.median_time(times, -0.02 * times)) == pytest.approx(np.log(2.0) / 0.02)
    assert float(progression.median_time(times, -5.0 * times)) == pytest.approx(np.log(2.0) / 5.0)
    shape = 1.7
    cumulative = (times / 9.0) ** shape
    exact = 9.0 * np.log(2.0) ** (1.0 / shape)
    assert float(progression.median_time(times, -cumulative)) == pytest.approx(exact, abs=0.01)


def test_median_time_gradient():
    """In the rate of a constant hazard: -ln 2 / h^2, on the grid and beyond it."""
    times = jnp.arange(0.0, 20.0)
    for h in (0.11, 0.02):
        slope = jax.grad(lambda x: progression.median_time(times, -x * times))(h)
        np.testing.assert_allclose(slope, -np.log(2.0) / h**2, rtol=1e-10)


@pytest.mark.parametrize("shape", [0.7, 1.0, 1.4])
def test_baseline_hazard_adds_up_to_the_weibull(shape):
    theta = {"progression_rate": jnp.asarray(0.08), "progression_shape": jnp.asarray(shape)}
    h = progression.baseline_hazard(theta, 132)
    t = np.arange(1, 133) * WEEK_MONTHS
    np.testing.assert_allclose(np.cumsum(h), 6.0 * 0.08 * (t / 6.0) ** shape, rtol=1e-12)
    assert (h > 0.0).all()
    slopes = jax.jacobian(lambda x: progression.baseline_hazard(x, 132))(theta)
    assert all(np.isfinite(x).all() for x in slopes.values())


def test_follow_up_is_log_normal():
    theta = {"followup_months": jnp.asarray(12.0), "followup_sd": jnp.asarray(0.5)}
    months = np.array([1.0, 6.0, 12.0, 30.0])
    p = norm.sf(np.log(months / 12.0) / 0.5)
    np.testing.assert_allclose(progression.in_follow_up(theta, months), p, rtol=1e-10)
    np.testing.assert_allclose(progression.in_follow_up(theta, 0.0), 1.0, rtol=1e-12)


def test_reference_effect_at_the_priors_centre():
    """Between 0 and 1, larger for a more potent drug."""
    theta = natural(jnp.zeros(len(free(DECLARED))))
    weak = progression.reference_effect(theta | {"ec50_tumour": 2.0 * theta["ec50_tumour"]})
    assert 0.0 < float(weak) < float(progression.reference_effect(theta)) < 1.0


SHARES = np.array([191.0, 288.0]) / 479.0


def two_arms(log_hr=-0.7, frailty=0.5, weeks=90):
    """Weekly at-risk and event probabilities of two arms; a frailty bends the hazard ratio."""
    z = norm.ppf((np.arange(200) + 0.5) / 200)
    h = 0.025 * np.exp(frailty * z)[None, :, None] * np.exp(np.array([0.0, log_hr]))[:, None, None]
    s = np.exp(-h * np.arange(weeks + 1)).mean(axis=1)
    in_study = norm.sf(np.log(np.maximum(np.arange(weeks), 1e-9) / 50.0) / 0.5)
    return s[:, :-1] * in_study, (s[:, :-1] - s[:, 1:]) * in_study


def test_cox_root_solves_the_score_equation():
    at_risk, events = two_arms()
    n, d = at_risk * SHARES[:, None], events * SHARES[:, None]

    def score(beta):
        w = n[1] * np.exp(beta)
        return d[1].sum() - (d.sum(axis=0) * w / (w + n[0])).sum()

    ours = progression.cox_log_hazard_ratio(*map(jnp.asarray, (at_risk, events, SHARES)))
    np.testing.assert_allclose(ours, brentq(score, -3.0, 3.0, xtol=1e-13), atol=1e-9)


def test_cox_root_is_what_a_large_trial_tends_to():
    """Against lifelines on 40,000 simulated patients with week-long intervals split at random."""
    at_risk, events = two_arms()
    rng = np.random.default_rng(8)
    rows = []
    for arm, share in enumerate(SHARES):
        n = round(40_000 * share)
        hazard = 0.025 * np.exp(0.5 * rng.standard_normal(n)) * (np.exp(-0.7) if arm else 1.0)
        event_at = rng.exponential(1.0 / hazard)
        end = np.minimum(50.0 * np.exp(0.5 * rng.standard_normal(n)), 90.0)
        time = np.minimum(event_at, end)
        rows.append(pd.DataFrame({"time": time, "event": event_at <= end, "arm": float(arm)}))
    fitted = CoxPHFitter().fit(pd.concat(rows), "time", "event")
    ours = float(progression.cox_log_hazard_ratio(*map(jnp.asarray, (at_risk, events, SHARES))))
    error = (ours - fitted.params_["arm"]) / fitted.standard_errors_["arm"]
    assert abs(error) < 4.0, f"{error:.1f} standard errors"
    # The frailty shows: the marginal hazard ratio is nearer to 1 than the conditional one.
    assert -0.68 < ours < -0.5


def test_cox_gradient_is_that_of_the_root():
    at_risk, events = map(jnp.asarray, two_arms())
    rng = np.random.default_rng(9)
    by_risk, by_event = (0.1 * rng.random(at_risk.shape) * x for x in (at_risk, events))

    def root(x):
        return progression.cox_log_hazard_ratio(at_risk + x * by_risk, events + x * by_event, SHARES)

    slope = jax.grad(root)(0.0)
    difference = (root(1e-4) - root(-1e-4)) / 2e-4
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    assert np.isfinite(slope)
