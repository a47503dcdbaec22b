"""Evidence that is wrong by construction is caught: by a rule, by the misfit at the mode, or by simulated trials' scores.

The slow version writes ``wrong_by_construction.csv`` beside this file.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from mezikd.inference import joint_covariance as jc
from mezikd.inference.commands import BAD_INPUT, built_in_fit, run
from mezikd.inference.mode import find_mode
from mezikd.inference.observed import Observed
from mezikd.inference.reported_trial import reported_by
from mezikd.inference.trial import simulated_trials
from mezikd.model.regimen import DAYS_PER_MONTH
from scipy.stats import chi2

TABLE = Path(__file__).parent / "wrong_by_construction.csv"
WEEKS_PER_MONTH = DAYS_PER_MONTH / 7.0


def changed(target, field: str, names: dict[str, float]) -> Observed:
    """Return the reported numbers with some of ``field`` replaced, by row name."""
    rows = [r.name for r in target.evidence.rows]
    values = np.array(getattr(target.data.observed, field))
    for name, value in names.items():
        values[rows.index(name)] = value
    return target.data.observed._replace(**{field: values})


def value_of(target, name: str) -> float:
    rows = [r.name for r in target.evidence.rows]
    return float(target.data.observed.value[rows.index(name)])


def misread(target) -> dict[str, Observed]:
    """Return numbers as if a table had been misread, by mistake."""
    any_grade = value_of(target, "infection_any/kd/all")
    months = {f"pfs_median/{arm}/all": value_of(target, f"pfs_median/{arm}/all") for arm in ("mezikd", "kd")}
    hazard_ratio = {"pfs_hr/mezikd_vs_kd/all": 1.0 / value_of(target, "pfs_hr/mezikd_vs_kd/all")}
    return {
        "grades shifted by one (infection on Kd: any grade for grade 3-4)": changed(
            target, "value", {"infection_g34/kd/all": any_grade - 1.0}
        ),
        "hazard ratio inverted": changed(target, "value", hazard_ratio),
        "months read as weeks (PFS medians)": changed(
            target, "value", {k: v / WEEKS_PER_MONTH for k, v in months.items()}
        ),
    }


@pytest.fixture(scope="module")
def misfit(target, evaluate):
    """numbers -> sum of squared scores at the mode, less what the scores' number makes likely."""
    start = np.zeros(sum(not p.fixed for p in target.parameters))
    cache = {}

    def of(observed: Observed) -> float:
        data = target.data._replace(observed=observed)

        def gradient(z):
            (value, _), slope = evaluate(z, data)
            return float(value), slope

        z, _, _ = find_mode(gradient, cache.get("mode", start)[None])
        cache.setdefault("mode", z)
        (_, parts), _ = evaluate(z, data)
        return float(sum((r**2).sum() for r in parts["scores"].values()))

    of(target.data.observed)  # the others start at its mode
    return of


def test_misread_tables_do_not_fit(target, misfit):
    """45 scores: the right numbers fit as well as chance allows, each mistake costs far more than its one number can."""
    right = misfit(target.data.observed)
    assert chi2.sf(right, len(target.score_names)) > 0.01
    for name, observed in misread(target).items():
        assert misfit(observed) - right > chi2.isf(1e-4, 2), name


@pytest.fixture(scope="module")
def spread(target):
    """factor on standard errors -> spread of the hazard ratio's and medians' scores in simulated trials."""
    z = np.zeros(sum(not p.fixed for p in target.parameters))
    function = jc.score_function(target)
    trials = [t for t, _ in simulated_trials(np.tile(z, (64, 1)), target.parameters, target.design, 8)]
    reports = [reported_by(t, target.evidence) for t in trials]
    places = [i for i, n in enumerate(target.score_names) if n.startswith(("pfs_hr", "pfs_median"))]

    def of(factor: float) -> np.ndarray:
        scores = [function(z, o._replace(error=factor * np.asarray(o.error)))[places] for o in reports]
        return np.std(scores, axis=0)

    return of


def test_an_interval_read_as_a_standard_deviation_is_seen(spread):
    """Half of a 95 % interval is 1.96 standard errors: taken for one, the scores of simulated trials spread half as much."""
    assert np.all(np.abs(spread(1.0) - 1.0) < 0.35)
    assert np.all(spread(1.96) < 0.7)


def test_subgroups_counted_twice_are_refused(tmp_path, capsys):
    folder = tmp_path / "twice"
    folder.mkdir()
    for name in ("fit.toml", "priors.csv"):
        (folder / name).write_bytes((built_in_fit() / name).read_bytes())
    text = (built_in_fit() / "evidence.csv").read_text("utf-8")
    line = next(x for x in text.splitlines() if x.startswith("neutropenia_g34,mezikd,all"))
    (folder / "evidence.csv").write_text(text.replace(line, line.replace(",check,", ",fit,")), "utf-8")
    assert run(["fit", str(folder), "--out", str(tmp_path / "out")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "neutropenia_g34/mezikd/all" in said and len(said.splitlines()) == 1


@pytest.mark.slow
def test_write_the_table(target, misfit, spread):
    right = misfit(target.data.observed)
    lines = [
        ("nothing", "misfit at the mode (45 scores)", right, right, "no"),
        *(
            (name, "misfit at the mode (45 scores)", right, misfit(o), "yes")
            for name, o in misread(target).items()
        ),
        (
            "95 % interval read as a standard deviation", "spread of scores in simulated trials",
            spread(1.0).mean(), spread(1.96).mean(), "yes",
        ),
        ("subgroups counted twice", "refused: exit code 2", "", "", "yes"),
    ]  # fmt: skip
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mistake", "seen in", "right", "wrong", "caught"])
        writer.writerows([[x if isinstance(x, str) else f"{x:.2f}" for x in line] for line in lines])
