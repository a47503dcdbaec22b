"""The patient's course against a plain loop over days, against continuous time, and where no rule can act."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from mezikd.model import neutrophils, progression, relaxation, rules
from mezikd.model.course import HELD, UNTOUCHED, expected_course
from mezikd.model.exposure import day_mean_block
from mezikd.model.individuals import individuals
from mezikd.model.parameters import DECLARED, REGIONS, free, natural
from mezikd.model.patients import EFFECTS, Cohort, virtual_cohort
from mezikd.model.regimen import Regimen
from mezikd.model.structures import STRUCTURES

PATIENTS = 8
STRUCTURE, REGIMEN = STRUCTURES["arrest"], Regimen()


def people(theta):
    """Return eight patients, two of each region."""
    return individuals(theta, virtual_cohort(PATIENTS, np.ones(len(REGIONS)), 3), STRUCTURE)


@functools.cache
def prior_median():
    """Return the parameters at the prior median, with regions that differ."""
    theta = natural(jnp.zeros(len(free(DECLARED))))
    return theta | {"ec50_region_asia": jnp.asarray(-1.0), "anc0_region_usa": jnp.asarray(1.0)}


@functools.partial(jax.jit, static_argnames=("rdi", "weeks", "daily_weeks", "regimen"))
def course(theta, rdi=None, weeks=16, daily_weeks=12, regimen=REGIMEN):
    """Return the expected course of the eight."""
    rule = rules.HoldRule(theta["hold_grade3"], theta["reduce_after_hold"], theta["sigma_anc"])
    return expected_course(people(theta), regimen, rule, STRUCTURE, weeks, daily_weeks, rdi=rdi)


def day_by_day(ind, doses):
    """Return log ANC and A at the start of each day, and the day mean of the tumour block, by the public steps."""
    share = relaxation.TR_SHARE
    amount, arrest = np.zeros(PATIENTS), jnp.zeros(PATIENTS)
    chain = neutrophils.baseline(ind.marrow, (PATIENTS,))
    one_step = jax.jit(neutrophils.step, static_argnums=5)
    log_anc, arrests, tumour = [], [], []
    for dose in doses:
        log_anc.append(ind.log_anc0 + np.log(chain.blood))
        arrests.append(arrest)
        amount = amount + dose * np.exp(ind.log_exposure)
        with np.errstate(divide="ignore"):
            start = np.log(amount)
        first = day_mean_block(start, ind.block, share)
        second = day_mean_block(start - share * ind.block.k, ind.block, 1.0 - share)
        chain = one_step(chain, arrest, (first, second), ind.k_ikaros, ind.marrow, 1.0)
        arrest = reference.arrest_after(arrest, (first, second), ind.k_ikaros, 1.0)
        log_ec50_tumour = ind.block.log_ec50 - ind.log_potency_ratio
        whole = ind.block._replace(emax=jnp.asarray(1.0), log_ec50=log_ec50_tumour)
        tumour.append(day_mean_block(start, whole))
        amount = amount * np.exp(-ind.block.k)
    return [np.array(x) for x in (log_anc, arrests, tumour)]


@pytest.mark.parametrize(("rdi", "regimen"), [(1.0, Regimen()), (0.5, Regimen(dose_mg=0.6, days_on=14, cycle_days=21))])
def test_with_rdi_set_it_is_a_plain_loop_over_days(rdi, regimen):
    theta = prior_median()
    out = course(theta, rdi=rdi, regimen=regimen)
    planned = [regimen.dose_mg * (day % regimen.cycle_days < regimen.days_on) for day in range(8 * 7)]
    log_anc, arrest, tumour = day_by_day(people(theta), rdi * np.array(planned))
    days = len(planned)
    for ours, theirs in zip(out.seen, (log_anc, arrest), strict=True):
        np.testing.assert_allclose(ours[:, :, UNTOUCHED].reshape(-1, PATIENTS)[:days], theirs, atol=1e-8)
    weekly = tumour.reshape(-1, 7, PATIENTS).mean(axis=1)
    np.testing.assert_allclose(out.tumour_block[: days // 7, UNTOUCHED], weekly, atol=1e-8)
    np.testing.assert_array_equal(out.never, 1.0)
    np.testing.assert_array_equal(out.dose, 1.0)
    assert np.abs(np.diff(log_anc, axis=0)).max() > 0.1


def test_the_anc_follows_continuous_time():
    """Full doses over three cycles against diffrax, with PK within the day: 99 % of patient-days to 1 %."""
    theta, cycles = prior_median(), 3
    ind = people(theta)
    out = course(theta, rdi=1.0, weeks=4 * cycles, daily_weeks=4 * cycles)
    drug = reference.Drug(
        ind.block.k, jnp.exp(ind.block.log_ec50), ind.block.hill, ind.block.emax, ind.k_ikaros,
        jnp.exp(ind.log_exposure),
    )  # fmt: skip
    exact = reference.reference_course(reference.Case(drug, ind.marrow), reference.regimen(cycles))
    # Ours stands at the start of each day, the reference at its end.
    ours = np.asarray(out.seen.log_anc[:, :, UNTOUCHED].reshape(-1, PATIENTS) - ind.log_anc0)
    np.testing.assert_array_equal(ours[0], 0.0)
    error = np.abs(ours[1:] - np.log(exact[:-1]))
    assert np.quantile(error, 0.99) < 0.01, f"99 % of |log ANC error|: {np.quantile(error, 0.99):.4f}"
    assert error.max() < 0.02, f"worst |log ANC error| {error.max():.4f}"
    assert np.log(exact).min() < -0.5


def test_nobody_is_held_where_counts_cannot_be_low():
    theta = prior_median() | {"sigma_anc": jnp.asarray(1e-3), "anc0": jnp.asarray(1e3)}
    out = course(theta)
    np.testing.assert_allclose(out.never, 1.0, atol=1e-12)
    np.testing.assert_allclose(out.dose, 1.0, atol=1e-12)
    np.testing.assert_allclose(out.full_level, 1.0, atol=1e-12)
    np.testing.assert_allclose(out.dose_variance, 0.0, atol=1e-12)
    np.testing.assert_allclose(out.first_hold, 0.0, atol=1e-12)


def test_everybody_is_held_at_the_first_visit_where_counts_are_always_low():
    """ANC stays below 0.5: dosing stops at day 8 for good."""
    theta = prior_median() | {"sigma_anc": jnp.asarray(1e-3), "anc0": jnp.asarray(0.05)}
    out = course(theta)
    np.testing.assert_array_equal(out.never[0], 1.0)
    np.testing.assert_allclose(out.never[1:], 0.0, atol=1e-12)
    np.testing.assert_allclose(out.dose[0], 1.0, atol=1e-9)
    np.testing.assert_allclose(out.dose[1:], 0.0, atol=1e-9)
    # Without doses the arrest of those held is gone within weeks.
    assert float(out.seen.arrest[4:, :, HELD].max()) < 1e-3


def test_probabilities_are_consistent_at_the_prior_median():
    """never falls by the first holds; shares and variances are possible; holds raise ANC."""
    theta = prior_median() | {"ec50": 0.5 * prior_median()["ec50"]}
    out = course(theta)
    before = np.concatenate([np.ones((1, PATIENTS)), out.never[:-1]])
    np.testing.assert_allclose(out.never, before * (1.0 - out.first_hold), rtol=1e-10)
    visits = Regimen().is_visit(16) & Regimen().is_dosing(16)
    assert (np.asarray(out.first_hold)[~visits] == 0.0).all()
    assert (np.asarray(out.first_hold)[visits] >= 0.0).all() and float(out.first_hold.max()) > 0.2
    assert (out.dose > 0.0).all() and (out.dose <= 1.0 + 1e-12).all()
    assert (out.dose >= out.never - 1e-12).all() and (out.full_level >= out.never - 1e-12).all()
    # A share of mean m within [0, 1] has a variance of at most m (1 - m).
    assert (out.dose_variance >= -1e-12).all()
    assert (out.dose_variance <= out.dose * (1.0 - out.dose) + 1e-12).all()
    assert float(out.dose[-1].mean()) < 0.95
    untouched, held = out.seen.log_anc[5:8].mean(axis=(0, 1))
    assert (held > untouched).all()


@pytest.mark.parametrize(("ec50_tumour", "half_life_hours"), [(0.25, 10.0), (1.0, 6.0)])
def test_the_typical_patient_on_full_doses_has_tumour_effect_one(ec50_tumour, half_life_hours):
    """What delta is measured in: model.md, section 6."""
    theta = natural(jnp.zeros(len(free(DECLARED))))
    theta |= {"ec50_tumour": jnp.asarray(ec50_tumour), "half_life_hours": jnp.asarray(half_life_hours)}
    ind = individuals(theta, Cohort(np.zeros((len(EFFECTS), 1)), np.zeros(1, int), np.ones(1)), STRUCTURE)
    rule = rules.HoldRule(theta["hold_grade3"], theta["reduce_after_hold"], theta["sigma_anc"])
    block = expected_course(ind, Regimen(), rule, STRUCTURE, 8, 8, rdi=1.0).tumour_block[:, UNTOUCHED]
    effect = block[4:].mean() / progression.reference_effect(theta)
    np.testing.assert_allclose(effect, 1.0, atol=0.01)
