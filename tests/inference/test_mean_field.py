"""Mean-field expectations against exact patients: every reported rate and the median dose intensity.

Limit: 2 percentage points (model.md, section 1) plus 3 Monte Carlo standard errors. The slow version writes
``mean_field.csv`` beside this file.
"""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import estimators
from mezikd.inference.likelihood import CUMULATIVE, PROBABILITY
from mezikd.inference.trial import COUNTS, SAMPLES, ArmData
from mezikd.model.exact import simulate_trials
from mezikd.model.expected import Cuts, expected
from mezikd.model.parameters import DECLARED, REGIONS, free, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.trial_design import ARMS

TABLE = Path(__file__).parent / "mean_field.csv"
POINTS = {
    "prior median": {},
    "EC50 halved": {"ec50": 0.125},
    "EC50 halved, strong rules": {"ec50": 0.125, "hold_grade3": 0.8, "reduce_after_hold": 0.8},
}
RDI_GRID = tuple(np.linspace(0.44, 0.98, 19))
VIRTUAL = {"mezikd": 512, "kd": 256}
TOLERANCE = 0.02


def parameters_at(point: str) -> dict:
    """Return natural parameters: the prior median but for what the point changes."""
    changes = {k: jnp.asarray(v) for k, v in POINTS[point].items()}
    return natural(jnp.zeros(len(free(DECLARED)))) | changes


def rate_rows(evidence) -> list:
    """Return the fitted rows whose model counterpart is a probability."""
    return [r for r in evidence.fit if r.statistic == "count"]


def quartile_rows(evidence) -> list:
    """Return the fitted rows of quartiles."""
    return [r for r in evidence.fit if r.statistic == "quartiles"]


@pytest.fixture(scope="module")
def mean_field(target):
    """point -> {quantity: value} from the expectations, compiled once."""
    evidence, design = target.evidence, target.design
    cohorts = [design.cohort(a, VIRTUAL[a], 1) for a in ARMS]
    reported = target.cuts(target.data.observed)
    cuts = Cuts((*map(float, reported.rdi), *RDI_GRID), reported.neutropenia_days)

    @jax.jit
    def values(theta):
        e = expected(theta, design, *cohorts, cuts)
        out = {r.name: PROBABILITY[r.outcome](e, r) for r in rate_rows(evidence)}
        for r in quartile_rows(evidence):
            cumulative = CUMULATIVE[r.outcome](e, r, reported_quartiles(r))
            out |= {f"{r.name} <= {q:g}": cumulative[i] for i, q in enumerate(reported_quartiles(r))}
        return out | {"median RDI": jnp.interp(0.5, e.rdi[3:], jnp.asarray(RDI_GRID))}

    return lambda point: {k: float(v) for k, v in values(parameters_at(point)).items()}


def reported_quartiles(row) -> np.ndarray:
    """Return the three quartiles of a row."""
    return np.array([row.low, row.value, row.high])


def exact_trials(target, points: list[str], patients: int, seed: int) -> list[dict[str, ArmData]]:
    """Return a trial per point with ``patients`` in each arm, all treated, regions in the design's shares."""
    leaves = [parameters_at(p) for p in points]
    theta = {k: jnp.stack([jnp.asarray(x[k], float) for x in leaves]) for k in leaves[0]}
    rng, trials = np.random.default_rng(seed), [{} for _ in points]
    for i, arm in enumerate(ARMS):
        sizes = target.design.arm(arm)
        n = np.round(np.array(sizes.regions) * patients / sizes.randomised).astype(int)
        region = np.repeat(np.arange(len(REGIONS)), n)
        keys = jax.random.split(jax.random.key(seed + i), len(points))
        z = jnp.asarray(rng.standard_normal((len(points), len(EFFECTS), len(region))))
        histories = simulate_trials(theta, z, region, keys, arm, target.design)
        for j, trial in enumerate(trials):
            history = jax.tree.map(lambda x, j=j: np.asarray(x[j]), histories)
            trial[arm] = ArmData(sizes, region, np.ones(len(region), bool), history)
    return trials


def exact(target, trial) -> dict[str, tuple[float, float]]:
    """Return {quantity: (value, Monte Carlo standard error)} of one simulated trial."""
    out = {}

    def share(name, p, n):
        out[name] = p, float(np.sqrt(max(p * (1.0 - p), 1.0 / n) / n))

    for row in rate_rows(target.evidence):
        region = trial[row.arm].region
        inside = region >= 0 if row.subgroup == "all" else region == REGIONS.index(row.subgroup)
        share(row.name, COUNTS[row.outcome](trial, row) / inside.sum(), inside.sum())
    for row in quartile_rows(target.evidence):
        sample = SAMPLES[row.outcome](trial, row)
        for q in reported_quartiles(row):
            # Durations are whole days, of which the model counts half of the cut's own day.
            below = np.mean(sample < q) + 0.5 * np.mean(sample == q)
            share(f"{row.name} <= {q:g}", float(below), len(sample))
        if row.outcome.startswith("relative dose intensity"):
            rng, size = np.random.default_rng(1), (200, len(sample))
            medians = np.median(rng.choice(sample / 100.0, size), axis=1)
            out["median RDI"] = estimators.quartiles(sample / 100.0)[1], float(medians.std())
    return out


def compare(target, mean_field, points, patients: int, seed: int) -> list[dict]:
    """Return a row per quantity and point."""
    rows = []
    for point, trial in zip(points, exact_trials(target, points, patients, seed), strict=True):
        ours, theirs = mean_field(point), exact(target, trial)
        assert set(ours) == set(theirs)
        rows += [
            {
                "quantity": name,
                "point": point,
                "mean_field": ours[name],
                "exact": value,
                "difference": ours[name] - value,
                "mc_error": error,
            }
            for name, (value, error) in theirs.items()
        ]
    return rows


def assert_within(rows: list[dict]) -> None:
    """Fail, with the numbers, where the difference is larger than the limit."""
    missed = [r for r in rows if not abs(r["difference"]) <= TOLERANCE + 3.0 * r["mc_error"]]
    told = "\n".join(
        f"{r['point']}: {r['quantity']}: mean-field {r['mean_field']:.3f}, exact {r['exact']:.3f} "
        f"(Monte Carlo {r['mc_error']:.3f})"
        for r in missed
    )
    assert not missed, f"{len(missed)} of {len(rows)} beyond 2 points and 3 standard errors\n{told}"


def test_mean_field_agrees_with_exact_patients(target, mean_field):
    assert_within(compare(target, mean_field, list(POINTS), 2_500, 1))


def test_the_points_differ(mean_field):
    """The comparison covers rare and frequent holds."""
    held = [mean_field(p)["hold_mezigdomide_neutropenia/mezikd/all"] for p in POINTS]
    assert held[1] > 1.5 * held[0] and held[2] > 1.1 * held[1]


@pytest.mark.slow
def test_mean_field_agrees_with_60000_exact_patients(target, mean_field):
    rows = [row for i, point in enumerate(POINTS) for row in compare(target, mean_field, [point], 60_000, 10 + i)]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    assert_within(rows)
