"""One patient of a fit with concentrations after the end of its data: the course of counts under further doses.

The patient's own dosing records are continued by the proposed doses, and the mesh and the course of the likelihood
(within_day.py) are followed at the draws of the patient's own parameters. Counts are read once a day.

Where exposures are given instead of PK, those to come are in proportion to dose: dose x the patient's mean exposure of a unit of
AMT, for an interval after each dose, and 0 in intervals without one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from mezikd.model.dosing_events import DOSE, OBSERVATION, OTHER, Dose, Records, doses
from mezikd.model.population import Information
from mezikd.model.regimen import DAYS_PER_MONTH
from scipy.stats import norm

from .errors import input_error
from .patient_data import HOURS_PER_DAY, OBSERVABLES, PatientData
from .patient_problem import covariates_of, steps_of
from .patient_regimen import NO_DOSE, THRESHOLDS, Forecast, Predicted, Proposal, dose_name, is_on
from .patient_settings import PatientFit
from .patient_target import Inputs, Observed, PatientTarget, repeated

HIGHEST = 10.0
"""Times the largest dose of the data: above, a unit is likely to be mistaken."""


def predict_friberg(
    tree: xr.DataTree, tables: PatientData, settings: PatientFit, p: Proposal, draws: np.ndarray
) -> Predicted:
    """Return the forecast of a patient under the proposal and without any further dose.

    Doses are given at the interval of the patient's last two doses (once a day where there was one dose), into the same
    compartment, infusions over the same time; a dose is due an interval after the last one, or when the data end.

    Raises
    ------
    InputError: no counts were fitted, the patient has no dose (or no exposure at its doses, where exposures are given), its times
    go back, or a dose out of range.
    """
    i = tables.ids.index(p.patient)
    r = tables.records[i]
    o = tables.observations
    if not (o["observable"] == "anc").any():
        raise input_error("--patient", "no counts were fitted", "name a fit with counts")
    given = doses(r)
    if not given or np.any(np.diff(r.time) < 0):
        why = "has times that go back" if given else "has no dose"
        remedy = "name another patient"
        if not given and settings.model.exposure is not None:
            remedy += (
                f", or fit with its doses in the table: {settings.model.exposure} of further ones follows from them"
            )
        raise input_error("--patient", f"{p.patient} {why}", remedy)
    last = max(given, key=lambda d: d.time)
    largest = max(float(np.max(x.amt, initial=0.0)) for x in tables.records)
    dose = last.amount if p.dose is None else p.dose
    if not 0.0 < dose <= HIGHEST * largest:
        allowed = f"above 0 and at most {HIGHEST * largest:g}, {HIGHEST:g} times the largest dose of the data"
        raise input_error(
            "--dose", f"value {dose:g} is not allowed", "give it in the unit of AMT of the data", allowed=allowed
        )
    times = np.unique([d.time for d in given])
    interval = float(times[-1] - times[-2]) if len(times) > 1 else HOURS_PER_DAY
    now = max(float(tables.follow_up()[i]) * HOURS_PER_DAY, last.time)
    begin = max(now, last.time + interval)
    end = now + HOURS_PER_DAY * DAYS_PER_MONTH * p.months
    slots = np.arange(begin, end, interval)
    on = is_on(p, (slots - begin) // HOURS_PER_DAY)
    grid = np.concatenate([np.arange(float(r.time[0]), now, HOURS_PER_DAY), np.arange(now, end + 1e-6, HOURS_PER_DAY)])
    every = "" if interval == HOURS_PER_DAY else f" every {interval:g} h"
    new = not np.isclose([d.amount for d in given], dose * p.rdi).any()
    own, sd = _parameters(tree, tables, settings, i, draws)
    notes = (
        f"Doses every {interval:g} h, as the patient's last two, times RDI, from day {begin / HOURS_PER_DAY:.1f} on; "
        "low counts hold or reduce nothing here.",
        "This model has no infection and no progression: nothing is predicted of them.",
    )
    if r.level is None:
        due = slots[on]
        both = [continued(r, at, dose * p.rdi, grid, last.duration, int(r.cmt[last.row])) for at in (due, due[:0])]
    else:
        unit = exposure_of_a_unit(r, given)
        if unit == 0.0:
            raise input_error(
                "--patient", f"{p.patient} has {settings.model.exposure} 0 at its doses: that of further ones is not known",
                "name another patient, or fit with a table that has it in their rows",
            )  # fmt: skip
        both = [driven_on(r, slots, level, grid) for level in (dose * p.rdi * unit * on, 0.0 * on)]
        notes += (
            f"Exposure ({settings.model.exposure}) to come is in proportion to dose: {unit:.4g} a unit of AMT, this patient's mean at its "
            f"doses, for {interval:g} h after each dose, and 0 in intervals without one; it neither builds up nor washes out.",
        )
    courses = _courses(settings, tables, both, own, len(draws))
    names = dose_name(p, dose, "(unit of AMT)", every), NO_DOSE
    forecasts = []
    for name, anc, unknown in zip(names, courses, (new, False), strict=True):
        z = np.random.default_rng([p.seed, 43]).standard_normal(anc.shape)
        scale = sd[:, None] * (anc if settings.residual.anc.error == "proportional" else 1.0)
        if settings.residual.anc.error == "lognormal":
            count, below = anc * np.exp(scale * z), {t: norm.cdf(np.log(t / anc) / scale) for t in THRESHOLDS}
        else:
            count, below = anc + scale * z, {t: norm.cdf((t - anc) / scale) for t in THRESHOLDS}
        forecasts.append(Forecast(name, grid / HOURS_PER_DAY, anc, below, count, unknown))
    mine = o[(o["patient"] == i) & (o["observable"] == "anc")]
    seen = np.stack([np.asarray(mine[name], float) for name in ("time", "value")]) / [[HOURS_PER_DAY], [1.0]]
    followed = float(tables.follow_up().max())
    return Predicted(p, now / HOURS_PER_DAY, followed, tuple(forecasts), seen, "unit of AMT", notes)


def continued(r: Records, times: np.ndarray, dose: float, grid: np.ndarray, duration: float, cmt: int) -> Records:
    """Return the dosing records of ``r`` with further doses at ``times`` and an observation at each time of ``grid``.

    At equal times an observation comes before a dose.
    """
    kept = np.flatnonzero(np.asarray(r.evid) != OBSERVATION)
    old = {c: np.asarray(getattr(r, c), float)[kept] for c in r.__dataclass_fields__ if c != "level"}
    m, g = len(times), len(grid)
    new = {
        "time": np.concatenate([grid, times]), "evid": np.repeat([float(OBSERVATION), float(DOSE)], [g, m]),
        "cmt": np.full(g + m, float(cmt)), "amt": np.repeat([0.0, dose], [g, m]),
        "rate": np.repeat([0.0, dose / duration if duration > 0.0 else 0.0], [g, m]),
    }  # fmt: skip
    whole = {c: np.concatenate([new.get(c, np.zeros(g + m))[:g], v, new.get(c, np.zeros(g + m))[g:]]) for c, v in old.items()}  # fmt: skip
    order = np.argsort(whole["time"], kind="stable")
    return Records(**{c: v[order] for c, v in whole.items()})


def exposure_of_a_unit(r: Records, given: list[Dose]) -> float:
    """Return the exposures that stand at the times of the doses ``given``, over their amounts: the mean of a unit of AMT.

    Doses with exposure 0 tell nothing; 0 where there is no other.
    """
    assert r.level is not None
    level = r.level[np.searchsorted(r.time, [d.time for d in given], side="right") - 1]
    amount = np.array([d.amount for d in given])[level > 0.0]
    return float(level.sum() / amount.sum()) if len(amount) else 0.0


def driven_on(r: Records, times: np.ndarray, level: np.ndarray, grid: np.ndarray) -> Records:
    """Return the exposures of ``r``, further ones from ``times`` on, and an observation at each time of ``grid``."""
    time = np.concatenate([r.time, grid, times])
    evid = np.repeat([OTHER, OBSERVATION, OTHER], [len(r.time), len(grid), len(times)])
    order, zero = np.argsort(time, kind="stable"), np.zeros(len(time))
    known = pd.Series(np.concatenate([np.asarray(r.level), np.full(len(grid), np.nan), level])[order])
    return Records(time[order], evid[order], zero, zero, zero, zero, zero, zero, known.ffill().to_numpy())


def _parameters(
    tree: xr.DataTree, tables: PatientData, settings: PatientFit, i: int, draws: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the patient's parameters and the SD of the error of counts in each draw, ``draws``."""
    own = tree["posterior"].to_dataset()

    def drawn(name: str) -> np.ndarray:
        return own[name].to_numpy().reshape(-1)[draws]

    found, known = {}, covariates_of(settings, tables)
    for n, p in settings.parameters.items():
        if p.individual:
            found[n] = own[f"patient_{n}"].to_numpy()[..., i].reshape(-1)[draws]
            continue
        found[n] = np.ones(len(draws)) if n in settings.given else drawn(n)
        for t in p.terms:
            coefficient = drawn(t.coefficient(n)) if t.spread else t.centre
            found[n] = found[n] * np.exp(coefficient * known[f"{n} {t.key}"][i])
    return found, drawn("error_anc")


def _courses(
    settings: PatientFit, tables: PatientData, records: list[Records], p: dict[str, np.ndarray], n: int
) -> np.ndarray:
    """Return ANC at the observations of each of ``records`` under ``n`` draws of ``p``: ``records draws observations``."""
    steps, read = steps_of(settings, tables, records)
    kinds = tuple(o for o in OBSERVABLES if (tables.observations["observable"] == o).any())
    target = PatientTarget(settings, n * len(records), kinds, bool(np.any(steps.rate)))
    blank = np.ones_like(read.elapsed)
    none = Information(np.zeros((1, 0, 0)), np.zeros((1, 0)))
    # All records under the first draw, then all under the next.
    data = repeated(Inputs(steps, {"anc": Observed(read, blank, blank, blank)}, {}, none), n)
    wide = {k: jnp.asarray(np.repeat(v, len(records))) for k, v in p.items()}
    found = np.asarray(jax.jit(lambda p, data: target.predictions(p, data)["anc"])(wide, data))
    return np.moveaxis(found.reshape(n, len(records), -1), 1, 0)
