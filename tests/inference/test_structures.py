"""Structures: what each uses, how they are compared where the answer is known, and which one predicts by default."""

import json
from types import SimpleNamespace

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats.utils import ELPDDataLOO
from mezikd.inference import commands, groups_left_out, mixture, refits, structures
from mezikd.inference.bridge import level
from mezikd.inference.commands import BAD_INPUT, built_in_fit
from mezikd.inference.errors import InputError
from mezikd.inference.groups import GROUPS, group_of
from mezikd.inference.likelihood import Data, Joint, joint_log_likelihood, part_of
from mezikd.inference.posterior_file import save
from mezikd.inference.prediction import theta_of
from mezikd.inference.problem import load_problem
from mezikd.inference.refits import Refit, with_power
from mezikd.inference.settings import Model
from mezikd.inference.structures import LeftOut, comparison_table, fit_equally, largest_gap, stacked
from mezikd.inference.variants import ARREST_ONLY, KILL, structure_name, with_structure
from mezikd.model import infection
from mezikd.model.parameters import DECLARED
from mezikd.model.structures import STRUCTURES

MODELS = {
    "arrest": Model(),
    "kill": Model(structure="friberg"),
    "arrest, no tumour memory": Model(tumour="no_memory"),
    "arrest, infection without neutrophils": Model(infection="no_neutrophils"),
}


# What a structure uses


class Reads(dict):
    """Parameters that remember which of them were read."""

    def __init__(self, model: Model):
        super().__init__({p.name: np.asarray(p.centre) for p in with_structure(DECLARED, model)})
        self.read: set[str] = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def free_names(model: Model) -> set[str]:
    return {p.name for p in with_structure(DECLARED, model) if not p.fixed}


def test_names():
    assert {name: structure_name(m) for name, m in MODELS.items()} == {name: name for name in MODELS}


@pytest.mark.parametrize("name", ["arrest", "kill"])
def test_marrow_parameters_that_a_structure_does_not_read_are_not_free(name):
    model = MODELS[name]
    theta = Reads(model)
    STRUCTURES[model.structure].rates(theta, np.ones(3))
    marrow = {*ARREST_ONLY, *KILL}
    assert theta.read & marrow == free_names(model) & marrow != set()


def test_infection_without_neutrophils():
    """The hazard does not change with ANC, and rises with the block as before; its coefficient is not estimated."""
    log_anc = np.log(np.array([0.1, 0.5, 1.0, 4.0]))
    with_path, without = (
        np.asarray(infection.daily_ratio(log_anc, 0.5, Reads(MODELS[m])))
        for m in ("arrest", "arrest, infection without neutrophils")
    )
    assert (np.diff(with_path) < 0.0).all() and with_path[0] > 2.0 * with_path[-1]
    np.testing.assert_allclose(without, np.exp(0.4 * 0.5), rtol=1e-12)
    assert free_names(MODELS["arrest"]) - free_names(MODELS["arrest, infection without neutrophils"]) == {
        "infection_neutropenia"
    }


def test_memory_is_the_designs():
    """Nothing is estimated more or less; the model's own tests say what memory does."""
    with_it, without = (load_problem(built_in_fit(), {"tumour": t}) for t in ("memory", "no_memory"))
    assert with_it.target.design.tumour_memory and not without.target.design.tumour_memory
    assert [p.name for p in with_it.free] == [p.name for p in without.free]


# Numbers left out


@pytest.mark.parametrize("group", GROUPS)
def test_scores_that_are_kept(group):
    problem = load_problem(built_in_fit(), {"leave_out": group})
    target, rows = problem.target, {r.name: r for r in problem.evidence.fit}
    kept = {target.score_names[i] for i in target.kept}
    assert kept == {name for name, row in rows.items() if row.outcome not in GROUPS[group]}
    assert kept and {group_of(rows[name]) for name in rows if name not in kept} == {group}


def test_scores_with_a_power():
    """With 0 the joint law gives the marginal of the others, and no slope to the rest; with 1 all; between, as bridged."""
    rng = np.random.default_rng(5)
    a = rng.standard_normal((6, 6))
    joint = Joint(
        jnp.asarray(rng.standard_normal(6)),
        jnp.linalg.inv(jnp.linalg.cholesky(a @ a.T + np.eye(6))),
        jnp.asarray(300.0),
    )
    r, members = jnp.asarray(rng.standard_normal(6)), np.array([0, 1, 0, 0, 1, 0], bool)
    keep = np.flatnonzero(~members)
    at = level(1.0, np.asarray(r)[None], joint, members, 1.0)
    ends = {0.0: joint_log_likelihood(r[keep], part_of(joint, keep)), 1.0: joint_log_likelihood(r, joint)}
    for power in (0.0, 0.2, 1.0):
        value, slope = jax.value_and_grad(joint_log_likelihood)(r, with_power(joint, members, power))
        np.testing.assert_allclose(value, at.log_density(power, 300.0)[0], rtol=1e-10)
        np.testing.assert_allclose(value, ends.get(power, value), rtol=1e-10)
        assert (np.asarray(slope)[members] == 0.0).all() == (power == 0.0)


def test_groups_are_fitted_again_once(monkeypatch, tmp_path):
    """What is done is read from the folder the second time."""
    made = []

    class Stub:
        def __init__(self, *_):
            pass

        def sample(self, asked, near, work, console):
            made.append(np.asarray(asked.data.joint.root))
            return Refit(np.zeros((16, 2)), 1.01)

    target = SimpleNamespace(parameters=(), data=Data(None, None))  # type: ignore[arg-type]
    settings = SimpleNamespace(sampler=SimpleNamespace(max_tree_depth=3, seed=1))
    tree = {"unconstrained_posterior": {"z": np.random.default_rng(1).normal(size=(2, 8, 2))}}
    problem = SimpleNamespace(target=target, settings=settings)
    fit = SimpleNamespace(name="arrest", problem=problem, tree=tree, max_rhat=1.0)
    monkeypatch.setattr(refits, "Refitter", Stub)
    monkeypatch.setattr(groups_left_out, "groups_of", lambda _: np.array(["a", "b", "b"]))
    monkeypatch.setattr(groups_left_out, "scores_of", lambda _, z: np.zeros((len(z), 3)))
    monkeypatch.setattr(
        groups_left_out.posterior_file, "joint_of", lambda _: Joint(np.zeros(3), np.eye(3), np.asarray(1e12))
    )
    for _ in range(2):
        weighted = {"arrest": {"a": LeftOut(-1.0, 0.3), "b": LeftOut(-2.0, 0.9)}}
        found = groups_left_out.without_groups([fit], weighted, ["b"], tmp_path)  # type: ignore[list-item]
        np.testing.assert_array_equal(made, [np.diag([1.0, 0.0, 0.0])])
        part = found.pop(("arrest", "b"))
        assert np.isnan(part.khat) and part.rhat == 1.01 and part.trusted and not found


# Stacking


def arviz_weights(elpd: np.ndarray) -> np.ndarray:
    """Return arviz's stacking weights; ``elpd`` has one structure a column."""

    def data(x: np.ndarray) -> ELPDDataLOO:
        i = xr.DataArray(x, dims="group")
        return ELPDDataLOO(
            elpd=float(x.sum()), se=1.0, p=1.0, n_samples=1000, n_data_points=len(x), scale="log", warning=False,
            good_k=0.7, elpd_i=i, pareto_k=0.0 * i,
        )  # fmt: skip

    table = az.compare({str(k): data(x) for k, x in enumerate(elpd.T)}, method="stacking", round_to="none")
    return table["weight"].loc[[str(k) for k in range(elpd.shape[1])]].to_numpy(float)


def test_stacking_against_arviz():
    rng = np.random.default_rng(1)
    for _ in range(5):
        elpd = rng.normal(0.0, 1.5, (6, 3))
        np.testing.assert_allclose(stacked(elpd, pull=0.0), arviz_weights(elpd), atol=5e-3)


def test_stacking_of_near_equals():
    """Equal structures share; a little worse in one group alone costs some weight, not all; much worse nearly all."""
    elpd = np.zeros((5, 2))
    np.testing.assert_allclose(stacked(elpd), 0.5)
    elpd[0, 1] = -0.3
    assert 0.4 < stacked(elpd)[1] < 0.5 and stacked(elpd, pull=0.0)[1] < 0.01
    elpd[:, 1] = -6.0
    assert stacked(elpd)[1] < 0.2 and stacked(elpd, pull=0.0)[1] < 0.01


def test_comparison():
    """Differences and their standard errors by hand; a structure that predicts worse has no part in the mixture."""
    elpd = {"good": [-1.0] * 5, "near": [-1.5, -1.0, -0.5, -1.0, -2.0], "bad": [-6.0, -7.0, -6.0, -8.0, -6.0]}
    groups = {n: {g: LeftOut(v, 0.3) for g, v in zip(GROUPS, x, strict=True)} for n, x in elpd.items()}
    groups["near"]["infection"] = LeftOut(-0.5, 0.9)
    rows = {n: {f"row{i}": LeftOut(v / 2.0, 0.2) for i, v in enumerate(2 * x)} for n, x in elpd.items()}
    table = comparison_table(groups, rows)
    assert fit_equally(table) == ["good", "near"]
    whole = table[table["left_out"] == structures.GROUPS].set_index("structure")
    d = np.array(elpd["near"]) - np.array(elpd["good"])
    assert whole.loc["near", "difference"] == pytest.approx(d.sum())
    assert whole.loc["near", "difference_se"] == pytest.approx(np.sqrt(5 * d.var(ddof=1)))
    assert whole.loc["bad", "difference"] == pytest.approx(-28.0) and whole.loc["bad", "weight"] == 0.0
    assert whole["weight"].sum() == pytest.approx(1.0) and whole.loc["good", "weight"] > whole.loc["near", "weight"] > 0
    assert whole["trusted"].tolist() == [True, False, True]
    gated = comparison_table(groups, rows, unmixed=["near"]).groupby("structure")["weight"].first()
    assert gated.to_dict() == {"good": 1.0, "near": 0.0, "bad": 0.0}  # a fit that missed the gate has none
    # Sampled groups are lower than weighted ones: only those of a kind are compared.
    for name in ("near", "good"):
        groups[name] = {g: LeftOut(x.elpd - 20.0, float("nan"), error=0.1) for g, x in groups[name].items()}
    mixed = comparison_table(groups, rows, unmixed=["bad"])
    mixed = mixed[mixed["left_out"] == structures.GROUPS].set_index("structure")
    assert np.isnan(mixed.loc["bad", "difference"]) and mixed.loc["bad", "weight"] == 0.0
    assert mixed.loc["near", "difference"] == pytest.approx(d.sum())
    assert mixed.loc["near", "monte_carlo_error"] == pytest.approx(0.1 * np.sqrt(5))
    by_row = table[table["left_out"] == structures.ROWS].set_index("structure")
    half = np.tile(d, 2) / 2.0
    assert by_row.loc["near", "difference"] == pytest.approx(half.sum())
    assert by_row.loc["near", "difference_se"] == pytest.approx(np.sqrt(10 * half.var(ddof=1)))


def test_largest_gap():
    x = np.linspace(0.0, 1.0, 401)
    same = {"a": x, "b": 10.0 * x}
    assert not largest_gap(same, {"a": x + 0.1, "b": 10.0 * x}).differs
    far = largest_gap(same, {"a": x + 0.1, "b": 10.0 * x + 5.0})
    assert far.differs and far.quantity == "b" and (far.one, far.two) == pytest.approx((5.0, 10.0))
    assert far.size == pytest.approx(2.0, rel=0.01)


# The mixture


def tree_of(draws: int, made: str) -> xr.DataTree:
    z = np.arange(draws, dtype=float).reshape(2, -1, 1)
    data = xr.Dataset({"z": (("chain", "draw", "parameter"), z)})
    tree = xr.DataTree.from_dict({"unconstrained_posterior": data})
    tree.attrs["created_at"] = made
    return tree


def fit_of(name: str):
    return SimpleNamespace(settings=SimpleNamespace(model=MODELS[name]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A fit of the arrest structure with structures.csv beside it: kill has 30 %, without memory nothing."""
    made = {"arrest": "monday", "kill": "tuesday", "arrest, no tumour memory": "friday"}
    lines = [
        {"structure": name, "left_out": part, "difference": d, "weight": w, "differs": text, "created_at": made[name]}
        for name, d, w, text in (
            ("arrest", 0.0, 0.7, ""),
            ("kill", -1.2, 0.3, "0.6 mg: neutropenia 55 against 41"),
            ("arrest, no tumour memory", -30.0, 0.0, ""),
        )
        for part in (structures.GROUPS, "infection")
    ]
    pd.DataFrame(lines).to_csv(tmp_path / mixture.TABLE, index=False)
    (tmp_path / mixture.OTHERS).mkdir()
    for name in ("kill", "arrest, no tumour memory"):
        mixture.file_of(tmp_path, name).write_text(name)

    def load(path):
        name = path.read_text()
        return tree_of(50, made[name]), fit_of(name)

    monkeypatch.setattr(mixture, "load_draws", load)
    return tmp_path


def chosen(folder, structure: str = "stacked", draws: int = 200, made: str = "monday"):
    return mixture.members(folder / "posterior.nc", tree_of(400, made), fit_of("arrest"), draws, structure)  # type: ignore[arg-type]


def test_mixture_has_its_weights(folder):
    """Also where a structure kept fewer draws than its share; a structure without weight is left out; it is said."""
    found = chosen(folder)
    assert {m.name: len(m.z) for m in found} == {"arrest": 140, "kill": 60}
    assert len(np.unique(found[0].z)) == 140 and len(np.unique(found[1].z)) == 50
    text = mixture.said(found)
    assert "stacked mixture" in text and "arrest, 70 %" in text and "kill, 30 %" in text
    assert "elpd -1.2; 0.6 mg: neutropenia 55 against 41" in text


def test_one_structure(folder):
    for name in ("arrest", "kill", "arrest, no tumour memory"):
        (one,) = chosen(folder, name, draws=80)
        assert one.name == name and len(one.z) == 80 and name in mixture.said([one])
    (folder / mixture.TABLE).unlink()
    (own,) = chosen(folder)
    assert own.name == "arrest" and mixture.said([own]) == "Structure: arrest."


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda f: chosen(f, "spring"), ("--structure", "'spring'", "stacked; arrest; kill")),
        (lambda f: chosen(f, made="sunday"), ("structures.csv", "another fit of 'arrest'", "mezikd compare")),
        (lambda f: (mixture.file_of(f, "kill").unlink(), chosen(f)), ("kill.nc", "no such file")),
        (lambda f: ((f / mixture.TABLE).write_text("structure,weight\nkill,1\n"), chosen(f)), ("structures.csv", "cannot be read")),
        (
            lambda f: ((f / mixture.TABLE).write_text((f / mixture.TABLE).read_text().replace("0.3", "0.5")), chosen(f)),
            ("structures.csv", "column weight", "add up to 1.2"),
        ),
    ],
)  # fmt: skip
def test_mistakes_in_the_mixture(folder, edit, says):
    with pytest.raises(InputError) as raised:
        edit(folder)
    assert all(word in str(raised.value) for word in says), raised.value
    assert "\n" not in str(raised.value)


# The commands


def test_fits_that_cannot_be_compared(tmp_path, capsys):
    """Chains that stand apart; a fit without a group of numbers."""
    tree = xr.open_datatree(built_in_fit() / "posterior.nc", engine="h5netcdf").load()
    apart = tree.copy(deep=True)
    z = apart["unconstrained_posterior"]["z"].values
    z[0] += 3.0 * z.std(axis=(0, 1))
    save(apart, tmp_path / "apart.nc")
    lone = tree.copy(deep=True)
    settings = json.loads(lone.attrs["settings"])
    settings["likelihood"]["leave_out"] = "dosing"
    lone.attrs["settings"] = json.dumps(settings)
    save(lone, tmp_path / "lone.nc")
    cases = {"apart.nc": ("apart.nc", "not mixed", "R-hat"), "lone.nc": ("lone.nc", "without dosing", "all numbers")}
    for name, says in cases.items():
        fits = [str(tmp_path / name), str(built_in_fit())]
        assert commands.run(["compare", *fits, "--out", str(tmp_path / "out")]) == BAD_INPUT
        stderr = capsys.readouterr().err
        assert stderr.count("\n") == 1 and all(word in stderr for word in says), stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "--tumour", "some"], ("--tumour", "some", "no_memory")),
        (["fit", "--infection", "some"], ("--infection", "some", "no_neutrophils")),
        (["fit", "--structure", "kill"], ("--structure", "kill", "friberg")),
        (["fit", "--leave-out", "pfs"], ("--leave-out", "pfs", "progression and death")),
        (["compare", str(built_in_fit())], ("FITS", "one fit")),
        (["compare", *2 * [str(built_in_fit())]], ("second fit of the structure 'arrest'", "name one")),
        (["compare", *2 * [str(built_in_fit())], "--draws", "5"], ("--draws", "40 to 100000")),
        (["predict", "--structure", "spring", "--dose", "0.6"], ("--structure", "'spring'", "arrest")),
    ],
)
def test_bad_input(arguments, says, tmp_path, capsys):
    assert commands.run([*arguments, "--out", str(tmp_path / "out")]) == BAD_INPUT
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and all(word in stderr for word in says), stderr
    assert not (tmp_path / "out").exists()


def test_draws_without_memory_say_so():
    """What predictions give the exact simulator: 0 for a structure without tumour memory, 1 for others."""
    for changes, flag in (({}, 1.0), ({"tumour": "no_memory"}, 0.0)):
        problem = load_problem(built_in_fit(), changes)
        theta = theta_of(np.zeros((3, len(problem.free))), problem.parameters)
        np.testing.assert_array_equal(theta["tumour_memory"], flag)
        assert {len(v) for v in theta.values()} == {3}
