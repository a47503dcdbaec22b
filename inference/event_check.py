"""Events of a fit of the arrest model beside those of trials of new patients: Kaplan-Meier curves, cumulative incidence.

A new patient has the arm, the doses and the follow-up of one of the data, and effects of the population. Its times come from the
hazards of the likelihood; treatment ends with its own progression or death, not with those of the patient of the data. So who
left treatment within WINDOW days of either goes on with the doses of the last four weeks, until treatment ends for another reason:
when that is comes from the others of the arm, given that it is later (Kaplan-Meier of ends for other reasons). How long a patient
with an event would have been followed is drawn from the censoring of the others in the same way.

    progression or death     as the likelihood has it: death that is known to come before progression, fatal infections with it
    severe infection         competing: death, and the end of treatment and of the days after it in which infections count
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from mezikd.model.delivered import Ledger, event_free
from mezikd.model.population import of_new_patients
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.structures import STRUCTURES

from .arrest_target import ArrestInputs, ArrestTarget, Lanes
from .estimators import at_times, cumulative_incidence, kaplan_meier
from .patient_data import PatientData
from .patient_results import PREDICTED
from .recorded_events import BEYOND, SAME, died_free, event
from .sampler import Draws

WINDOW = 28
"""Days: between an end of treatment and an event that is its cause; after treatment, in which infections count."""
STEP = 14.0
"""Days between two times of the curves."""
ARMS = {1: "with mezigdomide", 0: "without mezigdomide"}
EVENT, COMPETING = 1, 2


class Outcomes(NamedTuple):
    """Times (days) and kinds of the two outcomes, ``patients``, or ``trials patients``."""

    free: np.ndarray
    """Progression or death, or until when neither was seen."""
    failed: np.ndarray
    """Which of these are events."""
    infection: np.ndarray
    cause: np.ndarray
    """EVENT, COMPETING or 0."""


class Hazards(NamedTuple):
    """How events of new patients come: ``trials times patients``, and ``trials`` below."""

    infection: np.ndarray
    """Cumulative hazard at a frailty of 1."""
    progression: np.ndarray
    """Cumulative hazard."""
    variance: np.ndarray
    """Of the infection's frailty."""
    fatal: np.ndarray
    death: np.ndarray
    """Rate without progression, per month."""
    death_after: np.ndarray


def observed(data: ArrestInputs, tables: PatientData, deaths: bool) -> Outcomes:
    """Return the outcomes of the data; without ``deaths`` (not fitted) a death censors."""
    of = data.ledger
    death, died = event(tables, "death")
    stop, ended = event(tables, "end of treatment")
    progression, infection = np.asarray(of.progression), np.asarray(of.infection)
    alone = died_free(tables)
    dead, free = (alone.before, alone.free) if deaths else (np.zeros(len(died), bool), progression)
    over = ((died > 0) & (death <= infection + SAME)) | ((ended > 0) & (stop + WINDOW <= infection + SAME))
    infected = np.asarray(of.infected) > 0
    cause = np.where(infected, EVENT, np.where(over, COMPETING, 0))
    return Outcomes(free, (np.asarray(of.progressed) > 0) | dead, infection, cause)


def later(time: np.ndarray, seen: np.ndarray, last: float, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Return times after ``time``, ``trials patients``, by the Kaplan-Meier curve of (time, seen): ``last`` where it ends first."""
    times, staying = kaplan_meier(time, seen)
    share = at_times(time, times, staying, 1.0) * rng.uniform(size=(trials, len(time)))
    # The first time at which the curve is at most the share: it falls, so its negative is sorted.
    drawn = np.append(times, last)[np.searchsorted(-staying, -share, side="left")] if len(times) else last
    return np.maximum(drawn, time)


def followed_until(seen: Outcomes, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Return until when each patient is followed in each trial, ``trials patients``: drawn where its own event came first."""
    return np.where(seen.failed, later(seen.free, ~seen.failed, seen.free.max(), trials, rng), seen.free)


def other_ends(
    ledger: Ledger, caused: np.ndarray, seen: Outcomes, drug: np.ndarray, trials: int, rng: np.random.Generator
) -> np.ndarray:
    """Return when treatment ends for another reason than an event, ``trials patients``: drawn where an event ended it."""
    stop = np.asarray(ledger.stop)
    out = np.broadcast_to(stop, (trials, len(stop))).copy()
    for arm in ARMS:
        who = np.flatnonzero(drug == arm)
        if not len(who):
            continue
        until = np.minimum(stop, seen.free)[who]
        drawn = later(until, ~caused[who] & (stop[who] <= until), BEYOND, trials, rng)
        out[:, who] = np.where(caused[who], drawn, out[:, who])
    return out


def cut(ledger: Ledger, stop) -> Ledger:
    """Return the doses up to ``stop`` (day, ``patients``); those that go on, to the end of its week."""
    day = np.arange(ledger.dose.shape[0] * 7).reshape(-1, 7, 1)
    dose = jnp.where(day < stop, ledger.dose, 0.0)
    week = 7.0 * (jnp.floor(stop / 7.0) + 1.0)
    given = None if ledger.going_on is None else jnp.where(day < week, ledger.going_on, 0.0)
    return ledger._replace(dose=dose, going_on=given, stop=stop)


def continued(ledger: Ledger, seen: Outcomes) -> tuple[Ledger, np.ndarray]:
    """Return the doses as they would have gone on, with ``stop`` as recorded, and whose treatment an event ended."""
    weeks, _, n = ledger.dose.shape
    dose, stop = np.array(ledger.dose).reshape(-1, n), np.asarray(ledger.stop)
    caused = seen.failed & ((stop >= BEYOND) | (stop >= seen.free - WINDOW))
    if ledger.going_on is not None:
        dose = np.where(caused, np.asarray(ledger.going_on).reshape(-1, n), dose)
    begin = np.where(caused, np.ceil(np.minimum(stop, seen.free)), np.inf)
    for day in range(WINDOW, len(dose)):
        dose[day] = np.where(day >= begin, dose[day - WINDOW], dose[day])
    dose, given = dose.reshape(weeks, 7, n), ledger.going_on
    given = None if given is None else np.where(caused, dose, given)
    return ledger._replace(dose=dose, going_on=given), caused


def simulated(
    h: Hazards, at: np.ndarray, stop: np.ndarray, until: np.ndarray, parts: tuple[bool, bool], rng
) -> Outcomes:
    """Return the outcomes of trials of new patients.

    Parameters
    ----------
    at: times of the hazards, days, the first 0.
    stop: when treatment ends for another reason than an event, ``trials patients``.
    until: until when each is followed, ``trials patients``.
    parts: whether infection and death are part of the model.
    """
    shape = until.shape
    waits = rng.standard_exponential((5, *shape))
    v = h.variance[:, None]
    frailty = rng.gamma(1.0 / v, v, size=shape)
    infection = crossed(at, h.infection, waits[0] / frailty) if parts[0] else np.full(shape, np.inf)
    progression = crossed(at, h.progression, waits[1])
    before, after = np.full(shape, np.inf), np.full(shape, np.inf)
    if parts[1]:
        fatal = np.where(rng.uniform(size=shape) < h.fatal[:, None], infection, np.inf)
        before = np.minimum(fatal, waits[2] / h.death[:, None] * DAYS_PER_MONTH)
        after = progression + waits[3] / h.death_after[:, None] * DAYS_PER_MONTH
    free = np.minimum(progression, before)
    end = np.minimum(np.where(before < progression, before, after), np.minimum(progression, stop) + WINDOW)
    cause = np.where(infection <= np.minimum(end, until), EVENT, np.where(end <= until, COMPETING, 0))
    first = np.minimum(np.minimum(infection, end), until)
    return Outcomes(np.minimum(free, until), free <= until, first, cause)


def crossed(at: np.ndarray, cumulative: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return when cumulative hazards, ``trials times patients``, reach ``level``, ``trials patients``; infinity: never."""
    k = (cumulative <= level[:, None]).sum(axis=1)
    last = len(at) - 1
    low, high = np.clip(k - 1, 0, last)[:, None], np.clip(k, 0, last)[:, None]
    a, b = (np.take_along_axis(cumulative, i, axis=1)[:, 0] for i in (low, high))
    share = (level - a) / np.where(b > a, b - a, 1.0)
    return np.where(k > last, np.inf, at[low[:, 0]] + share * (at[high[:, 0]] - at[low[:, 0]]))


def hazards(
    target: ArrestTarget,
    data: ArrestInputs,
    ledger: Ledger,
    x: np.ndarray,
    z: np.ndarray,
    stop: np.ndarray,
    at: np.ndarray,
) -> Hazards:
    """Return the hazards of new patients at draws ``x``, ``trials coordinates``, effects ``z``, ``trials patients effects``.

    ``stop``: as of ``simulated``; doses end then.
    """
    steps = target.settings.model.steps_per_day

    def of(given):
        x, z, stop = given
        theta = target.population(x)
        eta = of_new_patients(z, target.spread(theta)[1])
        lanes = Lanes(target.individuals(theta, eta, data), target.rates(theta, data))
        _, h, log_free = event_free(lanes.individuals, lanes.rates, cut(ledger, stop), STRUCTURES["arrest"], at, steps)
        names = ("infection_fatal", "death_rate", "post_progression_death")
        return h, -log_free, theta["infection_frailty_sd"] ** 2, *(jnp.asarray(theta[n]) for n in names)

    return Hazards(*map(np.asarray, jax.lax.map(jax.jit(of), (jnp.asarray(x), jnp.asarray(z), jnp.asarray(stop)))))


def curves(o: Outcomes, grid: np.ndarray, who: np.ndarray, parts: tuple[bool, bool]) -> list[np.ndarray]:
    """Return the curves of the patients ``who`` of one trial at the times ``grid``."""
    found = []
    if parts[1]:
        found.append(at_times(grid, *kaplan_meier(o.free[who], o.failed[who]), 1.0))
    if parts[0]:
        found.append(at_times(grid, *cumulative_incidence(o.infection[who], o.cause[who]), 0.0))
    return found


def event_table(target: ArrestTarget, data: ArrestInputs, tables: PatientData, draws: Draws) -> pd.DataFrame | None:
    """Return events.csv, or None where neither progression nor infection was fitted.

    One row for outcome, arm and day: patients at risk then and events until then; the observed estimate; median and 90 % interval
    of that of trials of new patients.
    """
    m = target.settings.model
    if not (m.infection or m.progression):
        return None
    flat = draws.z.reshape(-1, draws.z.shape[-1])
    x = flat[:: max(1, len(flat) // PREDICTED)]
    rng = np.random.default_rng([target.settings.sampler.seed, 17])
    data = jax.tree.map(np.asarray, data)
    seen = observed(data, tables, m.death)
    ledger, caused = continued(data.ledger, seen)
    end = float(max(seen.free.max(), seen.infection.max()))
    at = np.append(np.arange(0.0, end, STEP), end)
    z = rng.standard_normal((len(x), target.patients, len(target.effects)))
    stop = other_ends(ledger, caused, seen, data.drug, len(x), rng)
    h = hazards(target, data, ledger, x, z, stop, at)
    new = simulated(h, at, stop, followed_until(seen, len(x), rng), (m.infection, m.death), rng)
    names = [
        *((("progression or death" if m.death else "progression"), "kaplan_meier", seen.free, seen.failed) for _ in range(m.progression)),
        *(("severe infection", "aalen_johansen", seen.infection, seen.cause == EVENT) for _ in range(m.infection)),
    ]  # fmt: skip
    found, parts = [], (m.infection, m.progression)
    for arm, arm_name in ARMS.items():
        who = np.flatnonzero((data.drug == arm) & (seen.free > 0.0))
        if not len(who):
            continue
        own = curves(seen, at, who, parts)
        trials = zip(*(curves(Outcomes(*(v[t] for v in new)), at, who, parts) for t in range(len(x))), strict=True)
        for (name, estimator, time, failed), mine, of_trials in zip(names, own, trials, strict=True):
            low, median, high = np.quantile(of_trials, [0.05, 0.5, 0.95], axis=0)
            found.append(
                pd.DataFrame(
                    dict(
                        outcome=name, arm=arm_name, estimator=estimator, day=at,
                        at_risk=(time[who][:, None] >= at).sum(axis=0), events=(failed[who] & (time[who] <= at[:, None])).sum(axis=1),
                        observed=mine, median=median, pi90_low=low, pi90_high=high,
                    )
                )
            )  # fmt: skip
    return pd.concat(found, ignore_index=True) if found else None
