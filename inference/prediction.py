"""Scenarios under posterior draws: patients simulated one by one, each draw reduced to its outcomes at once.

All scenarios of a draw share its parameters, its patients and their luck (common random numbers), so differences between
scenarios are differences within patients. Patients are drawn anew for every draw. They are two independent halves of one
composition, from which monte_carlo.py learns the noise of finitely many patients.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
from mezikd.model import exact
from mezikd.model.chance import keys_of
from mezikd.model.gcsf import support_draws
from mezikd.model.parameters import Parameter, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import DRUG_AND_GCSF, Plan, plan_of
from mezikd.model.scenario import Scenario

from .monte_carlo import Estimates
from .prediction_outcomes import Key, Patients, exists, outcomes
from .programs import BATCH, program, weeks_of
from .scenario_settings import Prediction
from .scenarios import CONTROL, NamedScenario

CORES = 2
Outcomes = dict[Key, Estimates]
Theta = Mapping[str, np.ndarray]
"""Parameters in natural units, one value a draw; STRUCTURE as well where a program serves several."""
STRUCTURE = "structure"
"""Number of each draw's neutrophil structure among those of the program; draws of one structure follow each other."""


@dataclass(frozen=True)
class Predicted:
    """Outcomes of every scenario in every draw."""

    scenarios: tuple[NamedScenario, ...]
    """With the control arm last."""
    outcomes: Mapping[str, Outcomes]
    """By name of the scenario."""


def allocated(shares: tuple[float, ...], patients: int) -> np.ndarray:
    """Return the regions of ``patients`` patients in these shares, largest remainders first; shape ``patients``."""
    exact = np.asarray(shares) * patients / sum(shares)
    count = np.floor(exact + 1e-9).astype(int)
    most = np.argsort(-(exact - count), kind="stable")[: patients - count.sum()]
    count[most] += 1
    return np.repeat(np.arange(len(count)), count)


def two_halves(shares: tuple[float, ...], patients: int) -> np.ndarray:
    """Return the regions of two halves of one composition."""
    return np.tile(allocated(shares, patients // 2), 2)


def control_of(scenario: NamedScenario) -> NamedScenario:
    """Return Kd for the patients of ``scenario``."""
    return NamedScenario(CONTROL, Scenario(regimen=scenario.scenario.regimen, arm="kd"), scenario.regions)


def structures_of(theta: Theta) -> np.ndarray:
    """Return the number of each draw's structure."""
    return np.asarray(theta.get(STRUCTURE, np.zeros(len(next(iter(theta.values()))), int)))


class Simulator:
    """Simulates scenarios under rows of coordinates; one compiled program for all of them."""

    def __init__(self, theta: Theta, form: exact.Form, settings: Prediction):
        self._settings, self._structures = settings, structures_of(theta)
        self._theta = {k: v for k, v in theta.items() if k != STRUCTURE}
        self._form = form

    def batch(self, begin: int, first: int = 0) -> "Batch":
        """Return the batch of draws from ``begin`` on.

        ``first`` is the number of the first draw: it decides patients and luck.
        """
        s, structure = self._settings, self._structures[begin]
        end = int(np.searchsorted(self._structures, structure, "right"))
        # A last batch of another size would be compiled anew: it is filled up, and its surplus left out of the results.
        at = np.minimum(np.arange(begin, begin + BATCH), end - 1)
        theta = {k: np.ascontiguousarray(v[at]) for k, v in self._theta.items()}
        at = at + first
        theta |= {k: np.asarray(v)[at] for k, v in support_draws(s.seed, first + len(self._structures)).items()}
        effects = [np.random.default_rng([s.seed, 41, d]).standard_normal((len(EFFECTS), s.patients)) for d in at]
        keys = keys_of(s.seed, 41, at)
        return Batch(theta, np.stack(effects), keys, np.asarray(structure, np.int32), min(BATCH, end - begin))

    def histories(self, batch: "Batch", plan: Plan, region: np.ndarray) -> exact.History:
        """Return the histories of one scenario; numpy arrays, shape ``(draws, patients)``."""
        asked = exact.Batch(batch.theta, batch.effects, region, batch.keys, structure=batch.structure)
        out = program(self._form, asked, plan)(asked, plan)
        return jax.tree.map(lambda x: np.asarray(x)[: batch.size], out)


@dataclass(frozen=True)
class Batch:
    """Some posterior draws with their patients' effects and luck."""

    theta: Theta
    effects: np.ndarray
    """Shape ``(draws, effects, patients)``."""
    keys: jax.Array
    structure: np.ndarray
    """Number of the neutrophil structure."""
    size: int
    """Draws that count; the rest fills the batch up."""


def _estimates(patients: Patients, control: Patients | None) -> Outcomes:
    n = patients.pfs_months.shape[-1]
    parts = [slice(None), slice(0, n // 2), slice(n // 2, None)]
    values = [dict(outcomes(patients.part(part), None if control is None else control.part(part))) for part in parts]
    return {key: Estimates(*(v[key] for v in values)) for key in values[0]}


def theta_of(z: np.ndarray, parameters: tuple[Parameter, ...]) -> Theta:
    """Return the parameters in natural units under each row of coordinates, what a structure may leave out included."""
    theta = natural(np.asarray(z), parameters)
    return {"tumour_memory": np.ones(len(z))} | {k: np.broadcast_to(v, len(z)) for k, v in theta.items()}


def batch_predictor(
    theta: Theta,
    form: exact.Form,
    scenarios: tuple[NamedScenario, ...],
    reference: str,
    settings: Prediction,
    first: int = 0,
    done: Callable[[], None] = lambda: None,
) -> Callable[[int], dict[str, Outcomes]]:
    """Return the function that gives the outcomes of ``scenarios`` and of Kd in the batch of draws from one on; compiled.

    As ``predict``; ``done`` is called after each scenario.
    """
    horizon, weeks = settings.horizon_months, weeks_of(settings.horizon_months)
    plans = {s.name: plan_of(s.scenario, weeks) for s in scenarios}
    simulator = Simulator(theta, form._replace(gcsf=any(p.mode == DRUG_AND_GCSF for p in plans.values())), settings)
    controls = _controls(scenarios)
    control_plan = plan_of(next(iter(controls.values())).scenario, weeks)
    shown = _shown(scenarios, reference)

    def one_batch(begin: int) -> dict[str, Outcomes]:
        batch, out = simulator.batch(begin, first), {}

        def simulated(plan: Plan, regions: tuple[float, ...]) -> Patients:
            region = two_halves(regions, settings.patients)
            patients = Patients(simulator.histories(batch, plan, region), horizon)
            done()
            return patients

        on_kd = {regions: simulated(control_plan, regions) for regions in controls}
        for s in scenarios:
            found = _estimates(simulated(plans[s.name], s.regions), on_kd[s.regions])
            out[s.name] = {k: v for k, v in found.items() if exists(k, True, s.scenario.rdi is None)}
        found = _estimates(on_kd[shown.regions], None)
        out[CONTROL] = {k: v for k, v in found.items() if exists(k, False, False)}
        return out

    return one_batch


def predict(
    theta: Theta,
    form: exact.Form,
    scenarios: tuple[NamedScenario, ...],
    reference: str,
    settings: Prediction,
    done: Callable[[], None] = lambda: None,
    first: int = 0,
) -> Predicted:
    """Return the outcomes of ``scenarios`` and of Kd under each draw of the parameters (``theta_of``).

    The control arm of a scenario has its region mix; the one that is reported has the ``reference``'s. ``done`` is called
    after each scenario of a batch: ``steps`` times. Results depend on the seed alone, not on batches or threads; draws are
    numbered from ``first``, each with its own patients and luck.
    """
    one_batch = batch_predictor(theta, form, scenarios, reference, settings, first, done)
    with ThreadPoolExecutor(CORES) as pool:
        return of_batches(list(pool.map(one_batch, batches(theta))), scenarios, reference)


def batches(theta: Theta) -> list[int]:
    """Return where the batches of draws begin."""
    draws = np.bincount(structures_of(theta))
    ends = np.cumsum(draws)
    return [b for end, n in zip(ends, draws, strict=True) for b in range(int(end - n), int(end), BATCH)]


def of_batches(
    parts: Sequence[Mapping[str, Outcomes]], scenarios: tuple[NamedScenario, ...], reference: str
) -> Predicted:
    """Return the outcomes of all draws from those of the batches, in their order."""
    return Predicted((*scenarios, _shown(scenarios, reference)), _joined(parts))


def _shown(scenarios: tuple[NamedScenario, ...], reference: str) -> NamedScenario:
    """Return the control arm that is reported: that of the reference's patients."""
    return _controls(scenarios)[next(s.regions for s in scenarios if s.name == reference)]


def _controls(scenarios: tuple[NamedScenario, ...]) -> dict[tuple[float, ...], NamedScenario]:
    """Return the control arms by their patients."""
    return {s.regions: control_of(s) for s in scenarios}


def _joined(parts: Sequence[Mapping[str, Outcomes]]) -> dict[str, Outcomes]:
    """Return the outcomes of all draws from those of some at a time."""
    return {
        name: {
            key: Estimates(*(np.concatenate(x) for x in zip(*(p[name][key] for p in parts), strict=True)))
            for key in keys
        }
        for name, keys in parts[0].items()
    }


def together(parts: Sequence[Predicted]) -> Predicted:
    """Return predictions of several structures as those of one mixture, draws one after the other."""
    return Predicted(parts[0].scenarios, _joined([p.outcomes for p in parts]))


def steps(scenarios: tuple[NamedScenario, ...], theta: Theta) -> int:
    """Return how often ``predict`` reports progress."""
    return len(batches(theta)) * (len(scenarios) + len({s.regions for s in scenarios}))
