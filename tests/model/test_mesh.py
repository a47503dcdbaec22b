"""Steps between records: what they are given and who reads them, against the superposition of doses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model import friberg
from mezikd.model.disposition import rates
from mezikd.model.dosing_events import Records, Unsupported, amounts, schedule
from mezikd.model.mesh import lagged, lengths, mesh
from mezikd.model.within_day import blood_at, concentrations, course, linear

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


def both(patients: list[Records], lag: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the concentrations at the observations, from the steps and from the superposition of doses."""
    m, read = mesh(patients, 1.0, 6.0, marrow=False, lag=lag > 0.0)

    @jax.jit
    def stepped(m, read):
        at = lagged(m, read, jnp.full(len(patients), lag)) if lag else read
        return concentrations(course(m, R, VOLUME, linear(1e-3), MARROW), m, at, R, VOLUME, infusions=True)

    one = rates(*(jnp.asarray(x)[:, None, None] for x in ([0.9], [2.0], [12.0], [3.0], [30.0])))
    theirs = jax.jit(amounts)(schedule(patients), one, lag).central / 12.0
    return np.asarray(stepped(m, read)), np.asarray(theirs)


def random_patient(rng: np.random.Generator, oral: bool = False) -> Records:
    """Return up to a dozen records of every kind, many at equal times, and three observations after them.

    Among them steady states, infusions and resets after which time begins anew; with ``oral`` doses into the depot alone, and no
    SS 2.
    """
    table, time = [], 0.0
    for _ in range(rng.integers(1, 12)):
        time += rng.choice([0.0, 0.0, 0.5, 3.0, 12.0])
        further = int(rng.choice([0, 0, 2]))
        dose = {"time": time, "evid": 1, "amt": 5.0, "addl": further, "ii": 4.0 if further else 0.0}
        kinds = (
            {"time": time}, {"time": time}, dose, dose | {"cmt": 2}, dose | {"cmt": 2, "rate": 2.0},
            {"time": time, "evid": 3}, dose | {"evid": 4}, {"time": 0.0, "evid": 4, "amt": 3.0},
            dose | {"ss": 1, "ii": 4.0}, dose | {"ss": 2, "ii": 6.0}, dose | {"ss": 1, "ii": 9.0, "cmt": 2, "rate": 1.5},
        )  # fmt: skip
        table.append(kinds[rng.choice([0, 1, 2, 5, 6, 7, 8]) if oral else rng.integers(len(kinds))])
        time = table[-1]["time"]
    return records(*table, {"time": time}, {"time": time + 1.3}, {"time": time + 40.0})


def test_steps_carry_the_same_amounts_as_superposed_doses():
    rng = np.random.default_rng(3)
    patients = [random_patient(rng) for _ in range(300)]
    ours, theirs = both(patients)
    seen = np.arange(ours.shape[1]) < np.array([(r.evid == 0).sum() for r in patients])[:, None]
    assert seen.sum() > 1200
    np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-8, atol=1e-9)


def test_lagging_steps_carry_the_same_amounts_as_superposed_lagging_doses():
    """Shifted reading against doses that each arrive later: steady states, further doses, resets, equal times."""
    rng = np.random.default_rng(4)
    patients = [random_patient(rng, oral=True) for _ in range(300)]
    seen = None
    for lag in (0.4, 3.7):
        ours, theirs = both(patients, lag)
        seen = np.arange(ours.shape[1]) < np.array([(r.evid == 0).sum() for r in patients])[:, None]
        np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-8, atol=1e-9)
    assert seen.sum() > 1200


def test_an_observation_before_a_dose_at_its_time_does_not_see_it():
    ours, _ = both([records({"time": 0, "evid": 1, "amt": 5, "cmt": 2}, {"time": 6.0}, {"time": 6.0, "evid": 1, "amt": 5, "cmt": 2}, {"time": 6.0})])  # fmt: skip
    assert ours[0, 1] - ours[0, 0] == pytest.approx(5 / 12.0, rel=1e-7)


def test_steps_grow_after_a_record_and_fill_the_gap():
    found = lengths(30.0, 1.0, 6.0)
    assert found.sum() == pytest.approx(30.0)
    assert found.max() <= 6.0
    assert found[1] == pytest.approx(2.0 * found[0])
    assert lengths(0.5, 1.0, 6.0).tolist() == [0.5]


def test_the_last_observation_reads_the_step_that_ends_there():
    """Though the lengths of a thousand steps add up to a little less than its time; so its gradient is that of its value."""
    doses = [{"time": t, "evid": 1, "amt": 5.0} for t in (0.0, 24.0, 48.0, 72.0, 96.0, 130.0)]
    for end in np.arange(360.0, 370.0):
        m, read = mesh([records(*doses, {"time": end})], 0.05, 0.25)
        assert read.step.max() + 1 < len(m.length)
        assert m.start[read.step[0, 0], 0] + read.elapsed[0, 0] == pytest.approx(end, rel=1e-9)

    def last(slope):
        return blood_at(course(m, R, VOLUME, linear(slope), MARROW), m, read)[0, -1]

    value, forward = jax.jit(lambda x: jax.jvp(last, (x,), (jnp.ones(()),)))(jnp.asarray(1.0))
    assert value < 1.0 and float(jax.jit(jax.grad(last))(jnp.asarray(1.0))) == pytest.approx(float(forward), rel=1e-9)


def counts(r: Records, lag: float = 0.0, before: float = 0.0, volume=VOLUME) -> np.ndarray:
    """Return C = ANC / ANC0 at the observations."""
    m, read = mesh([r], 1.0, 6.0, before, lag=lag > 0.0)

    @jax.jit
    def blood(m, read):
        at = lagged(m, read, jnp.full(1, lag)) if lag else read
        return blood_at(course(m, R, volume, linear(0.5), MARROW), m, at)

    return np.asarray(blood(m, read))[0]


def test_steady_state_with_counts_is_that_of_a_long_train():
    """Drug and marrow at their periodic course when the record comes; a train of 200 doses written out; SS 1 of EVID 4 too."""
    times = [5.0, 12.0, 30.0, 100.0, 101.0]
    dose = {"evid": 1, "amt": 5.0, "ii": 12.0}
    train = counts(records({"time": -2400.0, **dose, "addl": 203}, *({"time": t} for t in times)))
    for evid in (1, 4):
        first = {"time": -500.0, "evid": 1, "amt": 50.0}
        ours = counts(
            records(first, {"time": 0.0, **dose, "evid": evid, "ss": 1, "addl": 3}, *({"time": t} for t in times)),
            before=2400.0,
        )
        np.testing.assert_allclose(ours, train, rtol=1e-5)
    assert train.max() < 0.8


def test_counts_with_a_lag_are_those_of_later_doses():
    """Resets, further doses and a steady state; before the first dose arrives the count is the baseline."""
    lag, times = 2.5, [0.5, 3.0, 50.0, 71.0, 72.0, 73.0, 75.0, 140.0, 220.0]
    doses = [{"time": 0.0, "evid": 1, "amt": 9.0, "ii": 24.0, "addl": 2}, {"time": 72.0, "evid": 4, "amt": 5.0}]

    def given(later: float) -> Records:
        rows = [{**doses[0], "time": later}, {"time": 72.0, "evid": 3}, {**doses[1], "evid": 1, "time": 72.0 + later}]
        return records(*sorted([*(rows if later else doses), *({"time": t} for t in times)], key=lambda x: x["time"]))

    ours, theirs = counts(given(0.0), lag), counts(given(lag))
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    np.testing.assert_allclose(ours[[0, 5]], 1.0, rtol=1e-12)
    steady = {"evid": 1, "amt": 5.0, "ii": 12.0, "ss": 1}
    one = counts(records({"time": 0.0, **steady}, {"time": 1.0}, {"time": 30.0}), lag, before=2400.0)
    other = counts(records({"time": lag - 12.0, **steady, "addl": 1}, {"time": 1.0}, {"time": 30.0}), before=2400.0)
    np.testing.assert_allclose(one, other, rtol=2e-4)


def test_counts_before_a_reset_do_not_feel_it():
    """An observation in the step that a reset ends."""
    rows = [{"time": 0.0, "evid": 1, "amt": 90.0}, {"time": 100.0}, {"time": 139.0}]
    alone, reset = counts(records(*rows)), counts(records(*rows, {"time": 140.0, "evid": 3}, {"time": 140.0}))
    np.testing.assert_allclose(reset[:2], alone, rtol=1e-12)
    assert reset[2] == 1.0 and alone[1] < 0.99


@pytest.mark.parametrize(
    ("row", "more", "why"),
    [
        ({"ss": 2, "ii": 12.0}, {}, "SS 2 together with neutrophil counts"),
        ({"ss": 2, "ii": 12.0}, {"marrow": False, "lag": True}, "SS 2 together with a lag"),
        ({"cmt": 2}, {"lag": True}, "a lag together with doses into central"),
    ],
)
def test_unsupported(row, more, why):
    with pytest.raises(Unsupported, match=why):
        mesh([records({"time": 0, "evid": 1, "amt": 5, **row})], 1.0, 6.0, **more)
