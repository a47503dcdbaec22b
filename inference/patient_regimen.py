"""What is proposed for one patient after the end of its data (options of `mezikd predict FIT --patient ID`), and its forecast."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import input_error
from .scenario_files import OPTIONS, single_scenario
from .scenario_settings import EMERGENT, schedule_problem

NO_DOSE = "no further dose"
DAYS_ON, CYCLE_DAYS, MONTHS, DRAWS = 21, 28, 6, 400
VISIT_DAYS = 7
"""Counts are taken once a week from the end of the data on."""
THRESHOLDS = (1.0, 0.5)
"""10^9/L: counts below are of grade 3 and 4."""


@dataclass(frozen=True)
class Proposal:
    """A regimen for one patient; day 1 of its first cycle is the first day after the data, or when the next dose is due."""

    patient: str
    dose: float | None
    """mg, or in the unit of AMT; None: the last dose that the patient took."""
    days_on: int = DAYS_ON
    cycle_days: int = CYCLE_DAYS
    rdi: float = 1.0
    """Share of every dose that is taken."""
    months: int = MONTHS
    draws: int | None = None
    """None: DRAWS, or all where there are fewer."""
    seed: int = 1


@dataclass(frozen=True)
class Forecast:
    """One scenario for one patient under every draw. Days are the patient's own, from time zero of its tables."""

    scenario: str
    days: np.ndarray
    """Days of the course, ``days``: history and future."""
    anc: np.ndarray
    """ANC, 10^9/L, ``draws days``."""
    below: dict[float, np.ndarray]
    """Probability that a count on a day is below a threshold (measurement error inside), ``draws days``."""
    count: np.ndarray
    """A count on each day, ``draws days``."""
    extrapolated: bool
    """The patient never took this dose."""
    risks: dict[str, np.ndarray] = field(default_factory=dict)
    """Probabilities at the end of each month from the end of the data, ``draws months``."""


@dataclass(frozen=True)
class Predicted:
    """What is predicted for one patient."""

    proposal: Proposal
    now: float
    """Day at which the data end."""
    followed: float
    """Longest follow-up of a patient of the fit, days."""
    forecasts: tuple[Forecast, ...]
    seen: np.ndarray
    """Days and values of the patient's counts, ``2 counts``."""
    unit: str
    """Of a dose."""
    notes: tuple[str, ...]
    """What the prediction supposes, one line each."""


def is_on(proposal: Proposal, day: np.ndarray) -> np.ndarray:
    """Return whether a dose is planned on days since the first one, 0 the first."""
    return (day >= 0) & (day % proposal.cycle_days < proposal.days_on)


def dose_name(proposal: Proposal, dose: float, unit: str, more: str = "") -> str:
    """Return the name of the scenario."""
    share = "" if proposal.rdi == 1.0 else f", RDI {proposal.rdi:g}"
    return f"{dose:g} {unit}{more} {proposal.days_on}/{proposal.cycle_days}{share}"


def of_a_patient(posterior: Path, patient: str | None, others: Sequence[str]) -> bool:
    """Return whether one patient of a fit to patients' own tables is to be predicted.

    Parameters
    ----------
    others: options that were given and say nothing about one patient.

    Raises
    ------
    InputError: as ``posterior_file.opened``; a patient of a fit to reported numbers; such a fit without a patient, or with
    ``others``.
    """
    from .patient_store import is_patient_fit, load_patient_fit  # here: they load jax

    if not is_patient_fit(posterior):
        if patient is not None:
            raise input_error(
                "--patient", f"{posterior} is a fit to reported numbers: it has no patients",
                "leave --patient out, or name a fit to patients' own tables",
            )  # fmt: skip
        return False
    if patient is None:
        ids = load_patient_fit(posterior)[1].ids
        more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
        raise input_error(
            posterior, "a fit to patients' own tables, and no --patient", "name one patient", allowed=", ".join(ids[:20]) + more
        )  # fmt: skip
    if others:
        raise input_error(others[0], "given beside --patient", "leave one of them out")
    return True


def proposal_of(patient: str, regimen: Mapping[str, float], settings: Mapping[str, int]) -> Proposal:
    """Return what is proposed for a patient from the options that were given.

    Parameters
    ----------
    regimen: dose_mg (here in the unit of the fit's tables), days_on, cycle_days, rdi.
    settings: horizon_months, draws, seed.

    Raises
    ------
    InputError: a value out of range; the upper limit of the dose depends on the fit.
    """
    dose = regimen.get("dose_mg")
    if dose is not None and not (math.isfinite(dose) and dose > 0.0):
        raise input_error("--dose", f"value {dose:g} is not allowed", "give another dose", allowed="a number above 0")
    source = single_scenario({k: v for k, v in regimen.items() if k != "dose_mg"}, settings)
    s, p = source.request.scenario[0], source.request.prediction
    days_on, cycle_days = s.days_on or DAYS_ON, s.cycle_days or CYCLE_DAYS
    if problem := schedule_problem(days_on, cycle_days):
        key = "cycle_days" if "multiple" in problem else "days_on"
        raise input_error(
            OPTIONS[key], f"the schedule {problem}", "give another value", allowed="days on <= cycle <= 84"
        )
    return Proposal(
        patient, dose, days_on, cycle_days, 1.0 if s.rdi == EMERGENT else float(s.rdi),
        settings.get("horizon_months", MONTHS), settings.get("draws"), p.seed,
    )  # fmt: skip
