"""One patient of a fit of the arrest model after the end of its data: counts, first severe infection, progression.

The daily doses of the patient are continued by the proposed ones; the course and its event probabilities are those of the
likelihood (delivered.py), at the draws of the patient's own parameters. With H(t) the cumulative hazard of infection and v its
frailty's variance, what is known until ``now`` enters as

    P(no infection until t | none until now) = [(1 + v H(t)) / (1 + v H(now))]^(-1/v)
    P(no progression until t | none until now) = S(t) / S(now)
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from mezikd.model.delivered import Ledger, event_free
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.structures import STRUCTURES
from scipy.stats import norm

from .arrest_problem import WEEK, build, daily_doses
from .arrest_settings import ArrestFit
from .arrest_target import GIVEN, ArrestInputs, ArrestTarget, Lanes
from .errors import input_error
from .patient_data import BY_RECORD, PatientData
from .patient_regimen import NO_DOSE, THRESHOLDS, Forecast, Predicted, Proposal, dose_name, is_on
from .recorded_events import BEYOND, event
from .scenario_settings import DOSE, HIGHEST_DOSE_MG


def predict_arrest(
    posterior: Path, tree: xr.DataTree, tables: PatientData, settings: ArrestFit, p: Proposal, draws: np.ndarray
) -> Predicted:
    """Return the forecast of a patient under the proposal and without any further dose.

    Parameters
    ----------
    draws: which of the posterior's draws, all chains in one row.

    Raises
    ------
    InputError: the patient has died, or no dose is given and it never took one.
    """
    i = tables.ids.index(p.patient)
    _, inputs = build(posterior.parent, settings, tables)
    death, died = event(tables, "death")
    if died[i] > 0:
        raise input_error("--patient", f"{p.patient} died on day {death[i]:.0f}", "name a patient that is alive")
    _, ended = event(tables, "end of treatment")
    given = inputs.ledger.dose[..., i].ravel()
    taken = daily_doses(tables, len(given))[:, i]
    taken = taken[taken > 0.0]
    dose = float(taken[-1]) if p.dose is None and len(taken) else p.dose
    if dose is None:
        raise input_error("--dose", f"missing, and patient {p.patient} took no dose", "give --dose")
    if dose > HIGHEST_DOSE_MG:
        raise input_error("--dose", f"value {dose:g} is not allowed", "give it in mg", allowed=DOSE)
    counts = np.asarray(inputs.counts.there[i]) > 0
    seen = np.stack([inputs.counts.day[i][counts], np.exp(inputs.counts.log_value[i][counts])])
    exposure = tables.exposure[tables.exposure["patient"] == i]
    recorded = (exposure["start"] + exposure["days"]).max() if len(exposure) else 0.0
    now = int(np.ceil(max(tables.follow_up()[i], recorded)))
    weeks = int((now + p.months * DAYS_PER_MONTH) // WEEK) + 1
    past = np.zeros(WEEK * weeks)
    past[: min(now, len(given))] = given[:now]
    future = dose * p.rdi * is_on(p, np.arange(WEEK * weeks) - now)
    stop = float(inputs.ledger.stop[i]) if ended[i] > 0 else float(now)
    infected, progressed = inputs.ledger.infected[i] > 0, inputs.ledger.progressed[i] > 0
    new = not len(taken) or not np.isclose(taken, dose * p.rdi).any()
    program, fatal_share = _program(ArrestTarget(settings, 1), tree, inputs, i, weeks, now, p.months, draws)
    forecasts = []
    for name, mg, end, unknown in (
        (dose_name(p, dose, "mg"), past + future, BEYOND, new),
        (NO_DOSE, past, stop, False),
    ):
        log_anc, sigma, infection, alone, living = map(np.asarray, program(jnp.asarray(mg.reshape(weeks, WEEK)), end))
        rng = np.random.default_rng([p.seed, 43])
        noise = sigma[:, None] * rng.standard_normal(log_anc.shape)
        below = {t: norm.cdf((np.log(t) - log_anc) / sigma[:, None]) for t in THRESHOLDS}
        first = np.zeros_like(infection) if infected else infection
        risks = {}
        if settings.model.infection and not infected:
            risks["severe_infection"] = infection
        if settings.model.progression and not progressed:
            fatal = fatal_share[:, None] * first if settings.model.infection else 0.0
            risks["progression_free"] = alone * living * (1.0 - fatal)
        days = np.arange(log_anc.shape[1])
        forecasts.append(Forecast(name, days, np.exp(log_anc), below, np.exp(log_anc + noise), unknown, risks))
    notes = [
        "Every planned dose is taken, times RDI: low counts hold or reduce nothing here. Day 1 of the first cycle is the first day "
        "after the data.",
        f"Given that no severe infection, progression or death came before day {now}. Progression-free: alive and without "
        "progression.",
    ]
    if BY_RECORD in tables.exposure and settings.exposure is not None and len(taken):
        mean = np.exp(inputs.covariates[GIVEN][i]) * settings.exposure.reference
        notes.append(
            f"Doses that were taken have the exposure of their record, those to come the patient's mean exposure of 1 mg: {mean:.4g}."
        )
    if infected:
        notes.append(
            "The patient has had a severe infection: the model knows the first one only, so none is predicted."
        )
    if progressed:
        notes.append("The patient's disease has progressed: nothing is predicted of progression.")
    if ended[i] > 0:
        notes.append(
            f"Treatment ended on day {stop:.0f}; the proposal takes it up again, and the time between is taken as a pause."
        )
    for key, on in (("infection", settings.model.infection), ("progression", settings.model.progression)):
        if not on:
            notes.append(f"Times to {key} were not fitted ({key} = false): nothing is predicted of them.")
    return Predicted(p, float(now), float(tables.follow_up().max()), tuple(forecasts), seen, "mg", tuple(notes))


def _program(
    one: ArrestTarget,
    tree: xr.DataTree,
    inputs: ArrestInputs,
    i: int,
    weeks: int,
    now: int,
    months: int,
    draws: np.ndarray,
) -> tuple[Callable, np.ndarray]:
    """Return the compiled course and probabilities of a patient, for any doses and end of treatment, and the fatal share.

    The function of (dose, ``weeks 7``; stop) returns log ANC ``draws days``, sigma ``draws``, and ``draws months``:
    probability of infection, of no progression, of no death by other causes.
    """
    x = tree["unconstrained_posterior"]["x"].to_numpy()
    x = x.reshape(-1, x.shape[-1])[draws, : one.shared_size]
    own = tree["posterior"].to_dataset()
    values = [np.log(own[f"patient_{e}"].to_numpy()[..., i].ravel()[draws]) for e in one.effects]
    region, drug, n = inputs.region[i : i + 1], inputs.drug[i : i + 1], len(draws)
    blank = Ledger(np.zeros((weeks, WEEK, 1)), *np.zeros((5, 1)))
    covariates = {name: x[i : i + 1] for name, x in inputs.covariates.items()}
    mine = inputs._replace(ledger=blank, region=region, drug=drug, covariates=covariates)

    def of_draw(x, values):
        theta = one.population(x)
        without = one.own(theta, jnp.zeros((1, len(one.effects))), mine)
        eta = values - jnp.log(jnp.concatenate([without[e] for e in one.effects]))
        lanes = Lanes(one.individuals(theta, eta[None], mine), one.rates(theta, mine))
        return lanes, theta["sigma_anc"], theta["death_rate"], theta["infection_fatal"]

    lanes, sigma, death, fatal = jax.jit(jax.vmap(of_draw))(jnp.asarray(x), jnp.asarray(np.stack(values, axis=1)))
    lanes = jax.tree.map(
        lambda a: a.reshape(-1) if a.ndim == 2 else jnp.moveaxis(a, 1, 0).reshape(a.shape[1], -1), lanes
    )
    at = now + DAYS_PER_MONTH * np.arange(months + 1)
    steps = one.settings.model.steps_per_day

    @jax.jit
    def run(dose, stop):
        doses = jnp.broadcast_to(dose[..., None], (weeks, WEEK, n))
        ledger = Ledger(doses, jnp.full(n, stop), *jnp.zeros((4, n)))
        log_blood, h, log_free = event_free(lanes.individuals, lanes.rates, ledger, STRUCTURES["arrest"], at, steps)
        v = lanes.rates.variance
        none = jnp.exp(-(jnp.log1p(v * h[1:]) - jnp.log1p(v * h[0])) / v)
        living = jnp.exp(-death[:, None] * jnp.arange(1.0, months + 1.0))
        log_anc = (lanes.individuals.log_anc0 + log_blood).T
        return log_anc, sigma, (1.0 - none).T, jnp.exp(log_free[1:] - log_free[0]).T, living

    return run, np.asarray(fatal)
