"""Steps between records: what they are given and who reads them, against the superposition of doses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import friberg
from mezikd.model.disposition import rates
from mezikd.model.dosing_events import Records, Unsupported, amounts, schedule
from mezikd.model.mesh import lengths, mesh
from mezikd.model.within_day import concentrations, course, linear

FIELDS = ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss")
R = rates(jnp.asarray([0.9]), jnp.asarray([2.0]), jnp.asarray([12.0]), jnp.asarray([3.0]), jnp.asarray([30.0]))
VOLUME = jnp.asarray([12.0])
MARROW = friberg.Marrow(jnp.asarray([0.03]), jnp.asarray([0.17]))


def records(*rows: dict) -> Records:
    """Return records from rows; what a row leaves out is 0, CMT 1."""
    defaults = dict.fromkeys(FIELDS, 0.0) | {"cmt": 1}
    table = [defaults | row for row in rows]
    return Records(
        **{f: np.array([row[f] for row in table], int if f in ("evid", "cmt", "addl", "ss") else float) for f in FIELDS}
    )


def both(patients: list[Records]) -> tuple[np.ndarray, np.ndarray]:
    """Return the concentrations at the observations, from the steps and from the superposition of doses."""
    m, read = mesh(patients, 1.0, 6.0)

    @jax.jit
    def stepped(m, read):
        return concentrations(course(m, R, VOLUME, linear(1e-3), MARROW), m, read, R, VOLUME, infusions=True)

    one = rates(*(jnp.asarray(x)[:, None, None] for x in ([0.9], [2.0], [12.0], [3.0], [30.0])))
    theirs = jax.jit(amounts)(schedule(patients), one).central / 12.0
    return np.asarray(stepped(m, read)), np.asarray(theirs)


def random_patient(rng: np.random.Generator) -> Records:
    """Return up to a dozen records of every kind, many at equal times, and three observations after them."""
    table, time = [], 0.0
    for _ in range(rng.integers(1, 12)):
        time += rng.choice([0.0, 0.0, 0.5, 3.0, 12.0])
        further = int(rng.choice([0, 0, 2]))
        dose = {"time": time, "evid": 1, "amt": 5.0, "addl": further, "ii": 4.0 if further else 0.0}
        kinds = (
            {"time": time}, {"time": time}, dose, dose | {"cmt": 2}, dose | {"cmt": 2, "rate": 2.0},
            {"time": time, "evid": 3}, dose | {"evid": 4},
        )  # fmt: skip
        table.append(kinds[rng.integers(len(kinds))])
    return records(*table, {"time": time}, {"time": time + 1.3}, {"time": time + 40.0})


def test_steps_carry_the_same_amounts_as_superposed_doses():
    rng = np.random.default_rng(3)
    patients = [random_patient(rng) for _ in range(300)]
    ours, theirs = both(patients)
    seen = np.arange(ours.shape[1]) < np.array([(r.evid == 0).sum() for r in patients])[:, None]
    assert seen.sum() > 1200
    np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-8, atol=1e-9)


def test_an_observation_before_a_dose_at_its_time_does_not_see_it():
    ours, _ = both([records({"time": 0, "evid": 1, "amt": 5, "cmt": 2}, {"time": 6.0}, {"time": 6.0, "evid": 1, "amt": 5, "cmt": 2}, {"time": 6.0})])  # fmt: skip
    assert ours[0, 1] - ours[0, 0] == pytest.approx(5 / 12.0, rel=1e-7)


def test_steps_grow_after_a_record_and_fill_the_gap():
    found = lengths(30.0, 1.0, 6.0)
    assert found.sum() == pytest.approx(30.0)
    assert found.max() <= 6.0
    assert found[1] == pytest.approx(2.0 * found[0])
    assert lengths(0.5, 1.0, 6.0).tolist() == [0.5]


def test_steady_state_is_refused_by_name():
    with pytest.raises(Unsupported, match="steady state"):
        mesh([records({"time": 0, "evid": 1, "amt": 5, "ss": 1, "ii": 12})], 1.0, 6.0)
