"""Hold, resume, reduce: the exact rules by hand, and their mean-field version against many exact patients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import holds, rules
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Scenario

AS_FITTED = plan_of(Scenario(), 1).holds
RULE = rules.HoldRule(jnp.asarray(0.35), jnp.asarray(0.6), jnp.asarray(0.3))
LEVELS = 3
LOG = np.log


def advance_exact(state, log_count, u_hold, u_reduce, rule, due, levels):
    """Return the state after a count under the trial's own rules."""
    seen = holds.Counted(log_count, u_hold, u_reduce, jnp.zeros_like(state.held))
    chances = rule.hold_grade3, rule.reduce_after_hold
    return holds.advance(state, 0.0, seen, due > 0, AS_FITTED, levels - 1, *chances)


def ledgers(counts, due, u_hold=0.99, u_reduce=0.0, rule=RULE) -> list[tuple[int, bool]]:
    """Return (level, on hold) of one patient after each dictated count."""
    state, out = holds.start(1), []
    for count, now in zip(counts, due, strict=True):
        log_count, u_h, u_r = (jnp.full(1, x) for x in (LOG(count), u_hold, u_reduce))
        state = advance_exact(state, log_count, u_h, u_r, rule, now, LEVELS)
        out.append((int(state.level[0]), bool(state.held[0])))
    return out


def test_grade_4_holds_and_recovery_resumes_one_level_lower():
    counts = [3.0, 0.49, 0.6, 0.99, 1.01, 2.0]
    expected = [(0, False), (0, True), (0, True), (0, True), (1, False), (1, False)]
    assert ledgers(counts, [1, 1, 1, 1, 1, 1]) == expected


def test_grade_3_holds_by_chance_and_grade_2_never():
    assert ledgers([0.7], [1], u_hold=0.36) == [(0, False)]
    assert ledgers([0.7], [1], u_hold=0.34) == [(0, True)]
    assert ledgers([1.01], [1], u_hold=0.0) == [(0, False)]
    assert ledgers([0.49], [1], u_hold=1.0) == [(0, True)]


def test_no_hold_where_no_dose_is_due_but_counts_end_one():
    """A count in the rest week starts no hold; while on hold every weekly count may end it."""
    assert ledgers([0.2, 0.2, 1.5], [0, 1, 0]) == [(0, False), (0, True), (1, False)]


def test_level_stays_without_the_reduction_and_stops_at_the_lowest():
    up_and_down = [0.2, 1.5] * 4
    due = [1] * 8
    assert [x for x, _ in ledgers(up_and_down, due, u_reduce=0.61)] == [0] * 8
    assert [x for x, _ in ledgers(up_and_down, due, u_reduce=0.59)] == [0, 1, 1, 2, 2, 2, 2, 2]


def test_a_count_that_resumes_does_not_hold_again():
    """One count a visit: a patient who resumes at it takes the dose."""
    assert ledgers([0.2, 1.0, 0.2], [1, 1, 1]) == [(0, True), (1, False), (1, True)]


def test_hold_probability_is_the_frequency_of_holds():
    """Against counts drawn one by one, and at its ends."""
    rng = np.random.default_rng(1)
    n = 200_000
    for anc in (0.4, 0.8, 1.4):
        log_count = LOG(anc) + 0.3 * rng.standard_normal(n)
        state = holds.start(n)
        after = advance_exact(state, log_count, rng.random(n), rng.random(n), RULE, 1, LEVELS)
        p = float(rules.hold_probability(LOG(anc), RULE))
        assert abs(float(after.held.mean()) - p) < 4.0 * np.sqrt(p * (1.0 - p) / n)
    assert float(rules.hold_probability(LOG(1e3), RULE)) == pytest.approx(0.0, abs=1e-12)
    assert float(rules.hold_probability(LOG(1e-3), RULE)) == pytest.approx(1.0, abs=1e-12)


def test_one_level_lower():
    x = jnp.asarray([[0.5], [0.2], [0.1]])
    np.testing.assert_allclose(rules.one_level_lower(x), [[0.0], [0.5], [0.3]])
    np.testing.assert_allclose(rules.one_level_lower(jnp.asarray([[0.4]])), [[0.4]])


def mean_field(log_anc, due, rule, levels=LEVELS):
    """Return per week (never, dosing by level, held by level) on a fixed path that no dose moves."""
    state, never, out = rules.nobody_held(levels, 1), jnp.ones(1), []
    for x, now in zip(log_anc, due, strict=True):
        count = rules.chances(jnp.full(1, x), rule)
        first_hold = count.hold * now
        joining = never * first_hold
        state = rules.advance(state, count, joining, first_hold, rule, now)
        never = never - joining
        out.append(np.concatenate([never, state.dosing[:, 0], state.held[:, 0]]))
    return np.array(out)


def many_exact(log_anc, due, rule, patients, seed, levels=LEVELS):
    """Return the same shares over patients followed one by one."""
    key = jax.random.key(seed)
    state = holds.start(patients)
    ever, out = jnp.zeros(patients, bool), []
    for i, (x, now) in enumerate(zip(log_anc, due, strict=True)):
        k = jax.random.split(jax.random.fold_in(key, i), 3)
        count = x + rule.sigma * jax.random.normal(k[0], (patients,))
        u = [jax.random.uniform(j, (patients,)) for j in k[1:]]
        state = advance_exact(state, count, *u, rule, now, levels)
        ever = ever | state.held
        shares = [(~ever).mean()]
        for held in (False, True):
            group = ever & (state.held == held)
            shares += [(group & (state.level == j)).mean() for j in range(levels)]
        out.append(shares)
    return np.array(out, float)


# Down to a nadir, back, and down again; no dose due in the rest weeks.
PATH = LOG([3.0, 1.4, 0.9, 0.7, 0.5, 0.6, 0.9, 1.3, 1.0, 0.8, 0.6, 1.1])
DUE = [0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0]


OTHER_RULES = [rules.HoldRule(*map(jnp.asarray, x)) for x in ((0.9, 0.2, 0.15), (0.0, 1.0, 0.5))]


@pytest.mark.parametrize("rule", [RULE, *OTHER_RULES])
def test_mean_field_is_the_mean_of_exact_patients_on_a_fixed_path(rule):
    n = 100_000
    ours, exact = mean_field(PATH, DUE, rule), many_exact(PATH, DUE, rule, n, 2)
    error = np.abs(ours - exact) / np.sqrt(np.maximum(ours * (1.0 - ours), 1e-4) / n)
    assert error.max() < 4.5, f"{error.max():.1f} Monte Carlo standard errors"
    # The comparison has power: most levels are visited.
    assert (exact.max(axis=0) > 0.01).sum() >= 5


def test_occupancy_sums_to_the_probability_of_ever_held():
    out = mean_field(PATH, DUE, RULE)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, rtol=1e-13)
    assert (out >= 0.0).all()
    never = out[:, 0]
    assert (np.diff(never) <= 1e-15).all() and never[-1] < 0.5


def test_rest_weeks_join_nobody():
    """Where no dose is due nobody is held for the first time."""
    out = mean_field(PATH, np.zeros(len(PATH)), RULE)
    np.testing.assert_array_equal(out[:, 0], 1.0)
    np.testing.assert_array_equal(out[:, 1:], 0.0)
