"""Timings: log-density and gradient by size, and a patient course against diffrax at the same accuracy.

``pytest -m benchmark`` writes ``results.csv`` beside this file. Medians of at least 10 runs after a warm-up,
each waited for; a pair that is compared takes turns, so that a busy moment hits both.
"""

import csv
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import commands
from mezikd.inference.processor import keep_memory
from mezikd.model import rules
from mezikd.model.course import UNTOUCHED, expected_course
from mezikd.model.individuals import individuals
from mezikd.model.parameters import DECLARED, free, natural

TESTS = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("case", "size", "ours_ms", "other", "other_ms", "ratio", "hardware", "versions")
SIZES = (64, 256, 1024)
PATIENTS, WEEKS = 256, 52
AS_ACCURATE = 0.0007
"""Median |log ANC error| of the daily step (tests/model/accuracy.csv): what diffrax has to reach."""
ROUNDS = 11

pytestmark = pytest.mark.benchmark


def load(path: Path):
    """Return a module of another tests folder."""
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


built_in_target = load(TESTS / "inference" / "conftest.py").built_in_target
reference = load(TESTS / "model" / "reference.py")


def median_ms(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return each call's median time in ms, the calls taking turns; the first round is the warm-up."""
    took = []
    for _ in range(rounds + 1):
        for call in calls:
            start = time.perf_counter()
            jax.block_until_ready(call())
            took.append(1e3 * (time.perf_counter() - start))
    return [float(x) for x in np.median(np.reshape(took, (rounds + 1, -1))[1:], axis=0)]


def hardware() -> str:
    """Return the processor's name and number of cores."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(names) or 1} cores, {jax.default_backend()}"


@pytest.fixture(scope="module")
def rows():
    """Collect the rows of the table; written when the module is done."""
    found: list[tuple] = []
    yield found
    about = (
        hardware(),
        f"python {platform.python_version()}, jax {jax.__version__}, diffrax {diffrax.__version__}",
    )
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((*row, *about) for row in found)


def test_kept_memory(rows):
    """The gradient before and after the C library is told to keep memory between calls: first, since it stays told."""
    target = built_in_target(PATIENTS, PATIENTS // 2)
    z, gradient = jnp.zeros(len(free(target.parameters))), jax.jit(jax.value_and_grad(target.log_density))
    (before,) = median_ms(lambda: gradient(z, target.data))
    if not keep_memory():
        pytest.skip("not glibc: nothing to tell")
    (after,) = median_ms(lambda: gradient(z, target.data))
    case = "log-density gradient, memory kept between calls"
    rows.append((case, PATIENTS, f"{after:.2f}", "given back", f"{before:.2f}", f"{before / after:.2f}"))


@pytest.mark.parametrize("size", SIZES)
def test_log_density(rows, size):
    """Value and gradient at the prior median; ``size`` virtual patients and half as many of Kd."""
    target = built_in_target(size, size // 2)
    z, data = jnp.zeros(len(free(target.parameters))), target.data
    value, gradient = jax.jit(target.log_density), jax.jit(jax.value_and_grad(target.log_density))
    value_ms, gradient_ms = median_ms(lambda: value(z, data), lambda: gradient(z, data), rounds=2 * ROUNDS)
    rows.append(("log-density value", size, f"{value_ms:.2f}", "", "", ""))
    ratio = f"{gradient_ms / value_ms:.2f}"
    rows.append(("log-density gradient", size, f"{gradient_ms:.2f}", "value", f"{value_ms:.2f}", ratio))
    assert np.isfinite(gradient(z, data)[0])


def test_main_fit(rows, tmp_path):
    """The built-in fit from start to file: draws and effective draws (the worst parameter's) per second of sampling."""
    commands.run(["fit", "--out", str(tmp_path / "fit")])
    d = json.loads((tmp_path / "fit" / "diagnostics.json").read_text())
    draws, spent = d["draws"] * d["chains"], d["sampling_seconds"]
    case = (
        f"main fit, gate {d['gate']}: {d['seconds']:.0f} s in all, {draws / spent:.1f} draws and "
        f"{d['min_ess_bulk'] / spent:.1f} effective draws a second of sampling, "
        f"{d['gradients'] / d['min_ess_bulk']:.1f} gradients an effective draw"
    )
    print(case)
    rows.append((case, d["virtual_patients"], f"{1e3 * d['seconds']:.0f}", "", "", ""))


def test_predict(rows, tmp_path):
    """Scenarios of the shipped grid from start to file: with the compilation, and what more draws add to that."""
    few, many = 32, 96

    def seconds(draws: int) -> tuple[float, float]:
        """Return time on the wall and of all cores."""
        wall, cpu = time.perf_counter(), time.process_time()
        arguments = ["--scenarios", "grid", "--draws", str(draws), "--patients", "512", "--months", "24"]
        assert commands.run(["predict", *arguments, "--out", str(tmp_path / str(draws))]) == commands.DONE
        return time.perf_counter() - wall, time.process_time() - cpu

    first, short, long = seconds(few), seconds(few), seconds(many)
    wall, cpu = ((b - a) / (many - few) for a, b in zip(short, long, strict=True))
    case = (
        f"predict, 12 scenarios and Kd, 512 patients, 24 months, {few} draws: {first[0]:.0f} s ({first[1]:.0f} s of CPU), "
        f"a further draw {wall:.3f} s ({cpu:.3f} s of CPU)"
    )
    print(case)
    rows.append((case, few, f"{1e3 * first[0]:.0f}", "", "", ""))


def patients_of(theta):
    """Return the mezigdomide arm's virtual patients."""
    target = built_in_target(PATIENTS, PATIENTS // 2)
    return individuals(theta, target.mezikd, target.design.structure), target.design


def our_log_anc(z):
    """Return log(ANC/ANC0) at the end of each day on full doses, by the package's own daily scan."""
    theta = natural(z)
    ind, design = patients_of(theta)
    rule = rules.HoldRule(theta["hold_grade3"], theta["reduce_after_hold"], theta["sigma_anc"])
    # The other path is followed beside it: half of the time counted here is not the course on full doses.
    course = expected_course(ind, design.regimen, rule, design.structure, WEEKS, WEEKS, rdi=1.0)
    return course.seen.log_anc[:, :, UNTOUCHED].reshape(7 * WEEKS, PATIENTS)[1:] - ind.log_anc0


def case_of(theta):
    """Return the same patients as ``our_log_anc`` for the reference."""
    ind, _ = patients_of(theta)
    block = ind.block
    exposure = jnp.exp(ind.log_exposure)
    drug = reference.Drug(block.k, jnp.exp(block.log_ec50), block.hill, block.emax, ind.k_ikaros, exposure)
    return reference.Case(drug, ind.marrow)


DOSES = reference.regimen(WEEKS // 4)


def positive_arrest_model(t, y, args):
    """The reference's equations; a trial step that is too long may not leave NaN for the reverse pass."""
    return reference.arrest_model(t, jnp.maximum(y, 1e-9), args)


def diffrax_log_anc(z, rtol: float, solver):
    """Return the same as ``our_log_anc`` by diffrax: all patients as one system, jumps at the doses."""
    case = case_of(natural(z))
    shape = case.drug.exposure.shape
    y0 = jnp.stack([jnp.zeros(shape), *[jnp.ones(shape)] * 4, (1.0 + case.marrow.reserve) * jnp.ones(shape)])
    ends = jnp.arange(1.0, 7 * WEEKS + 1.0)
    controller = diffrax.PIDController(rtol=rtol, atol=0.1 * rtol)
    y = diffrax.diffeqsolve(
        diffrax.ODETerm(positive_arrest_model),
        solver,
        0.0,
        7.0 * WEEKS,
        0.1,
        y0,
        (case, reference.amounts(case.drug, DOSES)),
        saveat=diffrax.SaveAt(ts=ends),
        stepsize_controller=diffrax.ClipStepSizeController(controller, jump_ts=ends[:-1]),
        max_steps=8192,
    ).ys
    assert y is not None
    return jnp.log(reference.smooth_minimum(y[:-1, 5], case.marrow.reserve, case.marrow.theta))


def test_course_against_diffrax(rows):
    """Gradient of mean log ANC over 52 weeks; diffrax at its loosest tolerance with our errors."""
    z = jnp.zeros(len(free(DECLARED)))
    exact = np.log(reference.reference_course(case_of(natural(z)), DOSES))[:-1]

    def error_of(log_anc) -> tuple[float, float]:
        error = np.abs(np.asarray(log_anc) - exact)
        return float(np.median(error)), float(np.quantile(error, 0.99))

    ours = error_of(jax.jit(our_log_anc)(z))
    forward = jax.jit(diffrax_log_anc, static_argnums=2)
    best = None
    for solver in (diffrax.Bosh3(), diffrax.Tsit5()):
        for rtol in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
            found = error_of(forward(z, rtol, solver))
            if found[0] <= max(ours[0], AS_ACCURATE) and found[1] <= 1.2 * ours[1]:
                (took,) = median_ms(lambda r=rtol, s=solver: forward(z, r, s), rounds=5)
                print(f"{type(solver).__name__} rtol {rtol:g}: error {found}, forward {took:.1f} ms")
                if best is None or took < best[0]:
                    best = took, rtol, solver, found
                break
    assert best is not None, "diffrax did not reach the accuracy"
    _, rtol, solver, theirs = best
    name = type(solver).__name__

    our_gradient = jax.jit(jax.value_and_grad(lambda z: our_log_anc(z).mean()))
    their_gradient = jax.jit(jax.value_and_grad(lambda z: diffrax_log_anc(z, rtol, solver).mean()))
    (our_value, our_slope), (their_value, their_slope) = our_gradient(z), their_gradient(z)
    np.testing.assert_allclose(our_value, their_value, atol=2e-3)
    np.testing.assert_allclose(our_slope, their_slope, atol=0.03 * np.abs(their_slope).max())

    our_ms, their_ms = median_ms(lambda: our_gradient(z), lambda: their_gradient(z))
    ratio = their_ms / our_ms
    rows.append(
        (
            f"gradient of a course of {WEEKS} weeks on full doses; median and 99 % log ANC error: "
            f"ours {ours[0]:.5f} and {ours[1]:.4f}, other {theirs[0]:.5f} and {theirs[1]:.4f}",
            PATIENTS,
            f"{our_ms:.2f}",
            f"diffrax {name} rtol {rtol:g}",
            f"{their_ms:.2f}",
            f"{ratio:.1f}",
        )
    )
    assert ratio >= 5.0, f"diffrax takes only {ratio:.1f} times as long"
