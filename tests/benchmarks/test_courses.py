"""Gradient of a patient's log-density with respect to its 12 parameters: the daily scan, diffrax, and Stan's ode_rk45.

The same equations, doses, counts and prior; first the log-densities must agree where tolerances are tight, then each solver
takes the loosest tolerance with which its log-density errs no more than ours. ``courses.py`` and ``course.stan`` have the equations.
"""

from functools import partial

import courses
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stan_solver
from mezikd.inference.processor import compiler_options, keep_memory
from timing import Took, bar, fastest

pytestmark = pytest.mark.benchmark
PATIENTS, IN_STAN = 256, 16
RTOLS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)
CASE = "gradient of one patient's log-density, 52 weeks"
compiled = partial(jax.jit, compiler_options=compiler_options())


def summed(log_density):
    """Return the patients' log-densities and their gradients, compiled."""

    def both(w, log_value):
        def total(w):
            each = log_density(w, log_value)
            return each.sum(), each

        slope, each = jax.grad(total, has_aux=True)(w)
        return each, slope

    return compiled(both)


class Problem:
    """The patients, their counts, and what is exact and ours."""

    def __init__(self):
        keep_memory()
        self.w = jnp.asarray(courses.patients(PATIENTS))
        log_blood = courses.exact(self.w)
        noise = np.random.default_rng(3).normal(size=log_blood.shape) * np.exp(self.w[:, -1:])
        self.log_value = self.w[:, courses.NAMES.index("anc0")][:, None] + log_blood + noise
        self.exact = np.asarray(courses.log_density_of(self.w, log_blood, self.log_value))
        self.gradient = summed(courses.ours)
        self.ours, self.slope = map(np.asarray, self.gradient(self.w, self.log_value))
        self.error = self.errors(self.ours)

    def errors(self, found, of=slice(None)) -> tuple[float, float]:
        """Return the median and the 90 % quantile of the errors of log-densities."""
        error = np.abs(np.asarray(found) - self.exact[of])
        return float(np.median(error)), float(np.quantile(error, 0.9))

    def as_accurate(self, found, of=slice(None)) -> bool:
        """Return whether log-densities err no more than ours do for the same patients."""
        return all(a <= b for a, b in zip(self.errors(found, of), self.errors(self.ours[of], of), strict=True))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


def per_patient(took: Took, count: int) -> Took:
    """Return the time of one patient."""
    return Took(*(x / count for x in took))


def told(errors) -> str:
    return "median and 90 % error of the log-density {:.2g} and {:.2g}".format(*errors)


@pytest.mark.parametrize(
    ("solver", "alone"), [(diffrax.Tsit5(), False), (diffrax.Tsit5(), True), (diffrax.Kvaerno5(), True)]
)
def test_against_diffrax(problem, table, solver, alone):
    log_density = partial(courses.by_diffrax, solver=solver, alone=alone)
    forward = compiled(log_density)
    for rtol in RTOLS:
        if problem.as_accurate(found := forward(problem.w, problem.log_value, rtol)):
            break
    else:
        pytest.fail("diffrax did not reach the accuracy")
    gradient = summed(partial(log_density, rtol=rtol))
    _, slope = gradient(problem.w, problem.log_value)
    # Measured against what is most curved in a patient: small entries are differences of large ones.
    scale = np.abs(np.asarray(slope)).max(axis=1, keepdims=True)
    assert np.median(np.abs(np.asarray(slope) - problem.slope) / scale) < 0.01
    a, b = fastest(
        lambda: problem.gradient(problem.w, problem.log_value), lambda: gradient(problem.w, problem.log_value), rounds=5
    )
    how = "steps of their own" if alone else "one system"
    table.add(
        CASE, PATIENTS, per_patient(a, PATIENTS), f"diffrax {type(solver).__name__}, {how}",
        per_patient(b, PATIENTS), bar=bar(b.cpu_ms / a.cpu_ms, at_least=10.0), note=f"ours: {told(problem.error)}; other, rtol {rtol:g}: {told(problem.errors(found))}",
    )  # fmt: skip


def in_stan(problem: Problem, loaded, rtol: float, atol: float, day_by_day: bool, who) -> list:
    """Return Stan's log-density of each of the patients ``who``."""
    p = courses.prior()
    data = {
        "counts": len(courses.AT), "at": courses.AT.tolist(), "centre": p.centre.tolist(), "spread": p.spread.tolist(),
        "kd": courses.K_DEATH, "theta": courses.THETA, "day_by_day": int(day_by_day), "rtol": rtol, "atol": atol,
    }  # fmt: skip
    return [stan_solver.Course(loaded, data | {"log_value": np.asarray(problem.log_value[i]).tolist()}) for i in who]


def test_against_stan(problem, table):
    try:
        loaded = stan_solver.library()
    except stan_solver.Missing as missing:
        pytest.skip(str(missing))
    who = np.arange(0, PATIENTS, PATIENTS // IN_STAN)
    w = np.asarray(problem.w)[who]

    def evaluated(rtol, atol, day_by_day, some=slice(None)):
        models = in_stan(problem, loaded, rtol, atol, day_by_day, who[some])
        value, slope = zip(*(model(x) for model, x in zip(models, w[some], strict=True)), strict=True)
        return models, np.array(value), np.array(slope)

    _, value, tight = evaluated(1e-10, 1e-12, True, slice(0, None, 4))
    np.testing.assert_allclose(value, problem.exact[who][::4], atol=1e-6, rtol=0.0)
    scale = np.abs(tight).max(axis=1, keepdims=True)
    assert (np.abs(tight - problem.slope[who][::4]) / scale).max() < 0.05

    for day_by_day in (False, True):
        for rtol in RTOLS:
            models, value, _ = evaluated(rtol, 0.1 * rtol, day_by_day)
            if problem.as_accurate(value, who):
                break
        else:
            pytest.fail("Stan did not reach the accuracy")
        one = problem.w[:1], problem.log_value[:1]
        all_of = partial(problem.gradient, problem.w, problem.log_value)
        ours, theirs, alone = fastest(
            all_of, lambda models=models: [m(x) for m, x in zip(models, w, strict=True)], partial(problem.gradient, *one),
            rounds=5,
        )  # fmt: skip
        how = "dose to dose" if day_by_day else "all at once"
        a, b = per_patient(ours, PATIENTS), per_patient(theirs, IN_STAN)
        table.add(
            CASE, PATIENTS, a, f"Stan ode_rk45, {how}", b,
            bar=bar(b.cpu_ms / a.cpu_ms, at_least=100.0), also=stan_solver.version(),
            note=f"ours: {told(problem.errors(problem.ours[who], who))}, {alone.cpu_ms:.2f} ms for a patient alone; "
            f"other, rtol {rtol:g}: {told(problem.errors(value, who))}",
        )  # fmt: skip
