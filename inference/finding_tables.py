"""What was found in each subject over time: neutrophil counts (adlb) and adverse events (adae)."""

import numpy as np
import pandas as pd
from mezikd.model.history import NEVER

from .exposure_tables import sequence
from .subject_tables import completed, study_day, subject_ids
from .virtual_trial import VirtualArm

STEP = 0.001
"""Counts are cut to whole steps, of which every limit of a grade is a whole number: a cut count keeps its grade."""
LOWER_LIMIT_OF_NORMAL = 2.0
LIMITS = (0.5, 1.0, 1.5, LOWER_LIMIT_OF_NORMAL)
"""Upper limits of grades 4, 3, 2, 1 of neutropenia, 10^9/L: CTCAE version 5; the lower limit of normal is an assumption."""


def grade(count) -> np.ndarray:
    """Return the CTCAE version 5 grade of neutrophil counts, 10^9/L."""
    return 4 - np.searchsorted(LIMITS, np.asarray(count, float), side="right")


def cut(count) -> np.ndarray:
    """Return counts cut to whole steps of STEP, not rounded; at least one step, since a fit takes logarithms."""
    # 1e-9: a count that is a whole number of steps up to rounding stays there.
    return np.round(np.maximum(np.floor(np.asarray(count, float) / STEP + 1e-9), 1.0) * STEP, 3)


def baseline_counts(arm: VirtualArm, rng: np.random.Generator) -> np.ndarray:
    """Return a count of each patient before treatment, with the error of every count."""
    return cut(np.exp(arm.person.log_anc0 + arm.sigma * rng.standard_normal(arm.size)))


def adlb(arm: VirtualArm, baseline: np.ndarray, study: str) -> pd.DataFrame:
    """Return the counts of the treated: baseline, scheduled visits on treatment, weekly counts on hold."""
    counts, cycle_days = arm.record.count.T, arm.scenario.regimen.cycle_days
    taken = np.isfinite(counts) & arm.treated[:, None]
    taken[:, 0] = arm.treated  # the baseline count comes before the first dose
    patient, week = np.nonzero(taken)
    first = week == 0
    value = cut(np.where(first, baseline[patient], counts[patient, week]))
    unscheduled = arm.record.unscheduled.T[patient, week] & ~first
    t = 7 * week
    cycle, day = t // cycle_days + 1, t % cycle_days + 1
    visit = [f"CYCLE {c} DAY {d}" for c, d in zip(cycle, day, strict=True)]
    number = np.where(unscheduled, np.nan, np.where(first, 0.0, np.round(cycle + day / 100.0, 2)))
    base = baseline[patient]
    data = {
        "USUBJID": subject_ids(arm)[patient],
        "PARAMCD": np.full(len(t), "NEUT", dtype=object),
        "PARAM": np.full(len(t), "Neutrophils (10^9/L)", dtype=object),
        "ADY": study_day(t),
        "AVISIT": np.where(first, "BASELINE", np.where(unscheduled, "UNSCHEDULED", visit)).astype(object),
        "AVISITN": number,
        "AVAL": value,
        "BASE": base,
        "CHG": (value - base).round(3),
        "ATOXGR": grade(value),
        "ABLFL": np.where(first, "Y", "").astype(object),
        "UNSCHFL": np.where(unscheduled, "Y", "").astype(object),
    }
    return completed(data, "adlb", study)


def _episodes(arm: VirtualArm) -> pd.DataFrame:
    """Return the episodes of grade >= 3 neutropenia of the treated: patient, begin, end (NEVER), worst, febrile, held."""
    r = arm.record
    begins = r.episode_start.T & arm.treated[:, None]
    patient, week = np.nonzero(begins)
    # The k-th end of a patient belongs to the k-th begin: they alternate.
    who, when = np.nonzero((r.episode_end < NEVER).T & arm.treated[:, None])
    ends = pd.Series(r.episode_end.T[who, when], index=pd.MultiIndex.from_arrays([who, sequence(who)]))
    end = ends.reindex(pd.MultiIndex.from_arrays([patient, sequence(patient)])).fillna(NEVER).to_numpy()
    number = np.cumsum(begins.ravel()).reshape(begins.shape) - 1
    started = np.cumsum(begins, axis=1) > 0
    day = 7.0 * np.arange(begins.shape[1])
    within = (
        started
        & (day <= np.where(started, np.append(end, NEVER)[np.maximum(number, 0)], -1.0))
        & (day < arm.follow_up_end[:, None])
    )
    counts = np.where(within & np.isfinite(r.count.T), r.count.T, np.inf)
    worst = np.full(len(patient), np.inf)
    np.minimum.at(worst, number[within], counts[within])
    held = np.zeros(len(patient), bool)
    np.logical_or.at(held, number[within], (r.held & r.on).T[within])
    return pd.DataFrame(
        {
            "patient": patient, "begin": day[week], "end": end, "worst": worst, "febrile": r.febrile.T[patient, week],
            "held": held,
        }
    )  # fmt: skip


def _infections(arm: VirtualArm) -> pd.DataFrame:
    """Return the infections of the treated: patient, begin, end, grade, concurrent."""
    r = arm.record
    cells = np.moveaxis(r.infection, 2, 0)  # patients, weeks, kinds
    patient, week, kind = np.nonzero((cells < NEVER) & arm.treated[:, None, None])
    at = (week, kind, patient)
    begin = r.infection[at]
    return pd.DataFrame(
        {
            "patient": patient, "begin": begin, "end": begin + r.infection_days[at],
            "grade": r.infection_grade[at].astype(int), "concurrent": r.infection_concurrent[at],
        }
    )  # fmt: skip


def adae(arm: VirtualArm, study: str) -> pd.DataFrame:
    """Return the adverse events of the treated.

    An event that begins is recorded up to 28 days after the end of treatment; its end up to death or data cutoff.
    """
    episodes, infections = _episodes(arm), _infections(arm)
    neutropenia = episodes.assign(
        term="NEUTROPENIA", grade=grade(episodes["worst"]), concurrent="",
        action=np.where(episodes["held"], "DRUG INTERRUPTED", "")
    )  # fmt: skip
    febrile = neutropenia[episodes["febrile"].to_numpy(bool)].assign(term="FEBRILE NEUTROPENIA", grade=3, action="")
    infected = infections.assign(
        term="INFECTION", action="", concurrent=np.where(infections["concurrent"], "Y", "N").astype(object)
    )
    events = pd.concat([neutropenia, febrile, infected], ignore_index=True)
    events = events.sort_values(["patient", "begin", "term"], kind="stable", ignore_index=True)
    patient, severity = events["patient"].to_numpy(int), events["grade"].to_numpy(int)
    is_infection = (events["term"] == "INFECTION").to_numpy()
    fatal = is_infection & (severity == 5)
    end = events["end"].to_numpy(float)
    over = fatal | (end <= arm.follow_up_end[patient])
    first, last = study_day(events["begin"]), study_day(np.where(over, end, np.nan))
    serious = np.where(is_infection, severity >= 3, events["term"] == "FEBRILE NEUTROPENIA")
    data = {
        "USUBJID": subject_ids(arm)[patient],
        "AESEQ": sequence(patient),
        "AEDECOD": events["term"].to_numpy(object),
        "AEBODSYS": np.where(
            is_infection, "INFECTIONS AND INFESTATIONS", "BLOOD AND LYMPHATIC SYSTEM DISORDERS"
        ).astype(object),
        "AETOXGR": severity,
        "ASTDY": first,
        "AENDY": last,
        "ADURN": pd.Series(last) - pd.Series(first),
        "AESER": np.where(serious, "Y", "N").astype(object),
        "AESDTH": np.where(fatal, "Y", "N").astype(object),
        "CONCNEFL": events["concurrent"].to_numpy(object),
        "AEACN": events["action"].to_numpy(object),
        "AEOUT": np.where(fatal, "FATAL", np.where(over, "RECOVERED", "NOT RECOVERED")).astype(object),
    }
    return completed(data, "adae", study)
