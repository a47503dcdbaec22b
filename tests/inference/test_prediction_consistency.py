"""The fitted scenario predicts what trials simulated for the check show, where both estimate the same thing.

A trial follows patients for about 11 months and a prediction to its horizon, so events are compared within 3 months, which
nearly all patients of a trial reach, and survival by the Kaplan-Meier estimate of the trials' patients.
"""

import numpy as np
import pytest
from mezikd.inference.estimators import kaplan_meier
from mezikd.inference.figures_course import thinned
from mezikd.inference.places import built_in_fit, find_posterior
from mezikd.inference.posterior_file import load
from mezikd.inference.predict import fitted_of
from mezikd.inference.prediction import STRUCTURE, Simulator, batches, predict, theta_of
from mezikd.inference.prediction_outcomes import NEUTROPENIA, PFS, SEVERE, Key
from mezikd.inference.programs import BATCH
from mezikd.inference.scenario_settings import Prediction
from mezikd.inference.scenarios import CONTROL, NamedScenario
from mezikd.inference.trial import simulated_trials
from mezikd.model.exact import Form, form_of
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario

DRAWS, PATIENTS = 32, 512


@pytest.fixture(scope="module")
def both():
    """Trials of the real size and the prediction of the fitted scenario, for the same draws."""
    tree, problem = load(find_posterior(built_in_fit()))
    z, design, fitted = thinned(tree, DRAWS), problem.target.design, fitted_of(problem)
    trials = [trial for trial, _ in simulated_trials(z, problem.parameters, design, 1)]
    scenario = NamedScenario("fitted", Scenario(regimen=design.regimen), fitted.regions)
    settings = Prediction(horizon_months=6, patients=PATIENTS, draws=DRAWS)
    predicted = predict(theta_of(z, problem.parameters), form_of(design), (scenario,), "fitted", settings)
    return trials, predicted


def share(trials, arm: str, field: str, month: float) -> float:
    """Return the share of the trials' treated patients with a recorded event by ``month``, percent."""
    found = []
    for trial in trials:
        data = trial[arm]
        day = getattr(data.history, field)
        recorded = data.observed(day) & (day <= month * DAYS_PER_MONTH)
        found.append(recorded[data.treated].mean())
    return 100.0 * float(np.mean(found))


EVENTS = [
    ("fitted", "mezikd", NEUTROPENIA, "first_grade3"),
    ("fitted", "mezikd", "neutropenia grade 4", "first_grade4"),
    ("fitted", "mezikd", "febrile neutropenia", "first_febrile"),
    ("fitted", "mezikd", SEVERE, "severe"),
    ("fitted", "mezikd", "infection with neutropenia", "concurrent"),
    (CONTROL, "kd", NEUTROPENIA, "first_grade3"),
    (CONTROL, "kd", SEVERE, "severe"),
]


@pytest.mark.parametrize(("scenario", "arm", "outcome", "field"), EVENTS)
def test_shares_within_three_months(both, scenario, arm, outcome, field):
    """Within 3 standard errors of both simulations, and half a point for the few patients with less follow-up."""
    trials, predicted = both
    ours = float(predicted.outcomes[scenario][Key(outcome, 3)].full.mean())
    theirs = share(trials, arm, field, 3)
    p = theirs / 100.0
    size = sum(t[arm].treated.sum() for t in trials)
    error = 100.0 * np.sqrt(max(p * (1 - p), 0.01) * (1.0 / size + 1.0 / (DRAWS * PATIENTS)))
    assert abs(ours - theirs) < 3.0 * error + 0.5, (ours, theirs, error)


@pytest.mark.parametrize(("scenario", "arm"), [("fitted", "mezikd"), (CONTROL, "kd")])
def test_progression_free_at_six_months(both, scenario, arm):
    trials, predicted = both
    pairs = [trial[arm].time_to_event("pfs") for trial in trials]
    time, event = (np.concatenate(x) for x in zip(*pairs, strict=True))
    times, survival = kaplan_meier(time, event)
    theirs = 100.0 * float(survival[np.searchsorted(times, 6.0) - 1])
    ours = float(predicted.outcomes[scenario][Key(PFS, 6)].full.mean())
    error = 100.0 * np.sqrt(0.25 * (1.0 / len(time) + 1.0 / (DRAWS * PATIENTS)))
    # Kd is predicted for the mezigdomide arm's regions, which do not act on progression.
    assert abs(ours - theirs) < 3.0 * error, (ours, theirs, error)


def test_every_draw_is_in_one_batch():
    """23 draws of two structures: each once, in order, the fillings left out."""
    structure = np.repeat([0, 1], [13, 10])
    theta = {"ec50": np.linspace(0.1, 0.9, 23), STRUCTURE: structure}
    simulator = Simulator(theta, Form(("arrest", "friberg")), Prediction(patients=64, draws=23))
    found = [simulator.batch(begin) for begin in batches(theta)]
    assert [b.size for b in found] == [BATCH, 3, BATCH] and {len(b.effects) for b in found} == {BATCH}
    np.testing.assert_array_equal(np.concatenate([b.theta["ec50"][: b.size] for b in found]), theta["ec50"])
    np.testing.assert_array_equal(np.concatenate([np.repeat(b.structure, b.size) for b in found]), structure)
    effects = np.concatenate([b.effects[: b.size] for b in found])
    assert len(np.unique(effects[:, 0, 0])) == 23
