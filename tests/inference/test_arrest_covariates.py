"""The arrest model with covariates, correlated effects and exposures that are given: density by hand, files, mistakes."""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mezikd.inference.arrest_prediction import predict_arrest
from mezikd.inference.arrest_problem import build, read_tables
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.arrest_target import Lanes
from mezikd.inference.commands import run
from mezikd.inference.patient_data import EVENT_COLUMNS, EXPOSURE_COLUMNS, PatientData
from mezikd.inference.patient_regimen import Proposal
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.model.parameters import DECLARED, free
from scipy import stats
from simulated_tables import simulated_trial, write_tables
from test_arrest_fit import SMALL
from test_patient_prediction import arrest_by_scipy, counts, progression_by_scipy, records, tree_of

COVARIATES = """
ec50 = { centre = 0.3, covariates = { SEX = { category = { reference = "M", levels = ["F"], spread = 0.4 } } } }
anc0 = { covariates = { BNEUT = { power = 0.5, reference = 3.0, spread = 0.2 } } }
exposure = { covariates = { WT = { power = -0.75, reference = 75.0 } } }
maturation = { covariates = { WT = { power = 0.2, reference = 75.0 } } }
infection_rate = { centre = 0.1, covariates = { AGE = { power = 1.0, reference = 65.0, spread = 0.5 } } }
progression_rate = { centre = 0.3, covariates = { ISS = { category = { reference = "1", levels = ["2", "3"] } } } }
tumour_effect = { centre = 2.0, spread = 0.0 }
sigma_anc = {}
"""
HEAD = SMALL[: SMALL.index("[parameters]")].replace('"arrest"', '"arrest"\nsteps_per_day = 4\ndeath = false')
CORRELATED = f'{HEAD}[parameters]{COVARIATES}\n[effects]\ncorrelation = "lkj"\nlkj_shape = 2.0\n'
GIVEN = CORRELATED.replace(
    "exposure = { covariates = { WT = { power = -0.75, reference = 75.0 } } }",
    'exposure = { column = "AUC", reference = 40.0, dose = "AUCDOSE" }',
)
WEIGHT, AGE, BASELINE = np.array([60.0, 75.0, 95.0]), np.array([50.0, 70.0, 65.0]), np.array([2.0, 3.0, 5.0])
AUC, OF_DOSE = np.array([30.0, 36.0, np.nan]), np.array([1.0, 0.6, np.nan])
SEX, ISS = ["F", "M", "F"], [2.0, 3.0, 1.0]
DAYS = 63


def three() -> PatientData:
    """Return three patients: on 1.0 and then 0.6 mg with an infection, on 0.6 mg, without the drug; nine weeks of counts."""
    ids = ("01", "02", "03")
    of = dict.fromkeys(range(3), tuple(24.0 * d for d in (0, 14, 21, 35, 49, DAYS - 1)))
    doses = [
        (0, "01", 0, 21, 1.0, 1.0, 1.0, False),
        (0, "01", 28, 14, 1.0, 0.6, 0.6, False),
        (1, "02", 0, 21, 0.6, 0.6, 0.6, False),
    ]
    events = [
        (i, ids[i], kind, 30.4 if (i, kind) == (0, "infection") else 60.0 + i, int((i, kind) == (0, "infection")), pd.NA, None)
        for i in range(3) for kind in ("infection", "progression")
    ]  # fmt: skip
    columns = {"SEX": SEX, "ISS": ISS, "WT": WEIGHT, "AGE": AGE, "BNEUT": BASELINE, "AUC": AUC, "AUCDOSE": OF_DOSE}
    return PatientData(
        ids, [records((), of[i]) for i in range(3)], counts(of, ids),
        pd.DataFrame.from_records(events, columns=list(EVENT_COLUMNS)).astype({"grade": "Int64"}),
        pd.DataFrame(columns, index=pd.Index(ids, name="id")),
        pd.DataFrame.from_records(doses, columns=list(EXPOSURE_COLUMNS)),
    )  # fmt: skip


def problem(text: str):
    """Return (target, data) of a fit of ``text`` to the three patients."""
    return build(Path("nowhere"), ArrestFit.model_validate(tomllib.loads(text)), three())


def log_lkj(x: np.ndarray, effects: int, shape: float) -> tuple[float, np.ndarray]:
    """Return log det(R)^(shape - 1) + log |dR/dx| by differences, and the root of R; partial correlations are tanh(x)."""
    below = np.tril_indices(effects, -1)

    def root(x):
        r, out = np.zeros((effects, effects)), np.zeros((effects, effects))
        r[below] = np.tanh(x)
        left = np.ones(effects)
        for j in range(effects):
            out[:, j] = np.where(np.arange(effects) > j, r[:, j] * left, np.where(np.arange(effects) == j, left, 0.0))
            left = left * np.sqrt(1.0 - r[:, j] ** 2)
        return out

    def correlations(x):
        return (root(x) @ root(x).T)[below]

    jacobian = [(correlations(x + 1e-6 * e) - correlations(x - 1e-6 * e)) / 2e-6 for e in np.eye(len(x))]
    det = np.linalg.det(root(x) @ root(x).T)
    return (shape - 1.0) * np.log(det) + np.linalg.slogdet(np.array(jacobian))[1], root(x)


def by_hand(theta: dict, shift: np.ndarray, i: int) -> float:
    """Return the log-likelihood of patient ``i`` with parameters ``theta`` of its own and effects ``shift``, from the equations."""
    doses = np.zeros(7 * (DAYS // 7 + 1))
    if i == 0:
        doses[:21], doses[28:42] = 1.0, 0.6
    if i == 1:
        doses[:21] = 0.6
    log_anc, a, tumour = arrest_by_scipy(theta, shift, doses)
    total = stats.lognorm(theta["sigma_anc"], scale=np.exp(log_anc[[0, 14, 21, 35, 49, DAYS - 1]])).logpdf(2.5).sum()
    t, until = np.arange(len(doses)), (30.4, 61.0, 62.0)[i]
    early = theta["infection_early_mezikd" if i < 2 else "infection_early_kd"] * np.exp(
        -(t + 0.5) / theta["infection_early_days"]
    )
    below = 0.25 * np.log1p(np.exp(-log_anc / 0.25))
    h = theta["infection_rate"] / 30.4375 * (1.0 + early)
    h *= np.exp(theta["infection_drug"] * a + theta["infection_neutropenia"] * below)
    v, whole = theta["infection_frailty_sd"] ** 2, (h * np.clip(until - t, 0.0, 1.0)).sum()
    total += -np.log1p(v * whole) / v + (np.log(h[30]) - np.log1p(v * whole) if i == 0 else 0.0)
    alone = progression_by_scipy(theta, shift[3], tumour, 1e6, np.array([0.0, 60.0 + i]))
    return total + float(np.log(alone[0]))


def two_draws(text: str, tables, target, data):
    """Return the population and the effects of two draws, and the file of a fit with these."""
    rng = np.random.default_rng(7)
    x, eta = 0.4 * rng.normal(size=(2, target.dimensions)), 0.3 * rng.normal(size=(2, 3, len(target.effects)))
    thetas = [target.population(jnp.asarray(v)) for v in x]
    own = [target.own(t, jnp.asarray(e), data) for t, e in zip(thetas, eta, strict=True)]
    posterior = {
        f"patient_{e}": (("chain", "draw", "patient"), np.array([[o[e] for o in own]])) for e in target.effects
    }
    tree = tree_of(ArrestFit, text, tables, x, posterior)
    return thetas, eta, tree


@pytest.mark.parametrize("given", [False, True], ids=["covariates", "exposure given"])
def test_log_density_by_hand(given):
    """Patients' parameters from covariates and effects, their counts and events from the equations, priors by scipy."""
    target, data = problem(GIVEN if given else CORRELATED)
    k = 3 if given else 4
    names = [p.name for p in free(target.declared)]
    shared = ["ec50", "anc0", "sigma_anc", "infection_rate", "progression_rate"]
    coefficients = ["category_ec50_SEX_F", "power_anc0_BNEUT", "power_infection_rate_AGE", "category_progression_rate_ISS_2",
                    "category_progression_rate_ISS_3"]  # fmt: skip
    assert (
        set(names) == {*shared, *coefficients}
        and target.effects == ("exposure", "anc0", "maturation", "progression")[4 - k :]
    )
    size, pairs = len(names), k * (k - 1) // 2
    assert target.shared_size == size + pairs and target.dimensions == size + pairs + 3 * k
    found, expected = [], []
    for seed in (3, 4):
        x = 0.6 * np.random.default_rng(seed).normal(size=target.dimensions)
        z = dict(zip(names, np.asarray(target.prior_scaled(x)), strict=True))
        theta = {p.name: float(p.from_standard(np.asarray(z.get(p.name, 0.0)))) for p in DECLARED}
        theta |= {"ec50": 0.3 * np.exp(0.7 * z["ec50"]), "tumour_effect": 2.0}
        theta |= {
            "infection_rate": 0.1 * np.exp(0.5 * z["infection_rate"]),
            "progression_rate": 0.3 * np.exp(0.35 * z["progression_rate"]),
        }
        prior, root = log_lkj(x[size : size + pairs], k, 2.0)
        sds = ["exposure_sd", "anc0_sd", "maturation_sd", "progression_frailty_sd"][4 - k :]
        sd = np.array([theta[n] for n in sds])
        eta = x[size + pairs :].reshape(3, k) @ root.T * sd
        law = stats.multivariate_normal(np.zeros(k), np.outer(sd, sd) * (root @ root.T))
        total = (
            prior
            + stats.norm.logpdf(list(z.values())).sum()
            + law.logpdf(eta).sum()
            + 3 * np.log(np.diag(root) * sd).sum()
        )
        for i in range(3):
            mine, shift = dict(theta), np.concatenate([np.zeros(4 - k), eta[i]])
            mine["ec50"] *= np.exp(0.4 * z["category_ec50_SEX_F"]) if SEX[i] == "F" else 1.0
            mine["anc0"] *= (BASELINE[i] / 3.0) ** (0.5 + 0.2 * z["power_anc0_BNEUT"])
            mine["infection_rate"] *= (AGE[i] / 65.0) ** (1.0 + 0.5 * z["power_infection_rate_AGE"])
            shift[2] += 0.2 * np.log(WEIGHT[i] / 75.0)
            shift[3] += 0.5 * z[f"category_progression_rate_ISS_{ISS[i]:g}"] if ISS[i] > 1.0 else 0.0
            shift[0] += -0.75 * np.log(WEIGHT[i] / 75.0) if not given else np.log((0.75, 1.5, 1.0)[i])
            total += by_hand(mine, shift, i)
        expected.append(total)
        found.append(float(target.log_density(jnp.asarray(x), data)))
    assert found[0] - found[1] == pytest.approx(expected[0] - expected[1], abs=0.03) and abs(found[0] - found[1]) > 1.0


def test_gradient_and_many_points():
    """With everything at once: finite, equal to differences, and the same in many points as in one."""
    target, data = problem(CORRELATED)
    rng = np.random.default_rng(2)
    xs, u = jnp.asarray(0.3 * rng.normal(size=(2, target.dimensions))), rng.normal(size=target.dimensions)
    alone = jax.jit(jax.value_and_grad(lambda x: target.log_density(x, data)))
    value, slope = alone(xs[0])
    assert np.isfinite(slope).all() and (np.abs(slope[: target.shared_size]) > 1e-8).all()
    step = (alone(xs[0] + 1e-5 * u)[0] - alone(xs[0] - 1e-5 * u)[0]) / 2e-5
    assert float(step) == pytest.approx(float(slope @ u), rel=1e-5)
    np.testing.assert_allclose(target.log_densities(xs, data), [value, alone(xs[1])[0]], rtol=1e-12)


def test_effects_are_found_in_patients_own_values():
    """Own values are typical ones times covariates times exp(effect); predictions go the other way."""
    target, data = problem(CORRELATED)
    theta = target.population(jnp.asarray(0.5 * np.random.default_rng(5).normal(size=target.dimensions)))
    eta = jnp.asarray(np.random.default_rng(6).normal(size=(3, 4)))
    own, without = (target.own(theta, e, data) for e in (eta, 0.0 * eta))
    for i, e in enumerate(target.effects):
        np.testing.assert_allclose(np.log(own[e] / without[e]), eta[:, i], rtol=1e-9)
    np.testing.assert_allclose(without["exposure"], (WEIGHT / 75.0) ** -0.75)
    np.testing.assert_allclose(
        without["anc0"], theta["anc0"] * (BASELINE / 3.0) ** float(theta["power_anc0_BNEUT"]), rtol=1e-9
    )
    who = target.individuals(theta, eta, data)
    np.testing.assert_allclose(np.exp(who.log_anc0), own["anc0"], rtol=1e-9)
    np.testing.assert_allclose(np.exp(who.log_exposure), own["exposure"], rtol=1e-9)
    np.testing.assert_allclose(who.progression_frailty, own["progression"], rtol=1e-9)


@pytest.mark.parametrize("given", [False, True], ids=["covariates", "exposure given"])
def test_a_patients_prediction_has_its_covariates(tmp_path, given):
    """The course of counts by the equations, at the patient's own values and at its own EC50."""
    text = (GIVEN if given else CORRELATED).replace("steps_per_day = 4", "steps_per_day = 2")
    tables, settings = three(), ArrestFit.model_validate(tomllib.loads(text))
    target, data = problem(text)
    thetas, eta, tree = two_draws(text, tables, target, data)
    predicted = predict_arrest(
        tmp_path / "posterior.nc", tree, tables, settings, Proposal("01", 0.6, months=1), np.arange(2)
    )
    now = int(predicted.now)
    doses = np.zeros(now + 30)
    doses[:21], doses[28:42], doses[now : now + 21] = 1.0, 0.6, 0.6
    for d in range(2):
        mine = {k: float(v) for k, v in thetas[d].items() if np.ndim(v) == 0}
        mine["ec50"] *= np.exp(mine["category_ec50_SEX_F"])
        mine["anc0"] *= (2.0 / 3.0) ** mine["power_anc0_BNEUT"]
        shift = np.append(0.0, eta[d, 0]) if given else eta[d, 0]
        shift = shift + np.array([np.log(0.75) if given else -0.75 * np.log(0.8), 0.0, 0.2 * np.log(0.8), 0.0])
        log_anc, *_ = arrest_by_scipy(mine, shift, doses)
        error = np.abs(np.log(predicted.forecasts[0].anc[d, : len(doses)]) - log_anc)
        assert error.max() < 0.02, error


FIT = SMALL.replace("ec50 = {}", 'ec50 = {}\nexposure = { column = "AUC", reference = 40.0 }').replace(
    "anc0 = { centre = 3.0, spread = 0.3 }",
    'anc0 = { centre = 3.0, spread = 0.3, covariates = { BNEUT = { power = 0.5, reference = 3.0, spread = 0.2 }, '
    'SEX = { category = { reference = "M", levels = ["F"] } } } }',
)  # fmt: skip
FIT = FIT.replace("[sampler]", '[effects]\ncorrelation = "lkj"\n\n[sampler]')


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a simulated trial whose adsl has a sex, and the simulator's own exposures as an AUC over 40."""
    place = tmp_path_factory.mktemp("covariates")
    write_tables(place, simulated_trial(16))
    subjects = pd.read_csv(place / "adsl.csv")
    dosed = subjects["ARMCD"] == "MEZIKD"
    auc = (40.0 * subjects["EXPOSURE"]).where(dosed)
    subjects.assign(SEX=np.where(np.arange(len(subjects)) % 2, "F", "M"), AUC=auc).to_csv(
        place / "adsl.csv", index=False
    )
    (place / "fit.toml").write_text(FIT)
    return place


def test_given_exposures_are_those_of_the_simulator(folder):
    """Of every treated patient, by the tables; patients without a dose have none, and it does not matter."""
    settings = load_patient_settings(folder, ArrestFit)
    tables = read_tables(folder, settings)
    target, data = build(folder, settings, tables)
    assert target.effects == ("anc0", "maturation", "progression")
    theta = target.population(jnp.zeros(target.dimensions))
    lanes = Lanes(target.individuals(theta, jnp.zeros((target.patients, 3)), data), target.rates(theta, data))
    subjects = pd.read_csv(folder / "adsl.csv")
    treated = data.drug > 0.0
    np.testing.assert_allclose(
        np.exp(lanes.individuals.log_exposure)[treated], subjects["EXPOSURE"][treated], rtol=1e-9
    )
    assert treated.sum() > 10 and (np.asarray(lanes.individuals.log_exposure)[~treated] == 0.0).all()


def test_from_files_to_results(folder, tmp_path):
    """Coefficients and correlations among the parameters with priors; no exposure among what patients differ in; a prediction."""
    out = tmp_path / "out"
    assert run(["fit", str(folder), "--out", str(out)]) == 3
    table = pd.read_csv(out / "parameters.csv").set_index("name")
    assert list(table.index) == [
        "ec50", "anc0", "sigma_anc", "infection_rate", "progression_rate", "power_anc0_BNEUT", "category_anc0_SEX_F",
        "correlation_anc0_maturation", "correlation_anc0_progression", "correlation_maturation_progression",
    ]  # fmt: skip
    assert table.loc["power_anc0_BNEUT", "prior_median"] == 0.5
    assert table.loc["category_anc0_SEX_F", "prior_q95"] == pytest.approx(1.6449 * 0.5, rel=1e-3)
    # One correlation of three effects under LKJ(1): a beta(3/2, 3/2) on (-1, 1).
    quantile = 2.0 * stats.beta(1.5, 1.5).ppf(0.95) - 1.0
    assert table.loc["correlation_anc0_maturation", "prior_q95"] == pytest.approx(quantile, rel=1e-3)
    assert table["contraction"].between(-2.0, 1.0).all() and table["posterior_median"].notna().all()
    assert "BNEUT" in table.loc["power_anc0_BNEUT", "meaning"]
    text = (out / "summary.md").read_text()
    assert "Exposure is given, not estimated: column AUC, of a dose of 1 mg, over 40." in text
    assert "Covariates: anc0 (BNEUT, SEX)." in text
    patients = pd.read_csv(out / "patients.csv")
    assert set(patients["parameter"]) == {"anc0", "maturation", "progression"}
    with xr.open_datatree(out / "posterior.nc") as tree:
        r = tree["posterior"]["correlation_anc0_maturation"].to_numpy()
        assert (np.abs(r) < 1.0).all() and r.std() > 0.01
    alive = pd.read_csv(folder / "adtte.csv").query("PARAMCD == 'OS' and CNSR > 0")["USUBJID"].iloc[0]
    options = ["--patient", str(alive), "--dose", "0.6", "--months", "1", "--out", str(tmp_path / "predicted")]
    assert run(["predict", str(out), *options]) == 0


SEX_TERM = 'SEX = { category = { reference = "M", levels = ["F"] } }'
MISTAKES = {
    "covariate of the error": ("sigma_anc = {}", f"sigma_anc = {{ covariates = {{ {SEX_TERM} }} }}", "covariates of sigma_anc"),
    "prior of exposure": ('{ column = "AUC", reference = 40.0 }', "{ spread = 0.5 }", "has a prior of exposure"),
    "exposure of nothing": ('{ column = "AUC", reference = 40.0 }', "{}", "exposure without covariates or column"),
    "maturation of nothing": ("ec50 = {}", "ec50 = {}\nmaturation = {}", "maturation without covariates: leave it out"),
    "column of another parameter": ("ec50 = {}", 'ec50 = { column = "AUC", reference = 1.0 }', "only exposure can be given"),
    "no reference": (', reference = 40.0 }', " }", "needs column and reference"),
    "dose of no column": ('column = "AUC", reference = 40.0', 'dose = "AUC"', "needs column and reference"),
    "column and covariates": ("reference = 40.0", f"reference = 40.0, covariates = {{ {SEX_TERM} }}", "a column and covariates"),
    "column and SD": ("ec50 = {}", "ec50 = {}\nexposure_sd = {}", "has exposure_sd, but exposures are given"),
    "no such column": ('"AUC"', '"AUCSS"', "column 'AUCSS' of exposure cannot be used"),
    "words as exposures": ('"AUC"', '"SEX"', "column 'SEX' of exposure cannot be used"),
    "reference in another unit": ("reference = 40.0 }", "reference = 0.04 }", "times the reference"),
    "covariate not there": ("BNEUT =", "WT =", "covariate 'WT' of anc0 cannot be used"),
    "level not declared": ('reference = "M", levels = ["F"]', 'reference = "M", levels = ["W"]', "which is no declared level"),
    "level of nobody": ('levels = ["F"]', 'levels = ["F", "X"]', "no patient has level 'X'"),
    "power and category": ("power = 0.5, ", 'power = 0.5, category = { reference = "M", levels = ["F"] }, ', "or category alone"),
    "two of one name": ('levels = ["F"]', 'levels = ["F 1", "F_1"]', "category__SEX_F_1"),
    "region twice": ("ec50 = {}", "ec50 = {}\nanc0_region_usa = {}", "anc0_region_usa and the covariate REGION"),
    "centre below 0": ("centre = 3.0", "centre = -3.0", "has centre -3 of anc0"),
    "no such correlation": ('"lkj"', '"full"', "effects.correlation"),
    "SDs of another fit": ("[effects]", "[effects]\nsd_scale = 0.5", "unknown key `effects.sd_scale`"),
    "shape 0": ('"lkj"', '"lkj"\nlkj_shape = 0.0', "effects.lkj_shape"),
}  # fmt: skip


def copied(folder: Path, place: Path, text: str) -> None:
    """Copy the tables of ``folder`` to ``place``, with ``text`` as its fit.toml."""
    for path in folder.glob("ad*.csv"):
        (place / path.name).write_bytes(path.read_bytes())
    (place / "fit.toml").write_text(text)


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes(folder, tmp_path, capsys, name):
    """One line that names file and key or column; exit code 2; nothing written."""
    old, new, word = MISTAKES[name]
    assert old in FIT
    text = FIT.replace(old, new, 1)
    copied(folder, tmp_path, text.replace("SEX = {", "REGION = {") if name == "region twice" else text)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "fit.toml" in error and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("value", "word"), [("", "no value"), ("0", "has 0"), ("-3", "has -3")])
def test_a_treated_patient_without_exposure(folder, tmp_path, capsys, value, word):
    """Named, with the column; one without doses may lack it."""
    copied(folder, tmp_path, FIT)
    subjects = pd.read_csv(folder / "adsl.csv", dtype=str)
    treated = pd.read_csv(folder / "adex.csv").query("EXDOSE > 0")["USUBJID"].iloc[0]
    subjects.loc[subjects["USUBJID"] == treated, "AUC"] = value
    subjects.to_csv(tmp_path / "adsl.csv", index=False)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"patient {treated} takes doses and {word}" in error.replace(
        "has no value", "no value"
    ), error


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("", "", "exposure is given by a column"),
        ('exposure = { column = "AUC", reference = 40.0 }', "", "covariates of anc0"),
        ("[parameters]", "[parameters]\nec50 = {}\nanc0 = {}\nsigma_anc = {}\n[checks]", "correlation"),
    ],
)
def test_trials_cannot_be_simulated_with_these(tmp_path, capsys, old, new, word):
    """`mezikd calibrate` makes patients without covariates, whose effects are independent: refused by name."""
    text = FIT.replace(old, new, 1)
    if "[checks]" in text:
        text = text[: text.index("[checks]")] + text[text.index("[effects]") :]
    (tmp_path / "fit.toml").write_text(text)
    assert run(["calibrate", str(tmp_path), "--trials", "20", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and not (tmp_path / "out").exists(), error
