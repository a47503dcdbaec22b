"""One patient after the end of its data: the course and events by the equations and another solver, files, mistakes."""

import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference import patient_prediction
from mezikd.inference.arrest_prediction import predict_arrest
from mezikd.inference.arrest_settings import EFFECTS, ArrestFit
from mezikd.inference.commands import run
from mezikd.inference.friberg_prediction import predict_friberg
from mezikd.inference.patient_data import EVENT_COLUMNS, EXPOSURE_COLUMNS, OBSERVATION_COLUMNS, PatientData, empty
from mezikd.inference.patient_regimen import NO_DOSE, Proposal
from mezikd.inference.patient_settings import PatientFit
from mezikd.inference.patient_store import TABLES, restored, stored
from mezikd.inference.posterior_file import FORMAT, save
from mezikd.model import neutrophils, progression
from mezikd.model.dosing_events import Records
from mezikd.model.parameters import free, natural
from scipy import stats
from scipy.integrate import solve_ivp
from test_arrest_fit import SMALL
from test_patient_fit import SMALL as SMALL_FRIBERG
from test_patient_fit import by_scipy

ARREST = SMALL.replace(
    "infection_rate = {}", "infection_rate = { centre = 0.1 }\ninfection_fatal = { centre = 0.5, spread = 0.0 }"
).replace(
    "progression_rate = {}", "progression_rate = { centre = 0.3 }\ntumour_effect = { centre = 3.0, spread = 0.0 }"
)
"""Events often enough that each part of their probabilities is seen."""
FRIBERG = SMALL_FRIBERG.replace(
    "v1 = { centre = 50.0, spread = 0.3 }",
    "v1 = { centre = 50.0, spread = 0.3, covariates = { WT = { power = 1.0, reference = 70.0 } } }",
)
"""A covariate of a parameter in which patients do not differ otherwise."""
DRAWS = 20
NOW = 60
"""Day on which the data of the patient that is predicted end."""


def records(doses: tuple[float, ...], observed: tuple[float, ...]) -> Records:
    """Return doses of 100 into the depot and counts, by time in h."""
    rows = sorted([(t, 1.0) for t in doses] + [(t, 0.0) for t in observed])
    time, evid = np.array(rows).reshape(-1, 2).T
    zero = np.zeros_like(time)
    return Records(time, evid, 1.0 + zero, 100.0 * evid, zero, zero, zero, zero)


def counts(times: dict[int, tuple[float, ...]], ids: tuple[str, ...]) -> pd.DataFrame:
    """Return a count of 2.5 at each time (h), by patient."""
    lines = [(i, ids[i], t, "anc", 2.5, False, np.nan, 2) for i, mine in times.items() for t in mine]
    return pd.DataFrame.from_records(lines, columns=list(OBSERVATION_COLUMNS))


def tree_of(kind: type, text: str, tables: PatientData, x: np.ndarray, posterior: dict) -> xr.DataTree:
    """Return what of a fit a prediction reads, with draws as given."""
    coords = {"patient": list(tables.ids)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior, coords=coords),
            "unconstrained_posterior": xr.Dataset({"x": (("chain", "draw", "coordinate"), x[None])}),
            TABLES: stored(tables),
        }
    )
    settings = kind.model_validate(tomllib.loads(text))
    tree.attrs.update(mezikd_format=FORMAT, kind="patients", settings=settings.model_dump_json())
    return tree


@pytest.fixture(scope="module")
def arrest(tmp_path_factory):
    """Three patients: one on 1.0 and then 0.6 mg until day 60, one that has died, one without the drug."""
    ids = ("01", "02", "03")
    of = dict.fromkeys(range(3), (0.0, 24.0 * 14, 24.0 * (NOW - 1)))
    doses = [(0, "01", 0, 21, 1.0, 1.0, 1.0, False), (0, "01", 28, 14, 1.0, 0.6, 0.6, False)]
    events = [
        (i, ids[i], kind, 58.5 if i == 1 else 59.5, int(i == 1 and kind == "death"), pd.NA, None)
        for i in range(3) for kind in ("infection", "progression", "death")
    ]  # fmt: skip
    tables = PatientData(
        ids, [records((), of[i]) for i in range(3)], counts(of, ids),
        pd.DataFrame.from_records(events, columns=list(EVENT_COLUMNS)).astype({"grade": "Int64"}),
        pd.DataFrame({"REGION": ["ASIA"] * 3}, index=pd.Index(ids, name="id")),
        pd.DataFrame.from_records(doses, columns=list(EXPOSURE_COLUMNS)),
    )  # fmt: skip
    rng = np.random.default_rng(4)
    settings = ArrestFit.model_validate(tomllib.loads(ARREST))
    x = 0.5 * rng.normal(size=(DRAWS, len(free(settings.declared)) + 3 * len(EFFECTS)))
    theta = natural(x[:, : len(free(settings.declared))], settings.declared)
    eta = 0.3 * rng.normal(size=(DRAWS, 3, len(EFFECTS)))
    posterior = {
        f"patient_{e}": (("chain", "draw", "patient"), (np.exp(eta[..., k]) * (theta["anc0"][:, None] if e == "anc0" else 1.0))[None])
        for k, e in enumerate(EFFECTS)
    }  # fmt: skip
    tree = tree_of(ArrestFit, ARREST, tables, x, posterior)
    path = tmp_path_factory.mktemp("arrest") / "posterior.nc"
    save(tree, path)
    return path, tree, tables, settings, theta, eta[:, 0]


def arrest_by_scipy(theta: dict[str, float], eta: np.ndarray, doses: np.ndarray):
    """Return log ANC, arrest and the tumour block of each day, from the equations in continuous time (model.md)."""
    marrow = neutrophils.rates(theta, np.exp(eta[2]))
    circ, kd, rho, sat, g, flat = (float(np.asarray(v)) for v in marrow)
    k, n, ec50 = np.log(2.0) / (theta["half_life_hours"] / 24.0), theta["hill"], theta["ec50"]
    ikaros, f0 = np.log(2.0) / theta["ikaros_half_life_days"], circ + kd * rho
    y, amount, out = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0 + rho]), 0.0, []
    b = (1.0 + rho - flat) / rho

    def blood(m):
        s = m + b
        return (s - np.sqrt(s * s - 4.0 * flat * m * b)) / (2.0 * flat)

    for dose in doses:
        amount += dose * np.exp(eta[0])

        def field(t, y, amount=amount):
            a, p, t1, t2, t3, m = y
            left = (amount * np.exp(-k * t)) ** n
            phi = (f0 + kd) * (sat + 1.0) * (1.0 - a) * t2 / (sat + t2)
            c = blood(m)
            return [
                ikaros * (theta["emax"] * left / (ec50**n + left) - a), (f0 + 3 * kd) * p * (t2**-g - 1.0),
                (f0 + 3 * kd) * (p - t1), (f0 + 2 * kd) * t1 - phi - kd * t2, phi - (f0 + kd) * t3,
                f0 * t3 - kd * (m - c) - circ * c,
            ]  # fmt: skip

        t = (np.arange(200) + 0.5) / 200.0
        left = (amount * np.exp(-k * t)) ** n
        out.append(
            (
                np.log(theta["anc0"]) + eta[1] + np.log(blood(y[5])),
                y[0],
                np.mean(left / (theta["ec50_tumour"] ** n + left)),
            )
        )
        y = solve_ivp(field, (0.0, 1.0), y, rtol=1e-7, atol=1e-9).y[:, -1]
        amount *= np.exp(-k)
    return np.array(out).T


def test_arrest_by_the_equations(arrest):
    """ANC, first severe infection and progression under 1.0 mg 14/28 and no dose, of single draws."""
    path, tree, tables, settings, theta, eta = arrest
    months = 2
    p = Proposal("01", 1.0, 14, 28, 0.9, months)
    predicted = predict_arrest(path, tree, tables, settings, p, np.arange(DRAWS))
    assert predicted.now == NOW
    first = np.zeros(NOW + 70)
    first[:21], first[28:42] = 1.0, 0.6
    again = first.copy()
    again[NOW : NOW + 14], again[NOW + 28 : NOW + 42], again[NOW + 56 :] = 0.9, 0.9, 0.9
    assert [f.extrapolated for f in predicted.forecasts] == [True, False]
    for f, doses, stop in zip(predicted.forecasts, (again, first), (1e6, float(NOW)), strict=True):
        for d in (3, 11):
            mine = {k: float(np.broadcast_to(v, DRAWS)[d]) for k, v in theta.items()}
            log_anc, a, tumour = arrest_by_scipy(mine, eta[d], doses)
            days = f.anc.shape[1]
            error = np.abs(np.log(f.anc[d]) - log_anc[:days])
            assert np.median(error) < 0.004 and error.max() < 0.06
            t = np.arange(len(doses))
            below = 0.25 * np.log1p(np.exp(-log_anc / 0.25))
            early = 1.0 + mine["infection_early_mezikd"] * np.exp(-(t + 0.5) / mine["infection_early_days"])
            h = mine["infection_rate"] / 30.4375 * early
            h *= np.exp(mine["infection_drug"] * a + mine["infection_neutropenia"] * below)
            ends = NOW + 30.4375 * np.arange(months + 1)
            v = mine["infection_frailty_sd"] ** 2
            none = np.array([(1.0 + v * (h * np.clip(e - t, 0.0, 1.0)).sum()) ** (-1.0 / v) for e in ends])
            infection = 1.0 - none[1:] / none[0]
            np.testing.assert_allclose(f.risks["severe_infection"][d], infection, rtol=0.02)
            alone = progression_by_scipy(mine, eta[d, 3], tumour, stop, ends)
            living = np.exp(-mine["death_rate"] * np.arange(1, months + 1))
            whole = alone * living * (1.0 - mine["infection_fatal"] * infection)
            np.testing.assert_allclose(f.risks["progression_free"][d], whole, atol=0.0005)
            sigma = mine["sigma_anc"]
            np.testing.assert_allclose(f.below[1.0][d], stats.norm.cdf(-np.log(f.anc[d]) / sigma), atol=1e-9)
    kept, none = (f.risks["progression_free"][:, -1].mean() for f in predicted.forecasts)
    assert none < kept


def progression_by_scipy(theta: dict[str, float], eta: float, tumour: np.ndarray, stop: float, ends: np.ndarray):
    """Return P(no progression until each of ``ends`` after the first | none until the first): effect on, or lost after stop."""
    weeks, keep, effect, of_week = len(tumour) // 7 + 1, np.exp(-7.0 / theta["tumour_memory_days"]), 0.0, []
    for w in range(weeks):
        block = tumour[7 * w : 7 * w + 7].mean() if 7 * w < len(tumour) else 0.0
        effect = block + (effect - block) * keep if 7 * w < stop else effect
        of_week.append(effect)
    shared = {k: jnp.asarray(v) for k, v in theta.items()}
    base = np.asarray(progression.baseline_hazard(shared, weeks)) * np.exp(eta) / 7.0
    scale = theta["tumour_effect"] / float(progression.reference_effect(shared))
    y, found, cuts = np.array([1.0, 0.0]), {}, sorted({0.0, *ends, min(stop, ends[-1]), *np.arange(0.0, ends[-1], 7.0)})
    for begin, end in zip(cuts, [*cuts[1:], None], strict=True):
        found[begin] = y.sum()
        if end is None:
            break
        w = int(begin // 7)
        slow, fast = base[w] * np.exp(-scale * of_week[w]), base[w]
        loss = 1.0 / theta["tumour_memory_days"] if begin >= stop else 0.0
        step = lambda _, y, s=slow, f=fast, r=loss: [-(s + r) * y[0], r * y[0] - f * y[1]]  # noqa: E731
        y = solve_ivp(step, (begin, end), y, rtol=1e-9, atol=1e-12).y[:, -1]
    return np.array([found[e] for e in ends[1:]]) / found[ends[0]]


def test_arrest_files(arrest, tmp_path, monkeypatch):
    """Columns, days, cycles and months; a low count in a cycle from the days of its visits; the dose taken last is the default."""
    path, tree, tables, settings, *_ = arrest
    out = tmp_path / "out"
    monkeypatch.setattr(patient_prediction, "caution", lambda _: "missed its gate")
    assert run(["predict", str(path), "--patient", "01", "--months", "2", "--out", str(out)]) == 0
    assert {str(f.relative_to(out)) for f in out.rglob("*") if f.is_file()} == {
        "predictions.csv", "summary.md", "figures/patient.png",
    }  # fmt: skip
    table = pd.read_csv(out / "predictions.csv", dtype={"patient": str})
    assert list(table["scenario"].unique()) == ["0.6 mg 21/28", NO_DOSE] and set(table["patient"]) == {"01"}
    anc = table[(table["outcome"] == "anc") & (table["scenario"] == NO_DOSE)]
    assert anc["day"].tolist() == list(range(NOW, NOW + 61))
    assert (table["pi90_low"] <= table["pi50_low"]).all() and (table["pi50_high"] <= table["pi90_high"]).all()
    low = table[table["outcome"] == "count_below_1"]
    assert low["cycle"].tolist() == [1, 2] * 2 and low["day"].tolist() == [NOW + 28, NOW + 56] * 2
    whole = predict_arrest(path, tree, tables, settings, Proposal("01", None, months=2), np.arange(DRAWS))
    visits = whole.forecasts[0].below[1.0][:, [NOW + 7, NOW + 14, NOW + 21, NOW + 28]]
    assert low["mean"].iloc[0] == pytest.approx(np.mean(1.0 - np.prod(1.0 - visits, axis=1)), abs=1e-5)
    assert table.loc[table["outcome"] == "progression_free", "month"].tolist() == [1, 2] * 2
    # No patient of the fit was followed beyond day 60 (59.5): all that comes later is extrapolated.
    assert table.loc[table["day"] > NOW, "extrapolated"].all()
    text = (out / "summary.md").read_text()
    assert "extrapolation through the dose-response" in text and "rests on priors" in text
    assert "**missed its gate**" in text


@pytest.fixture(scope="module")
def friberg(tmp_path_factory):
    """Two patients with a dose a day for five days and counts until day 10."""
    ids = ("a", "b")
    times = (0.0, 120.0, 240.0)
    tables = PatientData(
        ids, [records(tuple(24.0 * d for d in range(5)), times)] * 2, counts(dict.fromkeys(range(2), times), ids),
        empty(EVENT_COLUMNS), pd.DataFrame({"WT": [60.0, 90.0]}, index=pd.Index(ids, name="id")), empty(EXPOSURE_COLUMNS),
    )  # fmt: skip
    rng = np.random.default_rng(6)
    settings = PatientFit.model_validate(tomllib.loads(FRIBERG))
    posterior: dict = {
        n: (("chain", "draw"), p.centre * np.exp(p.spread * rng.normal(size=(1, DRAWS)))) for n, p in settings.parameters.items()
    } | {"error_anc": (("chain", "draw"), np.full((1, DRAWS), 0.3))}  # fmt: skip
    for n, p in settings.parameters.items():
        if p.individual:
            own = posterior[n][1][..., None] * np.exp(0.3 * rng.normal(size=(1, DRAWS, 2)))
            posterior[f"patient_{n}"] = ("chain", "draw", "patient"), own
    tree = tree_of(PatientFit, FRIBERG, tables, rng.normal(size=(DRAWS, 4)), posterior)
    path = tmp_path_factory.mktemp("friberg") / "posterior.nc"
    save(tree, path)
    return path, tree, tables, settings, posterior


def test_friberg_by_the_equations(friberg):
    """ANC of single draws under further doses and under none, against a general solver of the equations."""
    _, tree, tables, settings, posterior = friberg
    predicted = predict_friberg(tree, tables, settings, Proposal("b", None, 3, 7, 1.0, 1), np.arange(DRAWS))
    assert predicted.now == 10.0
    first = [24.0 * d for d in range(5)]
    more = [240.0 + 24.0 * d for d in range(30) if d % 7 < 3]
    for f, doses in zip(predicted.forecasts, (first + more, first), strict=True):
        assert not f.extrapolated
        for d in (0, 7):
            own = {n: float(posterior[n][1][0, d]) for n in settings.parameters}
            own |= {n: float(posterior[f"patient_{n}"][1][0, d, 1]) for n in ("cl", "anc0")}
            own["v1"] *= 90.0 / 70.0
            _, theirs = by_scipy(own, doses, f.days * 24.0)
            np.testing.assert_allclose(f.anc[d], theirs, rtol=5e-3)
    assert predicted.forecasts[0].anc[:, -1].mean() < predicted.forecasts[1].anc[:, -1].mean()


def test_tables_are_kept_with_every_digit(arrest, friberg):
    for tables in (arrest[2], friberg[2]):
        back = restored(stored(tables))
        assert back.ids == tables.ids
        for name, table in tables.tables().items():
            assert back.tables()[name].to_csv(index=False) == table.to_csv(index=False), name


MISTAKES = {
    "unknown patient": ("arrest", ["--patient", "1"], "allowed: 01, 02, 03"),
    "no patient": ("arrest", [], "01, 02, 03"),
    "dead": ("arrest", ["--patient", "02"], "died on day 58"),
    "no dose known": ("arrest", ["--patient", "03"], "--dose: missing"),
    "dose above the range": ("arrest", ["--patient", "01", "--dose", "60"], "at most 10"),
    "dose of 0": ("arrest", ["--patient", "01", "--dose", "0"], "--dose"),
    "more days than a cycle": ("arrest", ["--patient", "01", "--days-on", "35"], "--days-on"),
    "too many draws": ("arrest", ["--patient", "01", "--draws", "21"], "allowed: 20 to 20"),
    "a scenario file": ("arrest", ["--patient", "01", "--scenarios", "doses"], "beside --patient"),
    "dose in another unit": ("friberg", ["--patient", "a", "--dose", "1e6"], "at most 1000"),
    "reported numbers": ("shipped", ["--patient", "01"], "reported numbers"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes(arrest, friberg, tmp_path, capsys, name):
    """One line, exit code 2, nothing written."""
    which, options, words = MISTAKES[name]
    fit = {"arrest": [str(arrest[0])], "friberg": [str(friberg[0])], "shipped": []}[which]
    assert run(["predict", *fit, *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and "Traceback" not in error, error
    assert not Path(tmp_path / "out").exists()
