"""What `compare --refit` and `sensitivity --refit` sample, where, and what they make of it, with closed forms for a sampler."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from mezikd.inference import predict, structures_run
from mezikd.inference.commands import built_in_fit
from mezikd.inference.likelihood import Data
from mezikd.inference.problem import load_problem
from mezikd.inference.refits import Refit
from mezikd.inference.sensitivity import ALTERNATIVES, _with_centres, prior_of
from mezikd.inference.structures import GROUPS, LeftOut, comparison_table, refitted
from mezikd.model.exact import Form
from scipy.stats import norm
from test_bridge import KNOWN, PRIOR_SD, SECOND, drawn, exact

FAR, COUNT = 10.0, 4000
"""Second observation, in errors from the first; draws."""


def fit_of(name: str, rhat: float = 1.0) -> SimpleNamespace:
    """Return a fit whose posterior is that of a normal mean, observed at 0 and at FAR."""
    target = SimpleNamespace(parameters=(), data=Data(None, None))  # type: ignore[arg-type]
    settings = SimpleNamespace(sampler=SimpleNamespace(max_tree_depth=3, seed=1))
    tree = {"unconstrained_posterior": {"z": posterior(1.0)[None]}}
    return SimpleNamespace(
        name=name, problem=SimpleNamespace(target=target, settings=settings), tree=tree, max_rhat=rhat, path=name
    )


def posterior(power: float) -> np.ndarray:
    """Return exact draws with the second observation to a power, beside a coordinate that nothing tells of."""
    precision = 1.0 / PRIOR_SD**2 + 1.0 + power
    rng = np.random.default_rng(round(1000 * power))
    x = norm.rvs(power * FAR / precision, precision**-0.5, size=COUNT, random_state=rng)
    return np.stack([x, rng.standard_normal(COUNT)], axis=1)


class Exact:
    """In place of the sampler: draws of the posterior that is asked for; ``made`` are the powers."""

    made: list[float]

    def __init__(self, *_):
        pass

    def sample(self, asked, near, work, console):
        root = np.asarray(asked.data.joint.root)
        power = float((root.T @ root)[1, 1])
        self.made.append(power)
        return Refit(posterior(power), 1.02)


@pytest.fixture
def made(monkeypatch):
    Exact.made = []
    monkeypatch.setattr(structures_run, "Refitter", Exact)
    monkeypatch.setattr(structures_run, "_groups", lambda _: np.array(["first", "second"]))
    monkeypatch.setattr(structures_run, "_scores", lambda _, z: np.stack([-z[:, 0], FAR - z[:, 0]], axis=1))
    monkeypatch.setattr(structures_run.posterior_file, "joint_of", lambda _: KNOWN)
    return Exact.made


def test_posteriors_between_are_sampled_until_neighbours_overlap(made, tmp_path):
    read = SimpleNamespace(groups={"second": LeftOut(0.0, 0.9)})
    structures_run.with_refits(fit_of("a"), read, ["second"], tmp_path)  # type: ignore[arg-type]
    found = read.groups["second"]
    assert made[0] == 0.0 and made[1] == pytest.approx(1 / 6) and len(made) >= 2
    assert found.elpd == pytest.approx(exact(FAR, 1.0), abs=max(4.0 * found.error, 0.05)) and found.trusted


def test_a_doubtful_group_is_left_out_of_all_that_converged(made, monkeypatch, tmp_path):
    """Of both, though the weights of one could be trusted; not of a fit that misses the gate; not where all can be."""

    def read_fit(fit, _):
        second = 0.9 if fit.name == "a" else 0.2
        return SimpleNamespace(groups={"first": LeftOut(-1.0, 0.3), "second": LeftOut(-1.0, second)})

    monkeypatch.setattr(structures_run, "read_fit", read_fit)
    fits = [fit_of("a"), fit_of("b"), fit_of("rough", 1.05)]
    found = structures_run.read_fits(fits, 40, tmp_path)  # type: ignore[arg-type]
    sampled = {(n, g) for n, x in found.items() for g, part in x.groups.items() if part.sampled}
    assert sampled == {("a", "second"), ("b", "second")}
    made.clear()
    structures_run.read_fits(fits, 40)  # type: ignore[arg-type]
    assert not made


def test_refits_that_cannot_be_trusted():
    """Where chains have not mixed, ends do not overlap, or halves of chains differ."""
    near = [drawn(0.0, 1.5, 1.0, 1), drawn(1.0, 1.5, 1.0, 2)]
    good = refitted(near, KNOWN, SECOND)
    assert good.trusted and 0.0 < good.error < 0.05 and 0.5 < good.overlap < 1.0
    assert not refitted([near[0]._replace(rhat=1.2), near[1]], KNOWN, SECOND).trusted
    apart = refitted([drawn(0.0, FAR, 1.0, 1), drawn(1.0, FAR, 1.0, 2)], KNOWN, SECOND)
    assert apart.overlap < 0.03 and not apart.trusted
    assert not good._replace(error=0.6).trusted


def test_gaps_are_to_the_best():
    """Also when it is not the first."""
    groups = {n: {g: LeftOut(x, 0.3) for g in GROUPS} for n, x in {"worse": -2.0, "best": -1.0}.items()}
    rng = np.random.default_rng(1)
    tree = SimpleNamespace(attrs={"created_at": "now"})
    found = {
        n: SimpleNamespace(quantities={"q": rng.normal(m, 1.0, 400)}, max_rhat=1.0, tree=tree)
        for n, m in (("worse", 9.0), ("best", 0.0))
    }
    table = structures_run.with_gaps(comparison_table(groups, groups), found)  # type: ignore[arg-type]
    of = table.drop_duplicates("structure").set_index("structure")
    assert of.loc["best", "gap"] == 0.0 and of.loc["best", "differs"] == ""
    assert of.loc["worse", "gap"] > 1.0 and str(of.loc["worse", "differs"]).startswith("q 8.95 against")


def test_alternatives_start_at_their_own_priors():
    """The mode under another prior of the half-life is sought from there, the other coordinates as they are."""
    problem = load_problem(built_in_fit())
    short = next(a for a in ALTERNATIVES if a.name == "half-life: 7 h")
    names = [p.name for p in problem.free]
    i, x = names.index("half_life_hours"), jnp.full(len(names), 0.1)
    start = _with_centres(problem, short, np.asarray(x))
    centre = np.asarray(prior_of(problem, short.priors).centre)
    assert start[i] == pytest.approx(centre[i]) and problem.free[i].from_standard(start[i]) == pytest.approx(7.0)
    others = [k for k, n in enumerate(names) if n not in ("half_life_hours", "ec50")]
    np.testing.assert_allclose(start[others], 0.1)


def test_programs_share_no_draw_numbers(monkeypatch):
    """The draws of a second program go on where those of the first end: each number has patients and luck of its own."""
    numbers: list[int] = []

    def stub(theta, form, scenarios, reference, prediction, done, first):
        numbers.extend(range(first, first + len(theta["a"])))
        return pd.NA

    monkeypatch.setattr(predict, "programs", lambda _: [(Form(), {"a": np.zeros(3)}), (Form(), {"a": np.zeros(5)})])
    monkeypatch.setattr(predict, "predict", stub)
    monkeypatch.setattr(predict, "together", lambda parts: parts)
    predict.predict_structures(SimpleNamespace(scenarios=(), reference="", prediction=None), ())  # type: ignore[arg-type]
    assert sorted(numbers) == list(range(8))
