"""Patients under delivered doses: course and likelihoods of events against other solvers and integrals."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import neutrophils, progression
from mezikd.model.course import daily_constants, day, start
from mezikd.model.delivered import (
    Counts,
    Deaths,
    Ledger,
    Rates,
    follow,
    of_counts,
    of_deaths,
    of_infection,
    of_progression,
)
from mezikd.model.individuals import individuals
from mezikd.model.parameters import DECLARED, natural
from mezikd.model.patients import Cohort
from scipy import stats
from scipy.integrate import quad, solve_ivp

WEEKS, LANES = 10, 6
RNG = np.random.default_rng(3)
DOSE = RNG.choice([0.0, 0.6, 1.0], size=(WEEKS, 7, LANES)) * (np.arange(WEEKS) % 4 < 3)[:, None, None]
LEDGER = Ledger(
    DOSE,
    stop=np.array([1e6, 30.0, 17.5, 1e6, 40.0, 28.0]),
    infection=np.array([12.3, 60.0, 0.4, 33.9, 0.0, 69.5]),
    infected=np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
    progression=np.array([66.2, 30.0, 52.6, 20.1, 61.0, 47.3]),
    progressed=np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0]),
)
COUNTS = Counts(
    RNG.integers(0, 70, (LANES, 5)), RNG.normal(1.0, 0.4, (LANES, 5)),
    (np.arange(5 * LANES) % 3 == 1).reshape(LANES, 5) * 1.0, (RNG.random((LANES, 5)) < 0.7) * 1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def followed():
    """Individuals, rates and course of six patients at the priors' centres; events a hundred times more frequent."""
    theta = natural(jnp.zeros(sum(not p.fixed for p in DECLARED)), DECLARED)
    theta |= {"infection_rate": jnp.asarray(0.5), "progression_rate": jnp.asarray(0.6)}
    who = individuals(theta, Cohort(0.7 * RNG.normal(size=(5, LANES)), np.zeros(LANES, int), np.zeros(0)), neutrophils)
    who = jax.tree.map(lambda x: jnp.broadcast_to(x, LANES), who)
    one = jnp.ones(LANES)
    rates = Rates(
        0.3 * one, 0.4 * one, 0.7 * one, 2.0 * one, 60.0 * one, 0.49 * one,
        theta["tumour_effect"] / progression.reference_effect(theta) * one, 28.0 * one,
        jnp.broadcast_to(progression.baseline_hazard(theta, WEEKS)[:, None], (WEEKS, LANES)),
    )  # fmt: skip

    @jax.jit
    def all_of(who, rates):
        f = follow(who, rates, LEDGER, neutrophils)
        return (
            f,
            of_counts(f, who, rates, COUNTS),
            of_infection(f, rates, LEDGER),
            of_progression(f, who, rates, LEDGER),
        )

    return who, rates, jax.tree.map(np.asarray, all_of(who, rates))


@pytest.fixture(scope="module")
def by_day(followed):
    """log(ANC / ANC0), arrest and day's tumour block, day by day in a loop."""
    who, _, _ = followed
    constants = daily_constants(who, neutrophils, 1)
    step = jax.jit(lambda s, x: day(s, x, constants, neutrophils, 1))
    state, out = start(who, neutrophils, (LANES,)), []
    for dose in DOSE.reshape(-1, LANES):
        before = np.log(state[2].blood), np.asarray(state[1])
        state, tumour = step(state, jnp.asarray(dose))
        out.append((*before, np.asarray(tumour)))
    return [np.stack(x) for x in zip(*out, strict=True)]


def test_course_and_counts(followed, by_day):
    """A count below its limit: the density integrated up to the limit."""
    who, _, (f, counts, *_) = followed
    np.testing.assert_allclose(f.log_blood, by_day[0], rtol=1e-9, atol=1e-12)
    assert f.log_blood.min() < -0.3
    for i in range(LANES):
        level = float(who.log_anc0[i]) + by_day[0][COUNTS.day[i], i]
        each = []
        for at, value, below in zip(level, np.exp(COUNTS.log_value[i]), COUNTS.below[i], strict=True):
            law = stats.lognorm(0.3, scale=np.exp(at))
            each.append(np.log(quad(law.pdf, 0.0, value, epsabs=0.0)[0]) if below else law.logpdf(value))
        assert counts[i] == pytest.approx((np.array(each) * COUNTS.there[i]).sum(), rel=1e-7)
    assert (COUNTS.below * COUNTS.there).sum() > 3


def test_infection_by_an_integral_over_the_frailty(followed, by_day):
    """Hazard by hand; density and survival averaged over the gamma frailty by quadrature."""
    who, _, (_, _, found, _) = followed
    t = np.arange(7.0 * WEEKS)[:, None]
    log_anc = np.asarray(who.log_anc0) + by_day[0]
    below = 0.25 * np.log1p(np.exp(-log_anc / 0.25))
    h = np.asarray(who.infection_rate) * (1.0 + 2.0 * np.exp(-(t + 0.5) / 60.0)) * np.exp(0.4 * by_day[1] + 0.7 * below)
    frailty = stats.gamma(1.0 / 0.49, scale=0.49)
    for i in range(LANES):
        at = LEDGER.infection[i]
        whole = int(at)
        total = h[:whole, i].sum() + (at - whole) * h[whole, i]

        def of(x, i=i, whole=whole, total=total):
            return frailty.pdf(x) * np.exp(-x * total) * (x * h[whole, i] if LEDGER.infected[i] else 1.0)

        assert found[i] == pytest.approx(np.log(quad(of, 0.0, np.inf)[0]), abs=1e-6)


def test_progression_by_the_equations_of_its_states(followed, by_day):
    """On treatment, off it with the effect, without it: by a general solver; the delivered effect by hand."""
    who, rates, (_, _, _, found) = followed
    base, keep = np.asarray(rates.baseline), np.exp(-7.0 / 28.0)
    for i in range(LANES):
        effect, of_week = 0.0, []
        for w in range(WEEKS):
            block = by_day[2][7 * w : 7 * w + 7, i].mean()
            effect = block + (effect - block) * keep if 7 * w < LEDGER.stop[i] else effect
            of_week.append(effect)

        def hazards(t, i=i, of_week=of_week):
            w = min(int(t // 7), WEEKS - 1)
            without = base[w, i] * float(who.progression_frailty[i]) / 7.0
            return without * np.exp(-float(rates.effect[i]) * of_week[w]), without

        def field(t, y, i=i, hazards=hazards):
            slow, fast = hazards(t)
            loss = 1.0 / 28.0 if t >= LEDGER.stop[i] else 0.0
            return [-(slow + loss) * y[0], loss * y[0] - fast * y[1]]

        end = LEDGER.progression[i]
        cuts = sorted({0.0, end, *(x for x in (*np.arange(0.0, 70.0, 7.0), LEDGER.stop[i]) if x < end)})
        y = np.array([1.0, 0.0])
        for a, b in pairwise(cuts):
            inside = 1e-9 * (b - a)
            y = solve_ivp(
                lambda t, y, f=field, lo=a, hi=b, e=inside: f(np.clip(t, lo, hi - e), y),
                (a, b),
                y,
                rtol=1e-10,
                atol=1e-12,
            ).y[:, -1]
        slow, fast = hazards(end)
        expected = y[0] * slow + y[1] * fast if LEDGER.progressed[i] else y.sum()
        assert found[i] == pytest.approx(np.log(expected), abs=1e-6), i


def test_deaths_against_scipy():
    """Times at constant hazards, and a binomial of fatal infections, up to what no parameter enters."""
    rng = np.random.default_rng(8)
    before, after = rng.exponential(100.0, 30), rng.exponential(20.0, 12)
    d = Deaths(30.0, float(before.sum()), 12.0, float(after.sum()), 3.0, 40.0)

    def ours(a, b, c):
        return float(of_deaths(d, {"death_rate": a, "post_progression_death": b, "infection_fatal": c}))

    def theirs(a, b, c):
        times = stats.expon(scale=1 / a).logpdf(before).sum() + stats.expon(scale=1 / b).logpdf(after).sum()
        return times + stats.binom(43, c).logpmf(3)

    one, two = (0.01, 0.04, 0.06), (0.02, 0.05, 0.1)
    assert ours(*one) - ours(*two) == pytest.approx(theirs(*one) - theirs(*two), rel=1e-9)


def test_the_tumour_effect_is_that_of_doses_that_go_on(followed):
    """Doses cut in week 5: counts and infection as cut, the effect of that week, and the one frozen there, as uncut."""
    who, rates, _ = followed
    cut = DOSE.copy()
    cut[5, 3:], cut[6:] = 0.0, 0.0
    uncut = DOSE.copy()
    uncut[6:] = 0.0
    ended = LEDGER._replace(stop=np.full(LANES, 38.2), dose=cut)

    @jax.jit
    def of(ledger):
        return follow(who, rates, ledger, neutrophils)

    found, alone, whole = of(ended._replace(going_on=uncut)), of(ended), of(ended._replace(dose=uncut))
    np.testing.assert_allclose(found.effect, whole.effect, rtol=1e-12)
    for name in ("log_blood", "cumulative", "hazard"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-12)
    dosed = DOSE[5, 3:].any(axis=0)
    assert (np.asarray(whole.effect[5] - alone.effect[5])[dosed] > 1e-3).all() and dosed.any()
    np.testing.assert_allclose(of(ended._replace(going_on=cut)).effect, alone.effect, rtol=1e-12)
