"""Time from start to file of the commands, each in a process of its own: import, help, first results, predictions, the main fit."""

import json
import sys

import numpy as np
import pytest
from mezikd.inference.commands import built_in_fit
from timing import Ran, Took, bar, run

pytestmark = pytest.mark.benchmark
MEZIKD = (sys.executable, "-m", "mezikd.inference.commands")
FIRST = (
    ("predict", "--dose", "0.6"), ("predict", "--dose", "0.6", "--draws", "32"), ("simulate", "--patients", "288"),
    ("check", "--trials", "50"), ("report",),
)  # fmt: skip
"""Small orders of the commands that need no fit of one's own."""


def took(ran: Ran) -> Took:
    return Took(ran.wall_ms, ran.cpu_ms)


def least(words, rounds: int) -> Ran:
    """Return the quickest of several runs."""
    return min((run(words) for _ in range(rounds)), key=lambda x: x.cpu_ms)


def test_import_and_help(table):
    help_, imported = least((*MEZIKD, "--help"), 5), least((sys.executable, "-c", "import jax, numpyro, arviz"), 3)
    table.add(
        "mezikd --help", "", took(help_), peak_mb=help_.peak_mb, bar=f"seconds {bar(help_.wall_ms / 1e3, at_most=1.0)}"
    )
    every = least((sys.executable, "-c", "import mezikd.inference.pipeline, mezikd.inference.predict"), 3)
    table.add(
        "import of what fit and predict need", "", took(every), "import jax, numpyro, arviz", took(imported),
        ratio=imported.cpu_ms / every.cpu_ms, peak_mb=every.peak_mb,
    )  # fmt: skip


@pytest.mark.parametrize("order", FIRST, ids=" ".join)
def test_first_result(table, request, order, tmp_path):
    """From the shipped posterior: with an empty cache of compiled programs, and with the programs kept from that run."""
    if order[0] != "predict" and not request.config.getoption("--long", default=False):
        pytest.skip("with --long")
    words = (*MEZIKD, *order, "--out")
    cache = {"MEZIKD_CACHE": str(tmp_path / "cache")}
    cold = run((*words, str(tmp_path / "first")), **cache)
    kept = min((run((*words, str(tmp_path / f"later{i}")), **cache) for i in range(2)), key=lambda x: x.cpu_ms)
    table.add(
        f"first result of mezikd {' '.join(order)}", "", took(kept), "first run ever", took(cold),
        peak_mb=max(cold.peak_mb, kept.peak_mb),
        bar=f"first seconds {bar(cold.wall_ms / 1e3, at_most=10.0)}" if order[0] == "predict" else "",
    )  # fmt: skip


def test_predictions_per_second(table, tmp_path):
    """Scenarios of the shipped grid from start to file, programs kept: what more draws add."""
    few, many, patients, scenarios = 32, 128, 512, 13

    def order(draws: int, name: str) -> Ran:
        words = ("--scenarios", "grid", "--draws", str(draws), "--patients", str(patients), "--months", "24")
        return run((*MEZIKD, "predict", *words, "--out", str(tmp_path / name)))

    order(few, "warm-up")
    short, long = order(few, "short"), order(many, "long")
    a_draw = Took(*((b - a) / (many - few) for a, b in zip(took(short), took(long), strict=True)))
    courses = scenarios * patients * 24
    table.add(
        f"predict: a further draw of {scenarios} scenarios x {patients} patients x 24 months", many, a_draw, peak_mb=long.peak_mb,
        note=f"{1e3 * courses / a_draw.cpu_ms / 1e6:.2f} million patient-months a CPU-second; {few} draws from start to file "
        f"{short.wall_ms / 1e3:.1f} s, {short.cpu_ms / 1e3:.1f} s of CPU",
    )  # fmt: skip


def test_main_fit(table, request, tmp_path):
    """Time and effective draws (the worst parameter's) of the built-in fit: of the shipped one, or anew with --long."""
    folder, peak, anew = built_in_fit(), None, request.config.getoption("--long", default=False)
    if anew:
        folder = tmp_path / "fit"
        cache = {"MEZIKD_CACHE": str(tmp_path / "cache")}
        peak = run((*MEZIKD, "fit", "--out", str(folder)), **cache).peak_mb
    d = json.loads((folder / "diagnostics.json").read_text())
    spent, effective = d["sampling_seconds"], d["min_ess_bulk"]
    assert np.isfinite(effective) and d["gate"] == "pass"
    cpu = d["sampling_cpu_seconds"] or np.nan
    table.add(
        "main fit, as shipped" if not anew else "main fit, nothing compiled before", d["virtual_patients"],
        Took(1e3 * d["seconds"], np.nan), peak_mb=peak, bar=f"seconds {bar(d['seconds'], at_most=90.0)}",
        note=f"{effective / spent:.1f} effective draws a second of sampling, {effective / cpu:.1f} a CPU-second of it, "
        f"{effective / d['gradients']:.3f} a gradient ({d['gradients']} gradients, {spent:.0f} s of sampling, {cpu:.0f} s of CPU)",
    )  # fmt: skip
