"""Patients of one trial and reported numbers of another: the joint density is both of its parts, and its prior is the stated one."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.arrest_target import ArrestInputs, ArrestTarget
from mezikd.inference.between_trials import between_sd, both, mean_of_trials
from mezikd.inference.coordinates import straightened
from mezikd.inference.joint_target import JointInputs, JointTarget
from mezikd.model.delivered import Counts, Deaths, Ledger
from mezikd.model.parameters import free
from mezikd.model.population import Information
from scipy import stats
from scipy.integrate import quad
from scipy.special import roots_hermitenorm

SHARED = ("ec50", "anc0", "infection_rate")
SCALE = 0.3


def single(patients: int = 2) -> tuple[ArrestTarget, ArrestInputs]:
    """Return two patients, followed for three weeks."""
    estimated = {n: {} for n in ("anc0", "ec50", "sigma_anc", "infection_rate", "progression_rate")}
    settings = ArrestFit.model_validate({
        "study": {"name": "two", "title": "two patients", "citation": "none"}, "tables": {},
        "model": {"structure": "arrest"}, "parameters": estimated,
    })  # fmt: skip
    dose = np.ones((3, 7, patients)) * [1.0, 0.6]
    ledger = Ledger(dose, np.array([1e6, 12.0]), np.array([9.3, 15.0]), np.array([1.0, 0.0]), np.array([20.0, 14.2]), np.array([0.0, 1.0]))  # fmt: skip
    counts = Counts(np.array([[0, 7, 14], [0, 8, 0]]), np.log([[3.1, 1.2, 0.8], [2.0, 1.5, 1.0]]), np.zeros((2, 3)), np.array([[1, 1, 1], [1, 1, 0.0]]))  # fmt: skip
    rng = np.random.default_rng(4)
    half = rng.normal(size=(patients, 4, 4))
    known = Information(half @ np.swapaxes(half, 1, 2), rng.normal(size=(patients, 4)))
    deaths = Deaths(*np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    return ArrestTarget(settings, patients), ArrestInputs(
        ledger, counts, np.zeros(2, int), np.array([1.0, 1.0]), deaths, known, {}
    )


@pytest.fixture(scope="module")
def joint(target):
    of_patients, patients = single()
    made = JointTarget(of_patients, target, SHARED, SCALE)
    return made, JointInputs.of(patients, target.data), patients


@pytest.fixture(scope="module")
def compiled(joint):
    """Return (joint log-densities, sides, patients' log-density, reported log-likelihood), each compiled once."""
    made, data, patients = joint
    return (
        jax.jit(lambda xs: made.log_densities(xs, data)),
        jax.jit(jax.vmap(made.sides)),
        jax.jit(lambda x: made.single.log_density(x, patients)),
        jax.jit(lambda z: made.numbers.log_likelihood(made.numbers.expected(z), made.numbers.data)),
    )


def points(made, tau=None) -> np.ndarray:
    xs = 0.4 * np.random.default_rng(3).normal(size=(3, made.dimensions))
    if tau is not None:
        xs[:, made.layout.tau] = tau
    return xs


def conditional(one, two, tau, spread):
    """Return standard-normal coordinates of the first trial, and of the second given it, by the rules of a normal pair."""
    covariance, variance = spread**2, spread**2 + tau**2
    sd = np.sqrt(variance - covariance**2 / variance)
    return one / np.sqrt(variance), (two - covariance / variance * one) / sd


def test_density_is_the_sum_of_both_parts(joint, compiled):
    """Each part by the likelihood of its own fit, at parameters worked out by hand; priors by scipy."""
    made, _, _ = joint
    density, sides, of_patients, of_numbers = compiled
    xs = points(made)
    mine, theirs = made.estimated
    for x, total, s in zip(xs, density(xs), zip(*sides(xs), strict=True), strict=True):
        at = made.layout
        tau = stats.halfnorm(scale=SCALE).ppf(stats.norm.cdf(x[at.tau]))
        np.testing.assert_allclose(s[2], tau, rtol=1e-10)
        z = {p.name: float(v) for p, v in zip(mine, s[0], strict=False)}
        w = {p.name: float(v) for p, v in zip(theirs, s[1], strict=True)}
        spread = np.array([p.spread for n in SHARED for p in mine if p.name == n])
        one, two = (np.array([of[n] for n in SHARED]) * spread for of in (z, w))
        first, second = conditional(one, two, tau, spread)
        straight = [n != "ec50" for n in SHARED]
        np.testing.assert_allclose(first[straight], x[at.first][straight], rtol=1e-10)
        np.testing.assert_allclose(second[straight], x[at.second][straight], rtol=1e-10)
        own = [v for n, v in z.items() if n not in SHARED], [v for n, v in w.items() if n not in SHARED]
        prior = -0.5 * sum((np.asarray(v) ** 2).sum() for v in (*own, first, second, x[at.tau]))
        patients = float(of_patients(s[0])) + 0.5 * (np.asarray(s[0])[: len(mine)] ** 2).sum()
        assert float(total) == pytest.approx(prior + patients + float(of_numbers(s[1])), abs=1e-8)
        assert abs(one - two).min() > 1e-4


def test_without_a_between_trial_effect_it_is_pooling(joint, compiled):
    """tau to 0: one value for both trials, counted once in the prior."""
    made, _, _ = joint
    density, sides, of_patients, of_numbers = compiled
    xs = points(made, tau=-12.0)
    mine, theirs = made.estimated
    names = [p.name for p in theirs]
    for x, total, one, other in zip(xs, density(xs), *sides(xs)[:2], strict=True):
        z, w = np.array(one), np.array(other)
        pooled = w.copy()
        for i, p in enumerate(mine):
            if p.name in SHARED:
                pooled[names.index(p.name)] = z[i]
        own = [v for p, v in zip(mine, z, strict=False) if p.name not in SHARED]
        patients = float(of_patients(z)) + 0.5 * (z[: len(mine)] ** 2).sum()
        once = -0.5 * ((pooled**2).sum() + np.square(own).sum())
        rest = -0.5 * ((x[made.layout.second] ** 2).sum() + 3 * 12.0**2)
        assert float(total) == pytest.approx(patients + float(of_numbers(pooled)) + once + rest, abs=1e-8)


def test_with_a_wide_between_trial_effect_it_is_two_fits(joint):
    """Huge tau: the prior of a shared parameter's two values is flat and they are free of each other, whatever they are."""
    wide = replace(joint[0], between_trial_sd=1e7)
    mine, theirs = wide.estimated
    rng = np.random.default_rng(6)
    known, spread = [p.name for p in theirs], np.array([p.spread for n in SHARED for p in mine if p.name == n])
    tau = 1e7 * stats.halfnorm.ppf(0.5)
    priors, own = [], []
    for _ in range(2):
        z, w = 0.4 * rng.normal(size=len(mine)), 0.4 * rng.normal(size=len(theirs))
        straight = np.asarray(straightened(jnp.asarray(w), wide.numbers.parameters))
        x = np.zeros(wide.dimensions)
        x[wide.layout.patients] = [v for p, v in zip(mine, z, strict=True) if p.name not in SHARED]
        x[wide.layout.reported] = [v for p, v in zip(theirs, straight, strict=True) if p.name not in SHARED]
        one, two = (np.array([v[names.index(n)] for n in SHARED]) * spread for v, names in ((z, [p.name for p in mine]), (w, known)))  # fmt: skip
        # Both trials' EC50 move along the ridge.
        step = np.array([(w - straight)[known.index(n)] * (n == "ec50") for n in SHARED]) * spread
        x[wide.layout.first], x[wide.layout.second] = conditional(one - step, two - step, tau, spread)
        sides = wide.sides(jnp.asarray(x))
        np.testing.assert_allclose(sides.patients[: len(mine)], z, atol=1e-7)
        np.testing.assert_allclose(sides.reported, w, atol=1e-7)
        priors.append(float(sides.log_prior))
        own.append(sum(-0.5 * v**2 for p, v in zip((*mine, *theirs), (*z, *w), strict=True) if p.name not in SHARED))
    assert priors[1] - priors[0] == pytest.approx(own[1] - own[0], abs=1e-8)


def test_prior_of_two_trials_and_their_mean():
    """theta_k = mu + u_k: covariance of both trials and mu by simulation of the statement, closed form of the code."""
    spread, tau = 0.7, 0.4
    x, w = roots_hermitenorm(12)
    w = w / w.sum()
    a, d, m = np.meshgrid(x, x, x, indexing="ij")
    weight = np.einsum("i,j,k->ijk", w, w, w)
    one, two = (np.asarray(v) for v in both(a, d, tau, spread))
    mean = np.asarray(mean_of_trials(one, two, tau, spread, m))
    values = np.stack([one, two, mean]).reshape(3, -1) * spread
    found = (values * weight.ravel()) @ values.T
    s, t = spread**2, tau**2
    np.testing.assert_allclose(found, [[s + t, s, s], [s, s + t, s], [s, s, s]], rtol=1e-10)


def test_two_normal_trials_agree_with_the_stated_model():
    """Posterior means of both trials with normal data, against integrals over mu, both deviations and tau as stated."""
    spread, scale, y, sd = 0.8, 0.5, np.array([0.6, -0.3]), np.array([0.15, 0.25])
    taus, weights = np.polynomial.legendre.leggauss(400)
    taus, weights = 0.5 * 6 * scale * (taus + 1.0), weights

    def given(tau):
        """Evidence and posterior means given tau: a normal with known covariance."""
        cov = spread**2 + tau**2 * np.eye(2)
        gain = cov @ np.linalg.inv(cov + np.diag(sd**2))
        return stats.multivariate_normal(np.zeros(2), cov + np.diag(sd**2)).pdf(y), gain @ y

    evidence, means = (np.array(v) for v in zip(*(given(t) for t in taus), strict=True))
    mass = weights * stats.halfnorm(scale=scale).pdf(taus) * evidence
    expected = mass @ means / mass.sum()

    grid = np.linspace(-6.0, 6.0, 81)
    t, a, d = np.meshgrid(grid, grid, grid, indexing="ij", sparse=True)
    tau = np.asarray(between_sd(t, scale))
    one, two = (spread * np.asarray(v) for v in both(a, d, tau, spread))
    log = -0.5 * (t**2 + a**2 + d**2 + ((one - y[0]) / sd[0]) ** 2 + ((two - y[1]) / sd[1]) ** 2)
    p = np.exp(log - log.max())
    np.testing.assert_allclose([(p * one).sum() / p.sum(), (p * two).sum() / p.sum()], expected, atol=2e-4)
    assert 0.02 < expected[0] - expected[1] < y[0] - y[1]


def test_half_normal_between_trial_sd():
    for z in (-6.0, -1.0, 0.3, 4.0):
        share = quad(stats.halfnorm(scale=SCALE).pdf, 0.0, float(between_sd(z, SCALE)))[0]
        assert share == pytest.approx(stats.norm.cdf(z), abs=1e-9)


def test_every_estimated_parameter_has_one_place(joint):
    made, _, _ = joint
    mine, theirs = free(made.single.declared), free(made.numbers.parameters)
    assert made.shared_size == len(mine) + len(theirs) + len(SHARED)
    sides = made.sides(jnp.arange(float(made.dimensions)) / 100.0)
    assert sides.patients.shape == (len(mine) + 8,) and sides.reported.shape == (len(theirs),)
    assert len(np.unique(np.asarray(sides.patients))) == len(mine) + 8
    assert not made.of_spread.any()  # none is estimated


def test_which_coordinates_are_of_the_spread(joint):
    """An SD of effects of the patients' trial alone, and one that both trials share."""
    plain = joint[0].single.settings
    parameters = plain.model_dump()["parameters"] | {"anc0_sd": {}, "exposure_sd": {}}
    settings = ArrestFit.model_validate(plain.model_dump() | {"parameters": parameters})
    made = replace(joint[0], single=ArrestTarget(settings, 2), shared=("ec50", "anc0_sd"))
    alone = [p.name for p in free(settings.declared) if p.name not in made.shared]
    at = np.flatnonzero(made.of_spread)
    assert at.tolist() == [made.layout.patients.start + alone.index("exposure_sd"), made.layout.first.start + 1]


def test_coefficients_and_correlation_have_their_places(target):
    """Of the patients' trial alone: among its parameters, and last before the effects; the LKJ prior counts once."""
    plain, data = single()
    text = {"parameters": plain.settings.model_dump()["parameters"], "effects": {"correlation": "lkj"}}
    text["parameters"]["anc0"]["covariates"] = {"WT": {"power": 0.5, "reference": 70.0, "spread": 0.3}}
    settings = ArrestFit.model_validate(plain.settings.model_dump() | text)
    of_patients = ArrestTarget(settings, 2)
    nothing = SimpleNamespace(
        parameters=target.parameters, expected=lambda z, observed: z, log_likelihood=lambda z, data: 0.0
    )
    made = JointTarget(of_patients, nothing, SHARED, SCALE)  # type: ignore[arg-type]
    inputs = JointInputs.of(
        data._replace(covariates={"power_anc0_WT": np.array([0.2, -0.3])}), SimpleNamespace(observed=None)
    )
    names = [p.name for p in free(of_patients.declared)]
    assert names[-1] == "power_anc0_WT" and made.correlations == 6
    assert made.shared_size == made.layout.tau.stop + 6 and made.dimensions == made.shared_size + 8
    x = 0.4 * np.random.default_rng(8).normal(size=made.dimensions)
    other = x.copy()
    other[made.shared_size - 6 : made.shared_size] += 0.3
    one, two = (made.sides(jnp.asarray(v)) for v in (x, other))
    np.testing.assert_allclose(one.patients[len(names) :], x[made.layout.tau.stop :], rtol=1e-12)
    assert float(one.patients[len(names) - 1]) == pytest.approx(x[made.layout.patients][-1])
    theta = made.population(jnp.asarray(x))
    assert float(theta["power_anc0_WT"]) == pytest.approx(0.5 + 0.3 * x[made.layout.patients][-1])
    density = made.log_densities(jnp.asarray([x, other]), inputs)
    alone = of_patients.log_densities(jnp.stack([one.patients, two.patients]), inputs)
    assert float(density[0] - density[1]) == pytest.approx(float(alone[0] - alone[1]), rel=1e-9)
    u = np.random.default_rng(9).normal(size=len(x))
    slope = jax.grad(lambda v: made.log_density(v, inputs))(jnp.asarray(x))
    ends = made.log_densities(jnp.asarray([x + 1e-5 * u, x - 1e-5 * u]), inputs)
    assert np.isfinite(slope).all() and float(ends[0] - ends[1]) / 2e-5 == pytest.approx(float(slope @ u), rel=1e-4)
