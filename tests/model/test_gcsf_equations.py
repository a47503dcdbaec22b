"""The arrest chain under G-CSF against its equations, typed again and solved by scipy; the day of the policy by hand."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import PATIENTS, POTENT, TREATED, WEEKS, by_day, prior_median, run
from mezikd.model import neutrophils
from mezikd.model.chance import Chance
from mezikd.model.neutrophils import Support
from mezikd.model.scenario import Gcsf, Scenario
from scipy.integrate import solve_ivp

DAYS, STEPS = 24, 8


def slopes(_, y, marrow, arrest: float, s: Support):
    """Return y' of P, T1, T2, T3, M: s_P on what enters, s_T on F0, s_E on b; V and K keep their shape around s_P/s_T."""
    kc, kd, rho, k, gamma, theta = (float(x) for x in marrow)
    s_p, s_t, s_e = (float(x) for x in s)
    p, t1, t2, t3, m = y
    f0, pool = s_t * (kc + kd * rho), s_p / s_t
    b = s_e * (1.0 + rho - theta) / rho
    c = ((m + b) - np.sqrt((m + b) ** 2 - 4.0 * theta * m * b)) / (2.0 * theta)
    # The arrested step passes (F0 + kd) pool at T2 = pool, and half of its most at T2 = K pool.
    x = t2 / pool
    phi = (f0 + kd) * pool * (k + 1.0) * (1.0 - arrest) * x / (k + x)
    turnover = kc + kd * rho + 3.0 * kd
    return [
        turnover * p * ((pool / t2) ** gamma - 1.0),
        (f0 + 3.0 * kd) * (pool * p - t1),
        (f0 + 2.0 * kd) * t1 - phi - kd * t2,
        phi - (f0 + kd) * t3,
        f0 * t3 - kd * (m - c) - kc * c,
    ]


def blood_of(m, marrow, s: Support):
    """Return C, the smaller root."""
    rho, theta = float(marrow.reserve), float(marrow.theta)
    b = float(s.egress) * (1.0 + rho - theta) / rho
    return ((m + b) - np.sqrt((m + b) ** 2 - 4.0 * theta * m * b)) / (2.0 * theta)


@pytest.mark.parametrize(
    "support", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 2.0), (4.0, 2.5, 3.0)]
)
@pytest.mark.parametrize("arrest", [0.0, 0.5, 0.8])
def test_the_chain_under_gcsf_follows_its_equations(support, arrest):
    s = Support(*map(jnp.asarray, support))
    marrow = neutrophils.rates(prior_median(), jnp.ones(()))
    constants, a = neutrophils.prepare(marrow, jnp.asarray(0.7), 1.0 / STEPS), jnp.asarray(arrest)

    @jax.jit
    def ours():
        def step(chain, _):
            chain = neutrophils.advance_supported(chain, a, a, a, constants, s)
            return chain, chain.blood

        return jax.lax.scan(step, neutrophils.baseline(marrow, ()), length=STEPS * DAYS)[1][STEPS - 1 :: STEPS]

    start = [1.0, 1.0, 1.0, 1.0, 1.0 + float(marrow.reserve)]
    theirs = solve_ivp(
        slopes, (0.0, DAYS), start, "LSODA", np.arange(1.0, DAYS + 1), args=(marrow, arrest, s), rtol=1e-9, atol=1e-11
    )
    assert theirs.success
    difference = np.log(np.asarray(ours())) - np.log(blood_of(theirs.y[4], marrow, s))
    assert np.abs(difference).max() < 0.02, np.round(difference, 4)


def test_the_policy_begins_on_its_day():
    """13.5 months before the drawn data cutoff; the drawing repeated by hand from the key."""
    months, sd = 15.0, 0.15
    policy = Gcsf("primary", from_december_2024=True)
    fixed = POTENT | TREATED | {"followup_months": months, "followup_sd": sd}
    given = by_day(run(Scenario(gcsf=policy), fixed)[1].gcsf)
    always = by_day(run(Scenario(gcsf=Gcsf("primary")), fixed)[1].gcsf)
    normal = np.asarray(Chance(jax.random.key(0), 1 << 20, PATIENTS).normal())
    begins = (months * np.exp(sd * normal) - 13.5) * 30.4375
    day = np.arange(7 * WEEKS)[:, None]
    np.testing.assert_array_equal(given, always * (day >= begins))
    assert all(a != b for a, b in pairwise(np.sort(begins))) and ((begins > 7) & (begins < 7 * WEEKS - 7)).sum() > 20
