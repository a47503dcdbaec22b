"""Fits again: one compiled sampler for several questions, against closed forms; and what is sampled where."""

from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.inference import refits as refits_module
from mezikd.inference import sensitivity_run
from mezikd.inference.coordinates import straightened
from mezikd.inference.importance import Normal, Weighted
from mezikd.inference.likelihood import Data, Joint, Prior
from mezikd.inference.refits import Asked, Refit, Refitter
from mezikd.inference.sensitivity import Alternative, Under
from mezikd.model.parameters import DECLARED
from rich.console import Console

QUIET = Console(quiet=True)
TWO = tuple(p for p in DECLARED if p.name in ("hill", "half_life_hours"))


@dataclass(frozen=True)
class Toy:
    """Standard normal prior of the coordinates, one observation of error 1 of each; ``at`` moves what is expected."""

    parameters: tuple = TWO

    def in_single(self):
        return self

    def sampled_log_density(self, x, data, changes):
        return -0.5 * ((x - data.prior.centre) ** 2).sum() - 0.5 * ((data.observed - x - changes["at"]) ** 2).sum()


def asked(centre: float, observed: float, at: float) -> Asked:
    prior = Prior(jnp.full(2, centre), jnp.eye(2))
    return Asked(Data(jnp.full(2, observed), None, prior), {"at": at})  # type: ignore[arg-type]


def test_one_sampler_answers_several_questions(tmp_path):
    """Mean and SD in closed form: (prior + observation less the change) / 2, sqrt(1 / 2); blocks are kept and read."""
    refitter = Refitter(Toy(), asked(0.0, 0.0, 0.0), seed=3, max_tree_depth=4)  # type: ignore[arg-type]
    near = Normal(np.zeros(2), np.eye(2))
    for k, (centre, observed, at) in enumerate([(0.0, 1.0, 0.0), (1.0, 0.0, 0.6)]):
        place = tmp_path / str(k)
        place.mkdir()
        found = refitter.sample(asked(centre, observed, at), near, place, QUIET)
        x = np.asarray(straightened(found.z, TWO))
        np.testing.assert_allclose(x.mean(axis=0), (centre + observed - at) / 2.0, atol=0.12)
        np.testing.assert_allclose(x.std(axis=0), np.sqrt(0.5), atol=0.12)
        assert found.max_rhat < 1.05 and len(found.z) == 800
        again = refitter.sample(asked(centre, observed, at), near, place, QUIET)
        np.testing.assert_array_equal(again.z, found.z)


@pytest.mark.parametrize(("khat", "rhat"), [(0.3, 1.0), (0.9, 1.02), (0.9, 1.2)])
def test_alternatives_are_sampled_where_weights_cannot_be_trusted(khat, rhat, monkeypatch, tmp_path):
    """Once each; weights that can be trusted stay; neither bad weights nor chains that have not mixed are trusted."""
    made = []

    class Stub:
        def __init__(self, *_):
            pass

        def sample(self, asked, near, work, console):
            made.append((dict(asked.changes), asked.data.prior))
            return Refit(np.full((16, 2), 5.0), rhat)

    program = Mock(data=Data(None, None), base={"theta": 0.95}, quantities=lambda z, _: {"q": z[:, 0]})  # type: ignore[arg-type]
    weights = Weighted(np.full(8, 1 / 8), khat)
    there = Asked(Data(None, None, "prior"), {"theta": 0.90})  # type: ignore[arg-type]
    under = Under(there, Normal(np.zeros(2), np.eye(2)), weights, np.ones((8, 2)))  # type: ignore[arg-type]
    problem = SimpleNamespace(
        parameters=TWO, settings=SimpleNamespace(sampler=SimpleNamespace(seed=1, max_tree_depth=3))
    )
    monkeypatch.setattr(refits_module, "Refitter", Stub)
    monkeypatch.setattr(sensitivity_run, "ALTERNATIVES", (Alternative("theta", "0.90", {"theta": 0.90}),))
    for name, value in (("posterior_under", under), ("normal_at", None), ("prior_of", None)):
        monkeypatch.setattr(sensitivity_run, name, lambda *_, value=value: value)
    for _ in range(2):
        refits = sensitivity_run.SampledPosteriors(problem, tmp_path)  # type: ignore[arg-type]
        z, base = np.zeros((8, 2)), {"q": np.arange(8.0)}
        table = sensitivity_run.assumption_table(problem, program, z, np.zeros(8), base, refits)  # type: ignore[arg-type]
        line = table.iloc[0]
        assert line["median"] == (1.0 if khat == 0.3 else 5.0) and line["trusted"] == (rhat < 1.1)
        assert np.isnan(line["max_rhat"]) == (khat == 0.3) and np.isnan(line["khat"]) == (khat == 0.9)
    plain = sensitivity_run.assumption_table(problem, program, z, np.zeros(8), base)  # type: ignore[arg-type]
    assert plain["trusted"].item() == (khat == 0.3) and plain["khat"].item() == khat
    assert made == ([] if khat == 0.3 else [({"theta": 0.90}, "prior")])


def test_a_posterior_without_a_number_is_that_of_the_others(monkeypatch, tmp_path):
    """What is sampled: the fit's own prior and assumptions, near their mode, and a joint law that the number is not in."""
    made = []

    class Stub:
        def __init__(self, *_):
            pass

        def sample(self, asked, near, work, console):
            made.append((asked, near, work.name))
            return Refit(np.full((900, 2), 5.0), 1.02)

    joint = Joint(jnp.zeros(3), jnp.asarray(np.linalg.cholesky(np.eye(3) + 0.5)), jnp.asarray(200.0))
    program = Mock(data=Data("observed", joint), base={"theta": 0.95}, quantities=lambda z, _: {"q": 2.0 * z[:, 0]})  # type: ignore[arg-type]
    problem = SimpleNamespace(
        parameters=TWO, free=TWO, settings=SimpleNamespace(sampler=SimpleNamespace(seed=1, max_tree_depth=3))
    )
    monkeypatch.setattr(refits_module, "Refitter", Stub)
    monkeypatch.setattr(sensitivity_run, "normal_at", lambda *given: given[1:])
    refits = sensitivity_run.SampledPosteriors(problem, tmp_path)  # type: ignore[arg-type]
    members, start = np.array([False, True, False]), np.array([0.3, -0.2])
    for _ in range(2):
        found = refits.without(program, start, {"deaths/kd/all": members})["deaths/kd/all"]
    ((asked, near, name),) = made
    assert name == "without_deaths_kd_all" and found.max_rhat == 1.02
    np.testing.assert_array_equal(found.values["q"], np.full(400, 10.0))
    assert set(found.values) == {"q", "hill", "half_life_hours"} and (found.values["hill"] == 5.0).all()
    assert asked.changes == {"theta": 0.95} and asked.data.observed == "observed"
    np.testing.assert_array_equal(asked.data.prior.centre, np.zeros(2))
    root, rest = np.asarray(asked.data.joint.root), np.ix_([0, 2], [0, 2])
    assert not root[:, 1].any() and not root[1].any() and asked.data.joint.trials == 200.0
    covariance = np.linalg.inv(np.asarray(joint.root).T @ np.asarray(joint.root))
    np.testing.assert_allclose(root[rest].T @ root[rest], np.linalg.inv(covariance[rest]), rtol=1e-10)
    assert near[0] is asked
    np.testing.assert_allclose(near[1], np.asarray(straightened(start, TWO)))
