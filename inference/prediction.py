"""Scenarios under posterior draws: patients simulated one by one, each draw reduced to its outcomes at once.

All scenarios of a draw share its parameters, its patients and their luck (common random numbers), so differences between
scenarios are differences within patients. Patients are drawn anew for every draw. They are two independent halves of one
composition, from which monte_carlo.py learns the noise of finitely many patients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model import exact
from mezikd.model.gcsf import support_draws
from mezikd.model.parameters import Parameter, natural
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import DRUG_AND_GCSF, Plan, plan_of
from mezikd.model.regimen import DAYS_PER_MONTH
from mezikd.model.scenario import Scenario

from .monte_carlo import Estimates
from .prediction_outcomes import Key, Patients, exists, outcomes
from .scenario_settings import Prediction
from .scenarios import CONTROL, NamedScenario
from .trial import simulator

BATCH = 16
"""Draws simulated at once, at most: more take more memory and are not faster."""
CORES = 2
Outcomes = dict[Key, Estimates]
Theta = Mapping[str, np.ndarray]
"""Parameters in natural units, one value a draw."""


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


def weeks_of(months: int) -> int:
    """Return the weeks that cover ``months`` months."""
    return math.ceil(months * DAYS_PER_MONTH / 7.0)


def batch_size(draws: int) -> int:
    """Return how many of ``draws`` draws are simulated at once: at most BATCH, so that all cores are busy to the end."""
    return math.ceil(draws / (CORES * math.ceil(draws / (CORES * BATCH))))


class Simulator:
    """Simulates scenarios under rows of coordinates; one compiled program for all of them."""

    def __init__(self, theta: Theta, form: exact.Form, settings: Prediction):
        self._settings, self._theta, self.draws = settings, theta, len(next(iter(theta.values())))
        self._form, self._simulate = form, simulator(form)

    def batch(self, begin: int, first: int = 0) -> "Batch":
        """Return the batch of draws from ``begin`` on.

        ``first`` is the number of the first draw: it decides patients and luck.
        """
        s, size = self._settings, batch_size(self.draws)
        # A last batch of another size would be compiled anew: it is filled up, and its surplus left out of the results.
        at = np.minimum(np.arange(begin, begin + size), self.draws - 1)
        theta = {k: jnp.asarray(v[at]) for k, v in self._theta.items()}
        at = at + first
        theta |= {k: jnp.asarray(v[at]) for k, v in support_draws(s.seed, first + self.draws).items()}
        effects = [np.random.default_rng([s.seed, 41, d]).standard_normal((len(EFFECTS), s.patients)) for d in at]
        root = jax.random.key(s.seed)
        keys = jax.vmap(lambda d: jax.random.fold_in(jax.random.fold_in(root, 41), d))(jnp.asarray(at))
        return Batch(theta, np.stack(effects), keys, min(size, self.draws - begin))

    def histories(self, batch: "Batch", plan: Plan, region: np.ndarray) -> exact.History:
        """Return the histories of one scenario; numpy arrays, shape ``(draws, patients)``.

        Raises ``ValueError`` where the plan gives G-CSF and the program was compiled without.
        """
        if plan.mode == DRUG_AND_GCSF and not self._form.gcsf:
            raise ValueError("a plan with G-CSF in a program without it")
        out = self._simulate(exact.Batch(batch.theta, batch.effects, region, batch.keys), plan)
        return jax.tree.map(lambda x: np.asarray(x)[: batch.size], out)


@dataclass(frozen=True)
class Batch:
    """Some posterior draws with their patients' effects and luck."""

    theta: Mapping[str, jax.Array]
    effects: np.ndarray
    """Shape ``(draws, effects, patients)``."""
    keys: jax.Array
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
    simulator = Simulator(theta, form, settings)
    horizon, weeks = settings.horizon_months, weeks_of(settings.horizon_months)
    plans = {s.name: plan_of(s.scenario, weeks) for s in scenarios}
    controls = {s.regions: control_of(s) for s in scenarios}
    control_plan = plan_of(next(iter(controls.values())).scenario, weeks)
    shown = controls[next(s.regions for s in scenarios if s.name == reference)]

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

    # Compiled once, before two threads ask for it.
    simulator.histories(simulator.batch(0), control_plan, two_halves(shown.regions, settings.patients))
    with ThreadPoolExecutor(CORES) as pool:
        batches = list(pool.map(one_batch, range(0, simulator.draws, batch_size(simulator.draws))))
    return Predicted((*scenarios, shown), _joined(batches))


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


def steps(scenarios: tuple[NamedScenario, ...], draws: int) -> int:
    """Return how often ``predict`` reports progress."""
    return math.ceil(draws / batch_size(draws)) * (len(scenarios) + len({s.regions for s in scenarios}))
