"""Tables with a row or a few for each subject: adsl and adtte."""

import numpy as np
import pandas as pd
from mezikd.model.history import NEVER
from mezikd.model.outcomes import SAFETY_WEEKS
from mezikd.model.regimen import DAYS_PER_MONTH
from pandas.api.extensions import ExtensionArray

from .figures_course import ARM_NAMES
from .table_columns import names
from .virtual_trial import VirtualArm

REGION_TEXTS = np.array(["USA", "EUROPE", "ASIA", "REST OF WORLD"])
SAFETY_DAYS = 7.0 * SAFETY_WEEKS
DECIMALS = 6
"""Of every number that is not a count of days: enough that no two times tie which did not."""


def subject_ids(arm: VirtualArm) -> np.ndarray:
    """Return the unique subjects of an arm, such as SIM-M00001; the order is the simulation's."""
    return np.array([f"SIM-{arm.name[0].upper()}{i:05d}" for i in range(1, arm.size + 1)], dtype=object)


def study_day(t) -> ExtensionArray:
    """Return the study day of times in days since randomisation (study day 1 is t = 0); missing where NEVER or NaN."""
    t = np.asarray(t, float)
    known = np.isfinite(t) & (t < NEVER)
    return pd.array(np.where(known, np.floor(np.where(known, t, 0.0)) + 1.0, np.nan), dtype="Int64")


def yes_no(flag) -> np.ndarray:
    """Return Y where ``flag``, else N."""
    return np.where(flag, "Y", "N").astype(object)


def completed(data: dict, table: str, study: str) -> pd.DataFrame:
    """Return ``data`` with the columns of ``table`` in order; ``study`` is the name of the fitted study."""
    size = len(next(iter(data.values())))
    return pd.DataFrame({"STUDYID": np.full(size, f"SIMULATED {study}", dtype=object)} | data).loc[:, names(table)]


def planned_treatment(arm: VirtualArm) -> str:
    """Return the treatment of an arm with its regimen."""
    if arm.name == "kd":
        return "Kd"
    r, rdi = arm.scenario.regimen, arm.scenario.rdi
    share = "" if rdi is None else f", relative dose intensity set to {rdi:g}"
    return f"Mezigdomide {r.dose_mg:g} mg, days 1-{r.days_on} of {r.cycle_days}, with Kd{share}"


def adsl(arm: VirtualArm, baseline: np.ndarray, doses: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return the subjects of an arm; ``baseline`` are their counts before treatment, ``doses`` the arm's adex."""
    h, n, end = arm.history, arm.size, arm.treatment_end
    ids = subject_ids(arm)
    given = doses.assign(plan=doses["PLANDOSE"] * doses["NDAYS"], taken=doses["EXDOSE"] * doses["NDAYS"])
    planned, taken = (np.asarray(given.groupby("USUBJID")[c].sum().reindex(ids), float) for c in ("plan", "taken"))
    off = arm.treated & (h.stop <= h.cutoff)
    reason = np.where(h.progression == h.stop, "PROGRESSIVE DISEASE", np.where(h.death == h.stop, "DEATH", "OTHER"))
    died = h.death <= h.cutoff
    cause = np.where(h.progression < h.death, "PROGRESSIVE DISEASE", np.where(h.fatal > 0.5, "INFECTION", "OTHER"))
    person = arm.person
    data = {
        "USUBJID": ids,
        "SUBJID": np.array([x.removeprefix("SIM-") for x in ids], dtype=object),
        "SIMFL": np.full(n, "Y", dtype=object),
        "ARM": np.full(n, ARM_NAMES[arm.name], dtype=object),
        "ARMCD": np.full(n, arm.name.upper(), dtype=object),
        "TRT01P": np.full(n, planned_treatment(arm), dtype=object),
        "REGION": REGION_TEXTS[arm.region].astype(object),
        "ITTFL": np.full(n, "Y", dtype=object),
        "SAFFL": yes_no(arm.treated),
        "RANDDY": np.ones(n, int),
        "TRTSDY": study_day(np.where(arm.treated, 0.0, np.nan)),
        "TRTEDY": study_day(np.where(arm.treated, end, np.nan)),
        "TRTDURM": np.where(arm.treated, end / DAYS_PER_MONTH, np.nan).round(DECIMALS),
        "EOTSTT": np.where(arm.treated, np.where(off, "DISCONTINUED", "ONGOING"), "").astype(object),
        "DCTREAS": np.where(off, reason, "").astype(object),
        "BNEUT": baseline,
        "NEUT0": np.exp(person.log_anc0).round(DECIMALS),
        "EXPOSURE": np.exp(person.log_exposure).round(DECIMALS),
        "MATURATN": arm.maturation.round(DECIMALS),
        "INTENSTY": np.broadcast_to(person.intensity, n).round(DECIMALS),
        "PRGFRLTY": np.broadcast_to(person.progression_frailty, n).round(DECIMALS),
        "PLANMG": planned.round(DECIMALS),
        "ACTUALMG": taken.round(DECIMALS),
        "RDI": (100.0 * taken / planned).round(DECIMALS),
        "REDNEUFL": yes_no(arm.treated & (h.first_reduction <= np.minimum(h.stop, arm.follow_up_end + 1e-6))),
        "REDOTHFL": yes_no(arm.treated & (h.other_reduction > 0.5)),
        "CUTOFFDY": study_day(h.cutoff),
        "LSTFUDY": study_day(arm.follow_up_end),
        "FUPMON": (arm.follow_up_end / DAYS_PER_MONTH).round(DECIMALS),
        "DTHFL": yes_no(died),
        "DTHDY": study_day(np.where(died, h.death, np.nan)),
        "DTHCAUS": np.where(died, cause, "").astype(object),
    }
    return completed(data, "adsl", study)


def _time_to(
    arm: VirtualArm, event_at, ends: dict[str, np.ndarray], event: np.ndarray, code: str, text: str, who
) -> dict:
    """Return the rows of one parameter: the event unless one of ``ends`` (reason -> day) comes first."""
    reasons = np.array(list(ends), dtype=object)
    stack = np.stack(list(ends.values()))
    first, end = reasons[np.argmin(stack, axis=0)], stack.min(axis=0)
    observed = event_at <= end
    time = np.minimum(event_at, end)
    codes = np.array([CENSORING[r] for r in reasons])[np.argmin(stack, axis=0)]
    data = {
        "USUBJID": subject_ids(arm),
        "ARMCD": np.full(arm.size, arm.name.upper(), dtype=object),
        "PARAMCD": np.full(arm.size, code, dtype=object),
        "PARAM": np.full(arm.size, text, dtype=object),
        "AVAL": (time / DAYS_PER_MONTH).round(DECIMALS),
        "AVALU": np.full(arm.size, "MONTHS", dtype=object),
        "ADY": study_day(time),
        "CNSR": np.where(observed, 0, codes),
        "EVNTDESC": np.where(observed, event, "").astype(object),
        "CNSDTDSC": np.where(observed, "", first).astype(object),
    }
    return {k: v[who] for k, v in data.items()}


CENSORING = {"DATA CUTOFF": 1, "LOST TO FOLLOW-UP": 2, "DEATH": 3, "END OF SAFETY FOLLOW-UP": 4}
"""CNSR by reason of censoring."""


def adtte(arm: VirtualArm, study: str) -> pd.DataFrame:
    """Return the times to event of an arm, parameter by parameter."""
    h = arm.history
    everybody = np.ones(arm.size, bool)
    cutoff, lost, death = {"DATA CUTOFF": h.cutoff}, {"LOST TO FOLLOW-UP": h.lost}, {"DEATH": h.death}
    first = np.where(h.progression <= h.death, "PROGRESSIVE DISEASE", "DEATH")
    safety = {"END OF SAFETY FOLLOW-UP": h.stop + SAFETY_DAYS}
    parts = [
        _time_to(arm, np.minimum(h.progression, h.death), cutoff | lost, first, "PFS", "Progression-free survival", everybody),
        _time_to(arm, h.progression, cutoff | lost | death, first, "TTP", "Time to progression", everybody),
        _time_to(arm, h.death, cutoff, np.full(arm.size, "DEATH"), "OS", "Overall survival", everybody),
        _time_to(arm, h.severe, cutoff | death | safety, np.full(arm.size, "INFECTION"), "TTINF3",
                 "Time to first infection of grade 3 or more", arm.treated),
    ]  # fmt: skip
    return pd.concat([completed(p, "adtte", study) for p in parts], ignore_index=True)
