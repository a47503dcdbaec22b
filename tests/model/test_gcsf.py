"""G-CSF: steady without it, ANC up with it, the block still at work, and given on the days the policy says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import PATIENTS, POTENT, TREATED, WEEKS, by_day, prior_median, run
from mezikd.model import gcsf
from mezikd.model.history import NEVER
from mezikd.model.neutrophils import Support
from mezikd.model.parameters import DECLARED, SUPPORT, free, natural
from mezikd.model.regimen import Regimen
from mezikd.model.scenario import Gcsf, Scenario
from mezikd.model.structures import STRUCTURES

NONE, SOME = Support(*(jnp.ones(()),) * 3), Support(*map(jnp.asarray, (4.0, 2.5, 3.0)))
FIXED = POTENT | TREATED


@functools.partial(jax.jit, static_argnames=("name", "days", "before"))
def chain_under(name, theta, support, block, days: int, before: int = 0):
    """Return log blood by day and the last chain, the arrest (or the kill) standing still at ``block``.

    ``support`` begins after ``before`` days without it.
    """
    structure = STRUCTURES[name]
    marrow = structure.rates(theta, jnp.ones(block.shape))
    constants = structure.prepare(marrow, jnp.asarray(0.7), 1.0)

    def step(support, chain):
        args = chain, block, block, block, constants
        chain = structure.advance(*args) if support is None else structure.advance_supported(*args, support)
        return chain, structure.blood(chain, marrow)

    first = structure.baseline(marrow, block.shape)
    first, _ = jax.lax.scan(lambda chain, _: step(None, chain), first, length=before)
    last, blood = jax.lax.scan(lambda chain, _: step(support, chain), first, length=days)
    return jnp.log(blood), last


@pytest.mark.parametrize("name", STRUCTURES)
def test_no_effect_is_the_chain_without(name):
    block = jnp.asarray([0.0, 0.5, 0.8])
    plain, _ = chain_under(name, prior_median(), None, block, 60)
    ours, _ = chain_under(name, prior_median(), NONE, block, 60)
    np.testing.assert_allclose(ours, plain, atol=1e-11)
    np.testing.assert_allclose(plain[:, 0], 0.0, atol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_steady_state_without_drug(name):
    """The marrow releases s_P times as much; maturing pools settle at s_P / s_T; the arrest structure fills blood to s_E."""
    log_blood, last = chain_under(name, prior_median(), SOME, jnp.zeros(1), 400)
    if name == "friberg":
        np.testing.assert_allclose([last.blood, last.t1], SOME.production, rtol=1e-6)
    else:
        np.testing.assert_allclose([last.t1, last.t2, last.t3], SOME.production / SOME.transit, rtol=1e-2)
        assert 0.95 * SOME.egress < float(last.blood[0]) < 1.03 * SOME.egress
    assert np.isfinite(log_blood).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_anc_rises_and_the_block_still_acts(name):
    """Five days after four weeks of block: above the same block without G-CSF, the lower the more is blocked."""
    block = jnp.asarray([0.0, 0.4, 0.8])
    with_it, _ = chain_under(name, prior_median(), SOME, block, 5, before=28)
    without, _ = chain_under(name, prior_median(), None, block, 5, before=28)
    assert (with_it[-1] > without[-1] + 0.2).all() and (with_it[-1] > with_it[0]).all()
    assert (np.diff(with_it, axis=1) < 0.0).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_finite_and_positive_over_the_priors(name):
    draws = 300
    rng = np.random.default_rng(3)
    theta = jax.vmap(natural)(jnp.asarray(1.5 * rng.standard_normal((draws, len(free(DECLARED))))))
    theta |= gcsf.support_draws(1, draws)
    block = jnp.asarray(rng.uniform(0.0, 0.99, draws))

    def one(theta, block):
        return chain_under(name, theta, gcsf.effects(1.0, theta), block[None], 60)[0]

    assert np.isfinite(jax.vmap(one)(theta, block)).all()


def test_effects_come_and_go_with_their_half_life():
    theta = {"gcsf_half_life_days": 2.0}
    end, mean = gcsf.relax(jnp.asarray(1.0), 0.0, gcsf.relaxation(theta))
    assert float(end) == pytest.approx(0.5**0.5)
    fine = np.exp2(-np.linspace(0.0, 0.5, 1001))
    assert float(mean) == pytest.approx(np.trapezoid(fine, dx=1e-3), rel=1e-6)
    assert float(gcsf.relax(jnp.asarray(1.0), 1.0, gcsf.relaxation(theta))[0]) == 1.0


def test_draws_are_the_prior_and_repeat():
    draws = gcsf.support_draws(4, 4000)
    assert set(draws) == {p.name for p in SUPPORT} and not set(draws) & {p.name for p in DECLARED}
    for p in SUPPORT:
        assert abs(np.median(np.log(draws[p.name])) - np.log(p.centre)) < 5.0 * p.spread / np.sqrt(4000)
        assert abs(np.log(draws[p.name]).std() - p.spread) < 0.05 * p.spread
        np.testing.assert_array_equal(draws[p.name], gcsf.support_draws(4, 4000)[p.name])


def test_without_a_policy_nothing_depends_on_the_effects():
    ours = run(Scenario(), FIXED | {"gcsf_production": 50.0, "gcsf_egress": 9.0})
    plain = run(Scenario(), FIXED)
    for x, y in zip((*ours[0], *ours[1]), (*plain[0], *plain[1]), strict=True):
        np.testing.assert_array_equal(x, y)
    assert (ours[0].gcsf_days == 0.0).all()


def test_prophylaxis_is_given_in_every_cycle_and_raises_counts():
    policy = Gcsf("primary", course_days=7, start_day=15)
    history, record = run(Scenario(rdi=1.0, gcsf=policy), FIXED)
    plain_history, plain = run(Scenario(rdi=1.0), FIXED)
    day = np.arange(7 * WEEKS) % 28 + 1
    given = np.broadcast_to(np.isin(day, np.arange(15, 22))[:, None], (7 * WEEKS, PATIENTS))
    np.testing.assert_array_equal(by_day(record.gcsf), given)
    np.testing.assert_array_equal(history.gcsf_days, given.sum(axis=0))
    ratio = by_day(record.anc) / by_day(plain.anc)
    np.testing.assert_allclose(ratio[:15], 1.0, rtol=1e-11)
    assert (ratio[21] > 1.3).all() and np.isfinite(ratio).all()
    assert (by_day(record.anc)[21] < by_day(run(Scenario(rdi=0.0, gcsf=policy), FIXED)[1].anc)[21]).all()
    assert history.days_below_1.sum() < 0.8 * plain_history.days_below_1.sum()


def test_a_reaction_begins_the_day_after_grade_4_or_fever():
    policy = Gcsf("reactive", course_days=5)
    history, record = run(Scenario(gcsf=policy), FIXED | {"febrile_share": 0.3})
    given, courses = by_day(record.gcsf), 0
    for i in range(PATIENTS):
        begin = -NEVER
        for week in range(WEEKS):
            trigger = record.count[week, i] < 0.5 or record.febrile[week, i]
            if trigger and begin + 5 <= 7 * week + 1:
                begin, courses = 7 * week + 1, courses + 1
            for day in range(7 * week, 7 * week + 7):
                assert given[day, i] == (begin <= day < begin + 5)
    assert courses > 20 and (history.gcsf_days == given.sum(axis=0)).all()


def test_the_policy_of_december_2024_waits_for_its_day():
    """13.5 months before a data cutoff drawn from the fitted follow-up: some had it from the first dose, some never."""
    late = Gcsf("primary", from_december_2024=True)
    months = {"followup_months": 15.0, "followup_sd": 0.15}
    given = by_day(run(Scenario(gcsf=late), FIXED | months)[1].gcsf)
    always = by_day(run(Scenario(gcsf=Gcsf("primary")), FIXED | months)[1].gcsf)
    first = np.where(given.any(axis=0), given.argmax(axis=0), 7 * WEEKS)
    np.testing.assert_array_equal(given, always * (np.arange(7 * WEEKS)[:, None] >= first))
    start = 7 * WEEKS - given.sum(axis=0) / always.mean()  # about: days without the policy
    assert (start < 20).any() and (start > 100).any()
    # Median start: 1.5 months after the first dose.
    assert abs(np.median(first) - 1.5 * 30.4375) < 28
    assert Regimen().cycle_days == 28


def test_kd_can_have_it_too():
    anc = run(Scenario(arm="kd", gcsf=Gcsf("primary")), FIXED)[1].anc
    baseline = run(Scenario(arm="kd"), FIXED)[1].anc
    assert (by_day(anc)[12] > 1.5 * by_day(baseline)[12]).all()
    np.testing.assert_allclose(baseline, np.broadcast_to(baseline[:1, :1], baseline.shape))
