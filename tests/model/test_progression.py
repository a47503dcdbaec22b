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
WEEKLY = Hazards(on=0.012, off=0.02, death=0.004, stop=0.01, effect_loss=0.25, death_after=0.015)
"""About the model's own size: a tenth a month, the effect gone within weeks."""


def weekly_states(h: Hazards, weeks: int):
    """Return states and events of ``weeks`` steps, shape ``(weeks, ...)``."""

    def week(s, _):
        after, events = progression.advance(s, h)
        return after, (after, events)

    return jax.lax.scan(week, progression.everyone_on(jnp.zeros(1)), None, weeks)[1]


def generator(h: Hazards) -> np.ndarray:
    """Rates of the chain on, carried, off, progressed alive; then counts: progression, deaths free, after."""
    q = np.zeros((7, 7))
    for i, leave, progress, to in ((0, h.stop, h.on, 1), (1, h.effect_loss, h.on, 2), (2, 0.0, h.off, 2)):
        q[i, i] -= leave + progress + h.death
        q[i, to] += leave
        q[i, 3] += progress
        q[i, 4] += progress
        q[i, 5] += h.death
    q[3, 3] -= h.death_after
    q[3, 6] += h.death_after
    return q


def markov(h: Hazards, times) -> np.ndarray:
    """Return the chain's state and counts at ``times``, from everyone on treatment."""
    start = np.eye(7)[0]
    return np.array([start @ expm(generator(h) * t) for t in times])


def states_and_counts(h: Hazards, weeks: int) -> np.ndarray:
    """Return the package's counterpart of ``markov`` after each week."""
    states, events = weekly_states(h, weeks)
    cumulative = [np.cumsum(x[:, 0]) for x in events]
    return np.stack([*(x[:, 0] for x in states), *cumulative], axis=1)


def test_weekly_states_follow_the_continuous_chain():
    """One exit a week is an approximation of first order: small, and half of that at half weeks."""
    times = np.arange(1, WEEKS + 1)
    exact = markov(WEEKLY, times)
    whole = np.abs(states_and_counts(WEEKLY, WEEKS) - exact)
    half_week = Hazards(*(0.5 * x for x in WEEKLY))
    half = np.abs(states_and_counts(half_week, 2 * WEEKS)[1::2] - exact)
    assert whole.max() < 0.005, f"largest difference {whole.max(axis=0)}"
    np.testing.assert_allclose(whole[:, 0], 0.0, atol=1e-12)
    assert 1.8 < whole.max() / half.max() < 2.2


def test_exact_where_the_order_of_exits_does_not_matter():
    """Time on treatment has a constant hazard; so has PFS where nobody stops treatment early."""
    t = np.arange(1, WEEKS + 1)
    for h in (WEEKLY, WEEKLY._replace(stop=0.0)):
        states, events = weekly_states(h, WEEKS)
        np.testing.assert_allclose(states.on[:, 0], np.exp(-(h.on + h.death + h.stop) * t), rtol=1e-12)
    np.testing.assert_allclose(states.free()[:, 0], np.exp(-(h.on + h.death) * t), rtol=1e-12)
    share = np.asarray(events.progressed / (events.progressed + events.died_free))
    np.testing.assert_allclose(share, h.on / (h.on + h.death), rtol=1e-12)


def test_nobody_is_lost():
    states, events = weekly_states(WEEKLY, WEEKS)
    dead = np.cumsum(events.died_free + events.died_after, axis=0)
    np.testing.assert_allclose(states.alive() + dead, 1.0, rtol=1e-12)
    progressed = np.cumsum(events.progressed - events.died_after, axis=0)
    np.testing.assert_allclose(states.progressed, progressed, rtol=1e-12)
    assert all((np.asarray(x) >= 0.0).all() for x in (*states, *events))


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
