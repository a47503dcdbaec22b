"""Exact simulated trials of the real size, reduced to the reported rows by the paper's own estimators."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.exact import NEVER, Batch, History, form_of
from mezikd.model.outcomes import SAFETY_WEEKS
from mezikd.model.parameters import REGIONS, Parameter, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import plan_of
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario
from mezikd.model.trial_design import ARMS, Arm, Design

from . import estimators
from .evidence import Row
from .programs import simulator

Values = np.ndarray | jax.Array
"""Values of all patients: numpy here, declared as jax arrays where they are simulated."""
BATCH = 16
"""Trials simulated at once: bounds memory."""


@dataclass(frozen=True)
class ArmData:
    """One arm of one trial: patients as rows, everything observed by data cutoff."""

    sizes: Arm
    region: Values
    treated: Values
    """Whether the patient ever took treatment; safety counts only those."""
    history: History

    @property
    def end_of_treatment(self) -> Values:
        """Days from first dose to last dose or data cutoff."""
        return np.minimum(self.history.stop, self.history.cutoff)

    def observed(self, day: Values, safety: bool = True) -> Values:
        """Return whether an event at ``day`` was recorded: before cutoff and, if ``safety``, within 28 days of treatment."""
        h = self.history
        end = np.minimum(h.stop + (7.0 * SAFETY_WEEKS if safety else 0.0), np.minimum(h.cutoff, h.death + 1e-6))
        return (day < NEVER) & (day <= end)

    def safety_count(self, day: Values, subgroup: str = "all") -> float:
        """Return the treated patients (of a region) with a recorded event."""
        inside = self.treated if subgroup == "all" else self.treated & (self.region == REGIONS.index(subgroup))
        return float(self.observed(day)[inside].sum())

    def time_to_event(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (months, event) of ``pfs``, ``ttp`` or ``os``."""
        h = self.history
        if what == "os":
            event_at, end = h.death, h.cutoff
        else:
            event_at = np.minimum(h.progression, h.death) if what == "pfs" else h.progression
            end = np.minimum(np.minimum(h.cutoff, h.lost), h.death)
        time = np.minimum(event_at, end)
        return np.asarray(time / DAYS_PER_MONTH), np.asarray(event_at <= end)


Trial = dict[str, ArmData]


def compile_simulator(parameters: tuple[Parameter, ...], design: Design) -> None:
    """Compile what ``simulated_trials`` needs, by simulating a trial."""
    next(simulated_trials(np.zeros((1, sum(not p.fixed for p in parameters))), parameters, design, 0))


def simulated_trials(
    z: Values, parameters: tuple[Parameter, ...], design: Design, seed: int
) -> Iterator[tuple[Trial, dict[str, float]]]:
    """Yield a trial for each row of coordinates ``z`` with its parameters in natural units.

    Patients are drawn anew in every trial, as many of each region and arm as the trial had.
    """
    rng = np.random.default_rng([seed, 7])
    regions = {a: np.repeat(np.arange(len(REGIONS)), design.arm(a).regions) for a in ARMS}
    plans = {a: plan_of(Scenario(regimen=design.regimen, arm=a), design.horizon_weeks) for a in ARMS}
    most = max(len(r) for r in regions.values())
    draw = jax.jit(jax.vmap(lambda x: natural(x, parameters)))
    root = jax.random.key(seed)

    def history(a: Literal["mezikd", "kd"], theta, effects, keys) -> History:
        # The smaller arm is filled up to the size of the other, so that one compiled program serves both.
        n = len(regions[a])
        z = jnp.pad(effects, ((0, 0), (0, 0), (0, most - n)))
        patients = Batch(theta, z, np.pad(regions[a], (0, most - n)), keys)
        out = simulator(form_of(design, "trial"))(patients, plans[a])
        return jax.tree.map(lambda x: np.asarray(x[:, :n]), out)

    def trials(theta, treated, histories, size: int) -> Iterator[tuple[Trial, dict[str, float]]]:
        found = {a: h.result() for a, h in histories.items()}
        for j in range(size):
            trial = {
                a: ArmData(design.arm(a), regions[a], treated[a][j], jax.tree.map(lambda x, j=j: x[j], found[a]))
                for a in ARMS
            }
            yield trial, {k: float(np.asarray(v)[j]) for k, v in theta.items()}

    with ThreadPoolExecutor(len(ARMS)) as pool:  # a core for each arm
        waiting = None
        for begin in range(0, len(z), BATCH):
            size = min(BATCH, len(z) - begin)
            # A last batch of another size would be compiled anew: it is filled up and cut.
            rows = np.concatenate([z[begin : begin + size], np.repeat(z[-1:], BATCH - size, axis=0)])
            theta = draw(jnp.asarray(rows))
            histories, treated = {}, {}
            for i, a in enumerate(ARMS):
                effects = jnp.asarray(rng.standard_normal((BATCH, len(EFFECTS), len(regions[a]))))
                keys = jax.vmap(lambda j, i=i: jax.random.fold_in(jax.random.fold_in(root, j), i))(
                    jnp.arange(begin, begin + BATCH)
                )
                sizes = design.arm(a)
                treated[a] = rng.permuted(np.tile(np.arange(sizes.randomised) < sizes.treated, (BATCH, 1)), axis=1)
                histories[a] = pool.submit(history, a, theta, effects, keys)
                if begin == 0:
                    histories[a].result()  # compiled once, not by two threads at once
            if waiting is not None:  # reduced by the caller while the next batch is simulated
                yield from trials(*waiting)
            waiting = theta, treated, histories, size
        if waiting is not None:
            yield from trials(*waiting)


def _safety(day: Callable[[History], Values]):
    return lambda trial, row: trial[row.arm].safety_count(day(trial[row.arm].history), row.subgroup)


def _severe_and(flag: Callable[[History], Values]):
    def count(trial: Trial, row: Row) -> float:
        arm = trial[row.arm]
        return float((arm.observed(arm.history.severe) & arm.treated & flag(arm.history)).sum())

    return count


def _reduced(trial: Trial, row: Row) -> float:
    arm = trial[row.arm]
    neutropenia = arm.observed(arm.history.first_reduction, safety=False)
    return float(((neutropenia | (arm.history.other_reduction > 0.5)) & arm.treated).sum())


def _stopped_for_progression(trial: Trial, row: Row) -> float:
    h = trial[row.arm].history
    return float(((h.progression == h.stop) & (h.stop <= h.cutoff) & trial[row.arm].treated).sum())


def _deaths(which: Callable[[History], Values]):
    def count(trial: Trial, row: Row) -> float:
        h = trial[row.arm].history
        return float(((h.death <= h.cutoff) & which(h)).sum())

    return count


def _events(what: str):
    return lambda trial, row: float(trial[row.arm].time_to_event(what)[1].sum())


COUNTS: dict[str, Callable[[Trial, Row], float]] = {
    "neutropenia any grade": _safety(lambda h: h.first_grade2),
    "neutropenia grade 3 or 4": _safety(lambda h: h.first_grade3),
    "febrile neutropenia grade 3 or 4": _safety(lambda h: h.first_febrile),
    "mezigdomide delayed or paused for neutropenia": _safety(lambda h: h.first_hold),
    "mezigdomide dose reduced, any cause": _reduced,
    "infection any grade": _safety(lambda h: h.any_infection),
    "infection grade 3 or 4": _safety(lambda h: h.severe),
    "infection, worst grade 3": _severe_and(lambda h: h.grade4 < 0.5),
    "infection, worst grade 4": _severe_and(lambda h: h.grade4 > 0.5),
    "infection concurrent with grade >=3 neutropenia": _safety(lambda h: h.concurrent),
    "fatal infection": _severe_and(lambda h: h.fatal > 0.5),
    "at least one year of treatment": lambda t, r: float(
        ((t[r.arm].end_of_treatment >= 12 * DAYS_PER_MONTH) & t[r.arm].treated).sum()
    ),
    "continuing treatment at data cutoff": lambda t, r: float(
        ((t[r.arm].history.stop > t[r.arm].history.cutoff) & t[r.arm].treated).sum()
    ),
    "stopped for disease progression": _stopped_for_progression,
    "progression or death": _events("pfs"),
    "death from any cause": _deaths(lambda h: h.death > 0),
    "death from progressive disease": _deaths(lambda h: h.progression < h.death),
    "death from adverse event or other cause": _deaths(lambda h: h.progression >= h.death),
}
"""Counts by outcome: the patients that a trial report would give."""


def _severe_onset(trial: Trial, row: Row) -> Values:
    arm = trial[row.arm]
    return arm.history.severe[arm.observed(arm.history.severe) & arm.treated]


def _episode_days(trial: Trial, row: Row) -> Values:
    arm = trial[row.arm]
    days = arm.history.episode_days[arm.observed(arm.history.first_grade3) & arm.treated]
    return days[days < NEVER]


def _rdi(trial: Trial, row: Row) -> Values:
    arm = trial[row.arm]
    return (100.0 * arm.history.given / np.maximum(arm.history.planned, 1e-9))[arm.treated]


def _follow_up(trial: Trial, row: Row) -> Values:
    return np.concatenate([np.minimum(t.history.death, t.history.cutoff) for t in trial.values()]) / DAYS_PER_MONTH


SAMPLES: dict[str, Callable[[Trial, Row], Values]] = {
    "time to onset of grade 3 or 4 infection": _severe_onset,
    "duration of grade 3 or 4 neutropenia": _episode_days,
    "relative dose intensity, mezigdomide": _rdi,
    "duration of treatment": lambda t, r: t[r.arm].end_of_treatment[t[r.arm].treated] / DAYS_PER_MONTH,
    "follow-up": _follow_up,
}
"""Values whose quartiles are reported, by outcome."""
SURVIVAL = {"progression-free survival": "pfs", "time to progression": "ttp", "overall survival": "os"}


def reduce(trial: Trial, row: Row) -> tuple[float, float, float]:
    """Return (low, value, high) of one row in a simulated trial; low and high only for quartiles, else NaN."""
    nan = float("nan")
    if row.statistic == "quartiles":
        return estimators.quartiles(np.asarray(SAMPLES[row.outcome](trial, row)))
    if row.statistic == "count":
        return nan, COUNTS[row.outcome](trial, row), nan
    what = SURVIVAL[row.outcome]
    if row.statistic == "median":
        return nan, estimators.kaplan_meier_median(*trial[row.arm].time_to_event(what)), nan
    times, events = zip(*(trial[a].time_to_event(what) for a in ARMS), strict=True)
    arm = np.repeat([1, 0], [len(x) for x in times])
    log_hr = estimators.cox_log_hazard_ratio(np.concatenate(times), np.concatenate(events), arm)
    return nan, float(np.exp(log_hr)), nan
