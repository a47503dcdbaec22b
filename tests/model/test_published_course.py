"""The published ANC course of the class (avadomide, lymphoma): the arrest model follows, a kill model cannot.

Curve (digitised), parameters and PK: Abbiati 2021, AAPS J 23:103, doi 10.1208/s12248-021-00623-8.
Time as published: the first dose falls at t = 1 day; 4 mg on days 1-21 of 28. Rates there are per hour.
"""

from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from mezikd.model import friberg, neutrophils, relaxation

BASELINE = 4.59
PUBLISHED = {8: 4.25, 10: 3.30, 12: 1.94, 14: 1.47, 18: 1.25, 21: 1.23, 22: 1.22,
             23: 1.42, 24: 1.91, 25: 2.60, 26: 3.25, 27: 3.72, 28: 3.97}  # fmt: skip
"""ANC, 10^9/L, by published day."""
TOLERANCE = 0.08
WASHOUT = (4.0, 7.0)
"""Days to 90 % recovery without block: 5-5.6 by the published equations, 'about 5 days' in the trial."""
K_IKAROS = 200.0
"""The published model has no Ikaros delay: resynthesis within minutes, so that A = B."""
SHARE = relaxation.TR_SHARE


def concentration(hours, dose_ng=4e6, ka=5.5, lag=0.406, kel=0.0708, k12=0.0265, k21=0.0195, volume=48.7e3):
    """Return ng/mL after one oral dose, two compartments (volume in mL); 0 before the lag."""
    total, product = kel + k12 + k21, kel * k21
    alpha = 0.5 * (total + np.sqrt(total**2 - 4.0 * product))
    beta = product / alpha
    t = np.maximum(hours - lag, 0.0)
    terms = (
        (k21 - alpha) / ((ka - alpha) * (beta - alpha)) * np.exp(-alpha * t),
        (k21 - beta) / ((ka - beta) * (alpha - beta)) * np.exp(-beta * t),
        (k21 - ka) / ((alpha - ka) * (beta - ka)) * np.exp(-ka * t),
    )
    return dose_ng / volume * ka * sum(terms) * (hours > lag)


def block_means(steps_per_day: int, ec50: float = 15.0, days: int = 28, stop_at: float = np.inf):
    """Return the means of B over the two parts of each step of 28 days from the first dose, ``parts steps``.

    B = 0.9 C^2 / (EC50^2 + C^2), averaged over 400 instants of each part; ``stop_at`` (days) removes it.
    """
    start = np.arange(days * steps_per_day)[:, None] / steps_per_day
    instants = (np.arange(400) + 0.5) / 400 / steps_per_day
    parts = []
    for offset, width in ((0.0, SHARE), (SHARE / steps_per_day, 1.0 - SHARE)):
        t = start + offset + width * instants
        c = sum(concentration(24.0 * (t - dose)) for dose in range(21))
        parts.append(np.where(t < stop_at, 0.9 * c**2 / (ec50**2 + c**2), 0.0).mean(axis=1))
    return jnp.asarray(parts)


@partial(jax.jit, static_argnums=(0, 3))
def stepped(structure, marrow, means, h: float):
    """Return ANC/ANC0 after every step of ``h`` days."""

    def one(carry, pair):
        arrest, chain = carry
        pair = (pair[0], pair[1])
        chain = structure.step(chain, arrest, pair, K_IKAROS, marrow, h)
        arrest = reference.arrest_after(arrest, pair, K_IKAROS, h)
        return (arrest, chain), structure.blood(chain, marrow)

    start = (jnp.zeros(()), structure.baseline(marrow, ()))
    return jax.lax.scan(one, start, means.T)[1]


def course(structure, marrow, means, steps_per_day: int) -> np.ndarray:
    """Return ANC/ANC0 before the first step and after every step."""
    return np.concatenate([[1.0], stepped(structure, marrow, means, 1.0 / steps_per_day)])


def arrest_marrow() -> neutrophils.Marrow:
    """Return the published lymphoma parameters, per day."""
    values = (log(2.0) / 30.0 * 24.0, 0.001 * 24.0, 2.5, 0.1, 0.01, 0.97)
    return neutrophils.Marrow(*map(jnp.asarray, values))


KILL = {"fast": (84.0, 0.203), "central": (110.0, 0.17), "slow": (133.0, 0.145)}
"""Mean transit (h) and gamma: centre and ends of what six data sets found (84-133 h, 0.145-0.203)."""


def kill_marrow(name: str) -> friberg.Marrow:
    """Return the Friberg marrow of that name."""
    hours, gamma = KILL[name]
    return friberg.Marrow(jnp.asarray(4.0 / hours * 24.0), jnp.asarray(gamma))


def deviations(relative: np.ndarray, steps_per_day: int) -> dict[int, float]:
    """Return model over published less 1, by published day."""
    ours = BASELINE * relative[::steps_per_day]
    return {day: float(ours[day - 1] / anc - 1.0) for day, anc in PUBLISHED.items()}


def recovery_days(relative: np.ndarray, steps_per_day: int, stop_day: int = 21) -> float:
    """Return the days from the end of the block until 90 % of the fall is made good; inf if never."""
    after = relative[stop_day * steps_per_day :]
    target = after[0] + 0.9 * (1.0 - after[0])
    above = np.flatnonzero(after >= target)
    if len(above) == 0:
        return np.inf
    i = int(above[0])
    return (i - 1 + (target - after[i - 1]) / (after[i] - after[i - 1])) / steps_per_day


@pytest.fixture(scope="module", params=KILL)
def kill(request) -> tuple[friberg.Marrow, float]:
    """Return a kill model: its marrow and the EC50 (ng/mL) with which it falls as low as the arrest model."""
    marrow = kill_marrow(request.param)
    lowest = course(neutrophils, arrest_marrow(), block_means(4), 4).min()
    low, high = 1.0, 1e4
    for _ in range(15):
        middle = (low * high) ** 0.5
        too_low = course(friberg, marrow, block_means(4, middle), 4).min() < lowest
        low, high = (middle, high) if too_low else (low, middle)
    return marrow, middle


@pytest.mark.parametrize("steps_per_day", [1, 4])
def test_arrest_model_follows_the_published_course(steps_per_day):
    relative = course(neutrophils, arrest_marrow(), block_means(steps_per_day), steps_per_day)
    off = deviations(relative, steps_per_day)
    assert max(map(abs, off.values())) <= TOLERANCE, f"relative deviations by day: {off}"


@pytest.mark.parametrize("steps_per_day", [1, 4])
def test_arrest_model_recovers_within_the_washout(steps_per_day):
    means = block_means(steps_per_day, days=42, stop_at=21.0)
    days = recovery_days(course(neutrophils, arrest_marrow(), means, steps_per_day), steps_per_day)
    assert WASHOUT[0] <= days <= WASHOUT[1], f"90 % recovery {days:.2f} days after the block is gone"


def test_kill_model_cannot_follow_the_published_course(kill):
    """Same nadir, wrong course: it falls within the silent week and is still down on day 28."""
    marrow, ec50 = kill
    relative = course(friberg, marrow, block_means(4, ec50), 4)
    off = deviations(relative, 4)
    told = f"EC50 {ec50:.1f} ng/mL, nadir {relative.min():.3f}, deviations by day {off}"
    assert off[8] < -TOLERANCE and off[28] < -TOLERANCE, f"the kill model passes on day 8 or 28: {told}"
    assert sum(abs(x) > TOLERANCE for x in off.values()) > len(off) / 2, f"it passes on most days: {told}"


def test_kill_model_cannot_recover_within_the_washout(kill):
    marrow, ec50 = kill
    days = recovery_days(course(friberg, marrow, block_means(4, ec50, days=84, stop_at=21.0), 4), 4)
    assert days > WASHOUT[1], f"the kill model recovers 90 % in {days:.2f} days (EC50 {ec50:.1f} ng/mL)"
