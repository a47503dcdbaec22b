"""What the exact simulator tells of each patient: the history (always) and the day-by-day record (on request).

Times are days since the first dose (randomisation); ``NEVER`` where it did not happen. Under ``vmap`` over draws every
field has the draws first.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

NEVER = 1e6
"""Day of an event that did not happen."""
NADIR_DAYS = 28
"""Days of cycle 1 in the trial: where the first nadir is looked for, whatever the cycle, so that schedules compare."""
WINDOW_DAYS = 168
"""Days over which days of neutropenia are counted: six cycles of 28 days."""
SEVERE, OTHER = 0, 1
"""Index of an infection: grade >= 3, or grade 1 to 2."""


class History(NamedTuple):
    """What a patient's record would hold. Shape ``patients``.

    Infections are recorded as they come, also after treatment: cut them 28 days after ``stop``, at ``cutoff`` and at
    ``death`` to have what a trial collects (inference.trial.ArmData.observed).
    """

    cutoff: Float[Array, "patients"]
    """End of all follow-up: data cutoff, or the horizon of a prediction."""
    lost: Float[Array, "patients"]
    """End of progression follow-up for other reasons; NEVER in a prediction."""
    progression: Float[Array, "patients"]
    death: Float[Array, "patients"]
    stop: Float[Array, "patients"]
    """End of treatment: progression, death or another reason; not data cutoff."""
    drug_stop: Float[Array, "patients"]
    """End of mezigdomide: end of treatment, or a hold beyond the maximum delay (Kd goes on)."""
    given: Float[Array, "patients"]
    """Dose taken, mg, on days that begin before the end of mezigdomide (``drug_stop``) and data cutoff."""
    planned: Float[Array, "patients"]
    """Dose planned originally over the same days, mg: ``given / planned`` is the relative dose intensity."""
    first_grade2: Float[Array, "patients"]
    """First scheduled count below 1.5 on treatment."""
    first_grade3: Float[Array, "patients"]
    """First scheduled count below 1.0 on treatment."""
    first_grade4: Float[Array, "patients"]
    """First count below 0.5 on treatment: scheduled, or weekly while on hold."""
    first_hold: Float[Array, "patients"]
    holds: Int[Array, "patients"]
    """Number of holds begun."""
    first_reduction: Float[Array, "patients"]
    """First reduction for neutropenia."""
    other_reduction: Float[Array, "patients"]
    """1 with a reduction for other causes."""
    first_febrile: Float[Array, "patients"]
    """First febrile neutropenia."""
    episode_days: Float[Array, "patients"]
    """Duration of the first finished episode of grade >= 3 neutropenia, days; NEVER where none."""
    severe: Float[Array, "patients"]
    """First severe infection (grade >= 3)."""
    any_infection: Float[Array, "patients"]
    """First infection of any grade."""
    concurrent: Float[Array, "patients"]
    """First infection, of any grade, concurrent with a count below 1.0."""
    grade4: Float[Array, "patients"]
    """1 where the first severe infection is (or would be) of grade 4."""
    fatal: Float[Array, "patients"]
    """1 where it is the patient's death. Only before progression: deaths after it are one cause."""
    nadir_cycle1: Float[Array, "patients"]
    """Lowest latent ANC, 10^9/L, at the starts of the first NADIR_DAYS days."""
    nadir: Float[Array, "patients"]
    """Lowest latent ANC, 10^9/L, at the starts of days on treatment and up to 28 days after."""
    anc_day28: Float[Array, "patients"]
    """Latent ANC, 10^9/L, at the start of study day 28 (27 days after the first dose), whether on treatment or not."""
    days_below_1: Float[Array, "patients"]
    """Days with a latent ANC below 1.0 among ``days_counted``."""
    days_below_half: Float[Array, "patients"]
    """Days with a latent ANC below 0.5 among ``days_counted``."""
    days_counted: Float[Array, "patients"]
    """Days on treatment, up to 28 days after it and before ``cutoff``, among the first WINDOW_DAYS."""
    gcsf_days: Float[Array, "patients"]
    """Days on which G-CSF was given."""


class Record(NamedTuple):
    """The course behind a history, week by week (study day 1 of week w is t = 7 w days)."""

    anc: Float[Array, "weeks 7 patients"]
    """Latent ANC at the start of each day, 10^9/L. Goes on after treatment, cutoff and death: cut it."""
    arrest: Float[Array, "weeks 7 patients"]
    """Arrest A of the maturation step at the start of each day, share of 1."""
    dose: Float[Array, "weeks 7 patients"]
    """Dose at the start of each day, mg, that drives the course. The rest of the week in which mezigdomide or follow-up
    ends is still in it: cut it at ``drug_stop`` and ``cutoff``."""
    gcsf: Float[Array, "weeks 7 patients"]
    """1 on days with G-CSF."""
    on: Bool[Array, "weeks patients"]
    """On treatment (Kd at least) and before cutoff on day 1 of the week."""
    count: Float[Array, "weeks patients"]
    """Observed ANC on day 1 of the week, 10^9/L: scheduled, or weekly while on hold; NaN where none was taken."""
    unscheduled: Bool[Array, "weeks patients"]
    """Whether that count was taken only because the drug is on hold."""
    held: Bool[Array, "weeks patients"]
    """On hold after the count of the week's first day."""
    level: Int[Array, "weeks patients"]
    """Dose level from the week's first day on: 0 planned, then the next lower levels."""
    episode_start: Bool[Array, "weeks patients"]
    """An episode of grade >= 3 neutropenia begins with the count of day 1."""
    febrile: Bool[Array, "weeks patients"]
    """It is febrile neutropenia."""
    episode_end: Float[Array, "weeks patients"]
    """Day within the week on which the running episode ends (first count of at least 1.0 after it); NEVER where none
    does. At most one episode begins and one ends in a week."""
    infection: Float[Array, "weeks 2 patients"]
    """Day within the week of an infection, by SEVERE and OTHER, first and later ones: at most one of each kind a week.
    Cut at death, at cutoff and 28 days after the end of treatment; NEVER where none."""
    infection_grade: Int[Array, "weeks 2 patients"]
    """5 (the patient's death), 4 or 3 where severe; else 2, which stands for grades 1 and 2. 0 where none. Only the
    first severe infection can be fatal."""
    infection_days: Float[Array, "weeks 2 patients"]
    """Duration, days: an assumption (log-normal, medians 8 and 14 days); a fatal infection lasts until death. 0 where none."""
    infection_concurrent: Bool[Array, "weeks 2 patients"]
    """Whether a count on its day would be below 1.0."""


class Realised(NamedTuple):
    """A dosing ledger to replay instead of rules: what each patient took, day by day."""

    dose: Float[Array, "weeks 7 patients"]
    """Dose at the start of each day, mg."""
    gcsf: Float[Array, "weeks 7 patients"]
    """1 on days with G-CSF."""
