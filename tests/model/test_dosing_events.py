"""Amounts in closed form against diffrax and against explicit trains of doses, over every kind of record."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mezikd.model.disposition import Amounts, Rates, decayed, eigenvalues, infused, rates, repeated, three_nodes
from mezikd.model.dosing_events import Records, Unsupported, amounts, schedule

R = Rates(*(jnp.asarray(x) for x in (0.9, 0.15, 0.4, 0.25)))
ONE = Rates(*(jnp.asarray(x) for x in (0.9, 0.15, 0.0, 1e-12)))
FIELDS = ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss")


def records(*rows: dict) -> Records:
    """Return records from rows; what a row leaves out is 0, CMT 1."""
    defaults = dict.fromkeys(FIELDS, 0.0) | {"cmt": 1}
    table = [defaults | row for row in rows]
    return Records(
        **{f: np.array([row[f] for row in table], int if f in ("evid", "cmt", "addl", "ss") else float) for f in FIELDS}
    )


def observe(*times: float) -> list[dict]:
    return [{"time": t} for t in times]


def at(r: Records, rates_=R, **more) -> np.ndarray:
    """Return depot, central and peripheral at the observations of one patient."""
    return np.stack([np.asarray(x)[0] for x in amounts(schedule([r]), rates_, **more)])


def by_diffrax(doses, infusions, times, r: Rates, lag: float = 0.0) -> np.ndarray:
    """Return the amounts at ``times`` from doses (time, amount, compartment) and infusions (time, rate, duration)."""
    ka, k10, k12, k21 = (float(x) for x in r)
    stops = sorted(
        {
            0.0,
            *times,
            *(t + lag for t, *_ in doses),
            *(t + lag for t, *_ in infusions),
            *(t + lag + d for t, _, d in infusions),
        }
    )

    def field(t, y, rate):
        g, c, p = y
        return jnp.stack([-ka * g, ka * g + rate - (k10 + k12) * c + k21 * p, k12 * c - k21 * p])

    @jax.jit
    def solve(y, length, rate):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Dopri8(), 0.0, length, 0.01, y, args=rate,
            stepsize_controller=diffrax.PIDController(rtol=1e-13, atol=1e-14), max_steps=20_000,
        ).ys[0]  # fmt: skip

    y, out = jnp.zeros(3), {}
    for i, t in enumerate(stops):
        for when, amount, cmt in doses:
            if when + lag == t:
                y = y.at[cmt - 1].add(amount)
        out[t] = np.asarray(y)
        if i + 1 < len(stops):
            rate = sum(x for when, x, d in infusions if when + lag <= t < when + lag + d)
            y = solve(y, stops[i + 1] - t, jnp.asarray(float(rate)))
    return np.stack([out[t] for t in times], axis=1)


TIMES = (0.5, 1.0, 3.7, 6.0, 11.9, 12.1, 30.0)


@pytest.mark.parametrize("r", [R, ONE], ids=["two compartments", "one compartment"])
@pytest.mark.parametrize("lag", [0.0, 0.7])
def test_doses_and_infusions_against_diffrax(r, lag):
    rows = [{"time": 0, "evid": 1, "amt": 5.0}, *observe(0.5, 1.0)]
    rows += [{"time": 2.0, "evid": 1, "cmt": 2, "amt": 3.0, "rate": 1.5}, *observe(3.7)]
    rows += [{"time": 5.0, "evid": 1, "cmt": 2, "amt": 1.0}, *observe(6.0, 11.9, 12.1, 30.0)]
    ours = at(records(*rows), r, lag=lag, lag_central=lag)
    theirs = by_diffrax([(0.0, 5.0, 1), (5.0, 1.0, 2)], [(2.0, 1.5, 2.0)], TIMES, r, lag)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ka", ["alpha", "beta", "near alpha", "near beta"])
def test_absorption_as_fast_as_an_eigenvalue(ka):
    """Confluent nodes: still as exact, and with finite gradients."""
    value = float(eigenvalues(R)[0 if "alpha" in ka else 1]) * (1.0 + 1e-7 * ("near" in ka))
    r = R._replace(ka=jnp.asarray(value))
    ours = at(records({"evid": 1, "amt": 5.0}, *observe(*TIMES)), r)
    np.testing.assert_allclose(ours, by_diffrax([(0.0, 5.0, 1)], [], TIMES, r), rtol=1e-10, atol=1e-12)

    def central(x):
        return decayed(Amounts(*jnp.asarray([1.0, 0.0, 0.0])), Rates(*x), 3.0).central

    x = jnp.stack(list(r))
    slope = jax.grad(central)(x)
    steps = 1e-6 * np.eye(4)
    difference = [(central(x + s) - central(x - s)) / 2e-6 for s in steps]
    np.testing.assert_allclose(slope, difference, rtol=2e-5, atol=1e-8)


def test_gradients_are_finite_far_out():
    """Rates over eight orders of magnitude, equal and zero among them."""
    rng = np.random.default_rng(1)
    x = 10.0 ** rng.uniform(-4.0, 4.0, (400, 4))
    x[:40] = x[:40, :1]
    x[40:80, 2] = 0.0

    def all_of(x, t):
        r = Rates(*x)
        start = Amounts(*jnp.asarray([1.0, 0.5, 0.2]))
        parts = (*decayed(start, r, t), *infused(2.0, r, t), *repeated(decayed(start, r, 12.0), r, 12.0))
        return jnp.stack(parts).sum()

    for t in (0.0, 1e-6, 1.0, 500.0):
        value, slope = jax.vmap(jax.value_and_grad(lambda x, t=t: all_of(x, t)))(jnp.asarray(x))
        assert np.isfinite(value).all() and np.isfinite(slope).all()


def test_three_nodes_on_both_sides_of_the_series():
    """Continuous where the series takes over, and right where all three coincide: t^2 / 2 e^(-x t)."""
    for scale in (0.0199, 0.0201):
        nodes = 0.3 + scale * np.array([0.0, 0.6, 1.0])
        exact = sum(np.exp(-n) / np.prod([m - n for m in nodes if m != n]) for n in nodes.astype(np.longdouble))
        np.testing.assert_allclose(float(three_nodes(*nodes, 1.0)), float(exact), rtol=2e-10)
    np.testing.assert_allclose(float(three_nodes(0.3, 0.3, 0.3, 2.0)), 2.0 * np.exp(-0.6), rtol=1e-14)


STEADY = [
    (lag, route, ss, reset)
    for lag in (0.0, 1.3, 9.5)
    for route in ("depot", "central", "infusion")
    for ss in (1, 2)
    for reset in (False, True)
]


@pytest.mark.parametrize(("lag", "route", "ss", "reset"), STEADY)
def test_steady_state_and_further_doses_against_a_train(lag, route, ss, reset):
    """SS with ADDL against 40 doses written out before it; with SS 2 an earlier dose is still there, with SS 1 not."""
    dose = {"evid": 1, "amt": 4.0, "cmt": 1 if route == "depot" else 2, "rate": 2.0 if route == "infusion" else 0.0}
    start, interval = 40.0, 24.0
    first = {"time": 30.0, "evid": 1, "amt": 7.0}
    rows = [first, {**dose, "time": start, "ii": interval, "addl": 2, "ss": ss}]
    times = [start + x for x in (0.0, 0.5, 1.3, 3.0, 24.0, 25.0, 48.5, 49.0, 110.0)]
    tail = [{"time": start + 60.0, "evid": 3}] if reset else []
    before, after = [t for t in times if t < start + 60.0], [t for t in times if t >= start + 60.0]
    ours = at(records(*rows, *observe(*before), *tail, *observe(*after)), lag=lag, lag_central=lag)
    train = [{**dose, "time": start - k * interval + 1e3} for k in range(40, -3, -1)]
    early = [{**first, "time": 30.0 + 1e3}] if ss == 2 else []
    written = sorted(
        [*train, *early, *({"time": t + 1e3} for t in before)], key=lambda x: (x["time"], not x.get("evid"))
    )
    theirs = at(records(*written), lag=lag, lag_central=lag)
    np.testing.assert_allclose(ours[:, : len(before)], theirs, rtol=1e-10, atol=1e-12)
    if reset:
        np.testing.assert_array_equal(ours[:, len(before) :], 0.0)


def test_steady_state_of_one_compartment_against_a_train():
    """To ten digits, and far into its decay: no cancellation by the compartment that is not there."""
    r, times = rates(1.1, 2.0, 20.0), (0.0, 3.0, 23.0, 300.0)
    dose = {"evid": 1, "amt": 4.0, "ii": 24.0}
    ours = at(records({**dose, "ss": 1}, *observe(*times)), r)
    train = at(records({**dose, "addl": 40}, *observe(*(40 * 24.0 + t for t in times))), r)
    np.testing.assert_allclose(ours[:2], train[:2], rtol=1e-10)
    assert ours[1, 3] < 1e-10


def test_a_lag_delays_the_doses_of_its_compartment():
    """Oral doses by ALAG1, those into central by ALAG2: each as if given later. Before it arrives a dose is not there."""
    oral = [{"evid": 1, "amt": 5.0, "ii": 12.0, "addl": 3}, {"time": 40.0, "evid": 4, "amt": 2.0}]
    central = [
        {"time": 1.0, "evid": 1, "cmt": 2, "amt": 3.0, "rate": 1.5},
        {"time": 41.0, "evid": 1, "cmt": 2, "amt": 1.0},
    ]
    times = (0.5, 2.9, 3.1, 13.0, 39.0, 40.5, 42.0, 44.0)
    observed = [{"time": t} for t in times]
    for rows, lags in ((oral, {"lag": 2.3}), (central, {"lag_central": 0.7})):
        of = next(iter(lags.values()))
        whole = sorted([*rows, *observed], key=lambda x: x.get("time", 0.0))
        later = [x | {"time": x.get("time", 0.0) + of if x.get("evid") == 1 else x.get("time", 0.0)} for x in whole]
        if rows is oral:  # the reset comes when it is recorded, its dose after the lag
            later += [{"time": 40.0, "evid": 3}, {"time": 40.0 + of, "evid": 1, "amt": 2.0}]
            later = [x for x in later if x.get("evid") != 4]
        later.sort(key=lambda x: x["time"])
        np.testing.assert_allclose(at(records(*whole), **lags), at(records(*later)), rtol=1e-10, atol=1e-12)
    assert at(records(*oral, *observe(40.5)), lag=2.3).max() == 0.0


def test_a_steady_state_dose_that_lags_shows_the_end_of_the_interval_before():
    """C(t) = C0(t - lag + II) before it arrives, C0(t - lag) after: what NONMEM 7.5.1 prints for SS 1 with ALAG1."""
    dose = {"evid": 1, "amt": 4.0, "ii": 24.0, "ss": 1}
    lag, times = 1.5, (0.0, 0.5, 1.0, 2.0, 23.0)
    ours = at(records(dose, *observe(*times)), lag=lag)
    wrapped = np.array([t - lag + 24.0 * (t < lag) for t in times])
    order = np.argsort(wrapped)
    plain = at(records(dose, *observe(*wrapped[order])))
    np.testing.assert_allclose(ours[:, order], plain, rtol=1e-10)


def test_row_order_decides_at_equal_times():
    before = at(records(*observe(2.0), {"time": 2.0, "evid": 1, "amt": 1.0}, *observe(2.0)))
    np.testing.assert_array_equal(before[0], [0.0, 1.0])
    both = at(records({"evid": 1, "amt": 1.0}, {"time": 4.0, "evid": 4, "amt": 2.0}, *observe(4.0)))
    np.testing.assert_allclose(both[:, 0], [2.0, 0.0, 0.0])


def test_patients_are_padded():
    """Two patients with other numbers of records give what each gives alone; bioavailability scales amounts."""
    a = records({"evid": 1, "amt": 5.0, "ii": 12.0, "addl": 3}, *observe(1.0, 20.0, 50.0))
    b = records({"evid": 1, "amt": 2.0, "cmt": 2}, *observe(3.0))
    together = amounts(schedule([a, b]), R, bioavailability=0.5)
    np.testing.assert_allclose(np.stack([np.asarray(x)[0] for x in together]), 0.5 * at(a), rtol=1e-13)
    np.testing.assert_allclose(np.stack([np.asarray(x)[1, 0] for x in together]), 0.5 * at(b)[:, 0], rtol=1e-13)


def test_rates_of_clearances():
    r = rates(1.2, 10.0, 35.0, 15.0, 105.0)
    np.testing.assert_allclose([float(x) for x in r], [1.2, 10.0 / 35.0, 15.0 / 35.0, 15.0 / 105.0])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"time": 2.0}, {"time": 1.0}], "record 2: time goes back"),
        ([{"evid": 1, "amt": 1.0, "rate": 1.0}], "infusion into the depot"),
        ([{"evid": 1, "amt": 1.0, "cmt": 2, "rate": -2.0}], "RATE below 0"),
        ([{"evid": 1, "amt": 1.0, "addl": 2}], "without II"),
        ([{"evid": 1, "amt": 1.0, "ss": 1}], "without II"),
        ([{"evid": 1}], "without AMT"),
        ([{"evid": 1, "amt": 1.0, "cmt": 3}], "compartment 3"),
        ([{"evid": 1, "amt": 9.0, "cmt": 2, "rate": 1.0, "ss": 1, "ii": 8.0}], "longer than II"),
    ],
)
def test_unsupported(rows, why):
    with pytest.raises(Unsupported, match=why):
        schedule([records(*rows)])
