"""One virtual trial under one set of parameter values: every patient's history and day-by-day record, by arm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from mezikd.model.exact import Batch, form_of, simulate_batch
from mezikd.model.individuals import individuals
from mezikd.model.parameters import REGIONS, natural
from mezikd.model.patients import EFFECTS, Cohort
from mezikd.model.plan import plan_of
from mezikd.model.scenario import Scenario
from mezikd.model.trial_design import ARMS, Design

from .problem import Problem

DrawChoice = Literal["posterior-mean", "random"]


@dataclass(frozen=True)
class Order:
    """What is to be simulated."""

    patients: int
    """Of the mezigdomide arm; of the Kd arm where it is simulated alone."""
    arms: tuple[str, ...]
    scenario: Scenario
    """Of the mezigdomide arm."""
    region: str | None
    """The region of all patients; None: the trial's mix."""
    draw: DrawChoice
    seed: int


@dataclass(frozen=True)
class VirtualArm:
    """One arm; patients along the last axis, numpy arrays."""

    name: str
    scenario: Scenario
    region: np.ndarray
    """Index into REGIONS."""
    treated: np.ndarray
    person: Any
    """Individuals, as numpy arrays."""
    maturation: np.ndarray
    """Rate of maturation over the typical one."""
    sigma: float
    """Log SD of a count's error."""
    history: Any
    """History, as numpy arrays."""
    record: Any
    """Record, as numpy arrays."""

    @property
    def size(self) -> int:
        """The number of patients."""
        return len(self.region)

    @property
    def follow_up_end(self) -> np.ndarray:
        """Day on which the patient is last known of: death or data cutoff."""
        return np.minimum(self.history.death, self.history.cutoff)

    @property
    def treatment_end(self) -> np.ndarray:
        """Day of the end of treatment or data cutoff."""
        return np.minimum(self.history.stop, self.history.cutoff)

    @property
    def drug_end(self) -> np.ndarray:
        """Day before which mezigdomide was given or held: end of the drug, of treatment, or data cutoff."""
        return np.minimum(self.treatment_end, self.history.drug_stop)


@dataclass(frozen=True)
class VirtualTrial:
    """A simulated trial and what it came from."""

    arms: tuple[VirtualArm, ...]
    theta: dict[str, float]
    """Parameter values, in their own units: the truth of this trial."""
    draw: str
    """Which point of the posterior that is, in words."""
    order: Order
    fitted: Scenario
    """What the fit's trial gave."""

    @property
    def extrapolated(self) -> bool:
        """Whether the regimen or the mix of regions differs from what the reported numbers speak of."""
        other = "mezikd" in self.order.arms and self.order.scenario != self.fitted
        return other or self.order.region is not None


def apportioned(total: int, shares: tuple[int, ...]) -> np.ndarray:
    """Return ``total`` patients split by ``shares``: whole numbers, largest remainders first."""
    exact = total * np.asarray(shares, float) / sum(shares)
    out = np.floor(exact).astype(int)
    out[np.argsort(-(exact - out), kind="stable")[: total - out.sum()]] += 1
    return out


def _coordinates(z: np.ndarray, draw: DrawChoice, seed: int) -> tuple[np.ndarray, str]:
    """Return one point of the draws ``z`` (chain, draw, parameter) and what to call it."""
    if draw == "posterior-mean":
        text = "posterior mean of every parameter on the scale on which its prior is normal"
        return z.reshape(-1, z.shape[-1]).mean(axis=0), text
    chain, i = np.unravel_index(np.random.default_rng([seed, 11]).integers(z.shape[0] * z.shape[1]), z.shape[:2])
    return z[chain, i], f"posterior draw {i} of chain {chain}, chosen at random by the seed"


def _sizes(order: Order, design: Design, name: str) -> tuple[np.ndarray, int]:
    """Return the patients per region of an arm and how many of all are treated."""
    arm = design.arm(name)
    n = order.patients
    if name == "kd" and "mezikd" in order.arms:
        n = max(1, round(n * design.kd.randomised / design.mezikd.randomised))
    shares = arm.regions if order.region is None else tuple(int(r == order.region) for r in REGIONS)
    return apportioned(n, shares), max(1, round(n * arm.treated / arm.randomised))


def simulate_virtual_trial(z: np.ndarray, problem: Problem, order: Order) -> VirtualTrial:
    """Return one trial simulated from the posterior draws ``z``, shape ``(chain, draw, parameter)``.

    Follow-up, drop-out and data cutoff are those of the fitted trial; every chance comes from the seed.
    """
    point, told = _coordinates(z, order.draw, order.seed)
    return simulated_at(natural(jnp.asarray(point), problem.parameters), problem.target.design, order, told)


def simulated_at(theta: Mapping[str, Any], design: Design, order: Order, told: str) -> VirtualTrial:
    """Return one trial simulated at the parameters ``theta`` (natural units), which ``told`` names."""
    theta = {k: jnp.asarray(v, float) for k, v in theta.items()}
    root = jax.random.key(order.seed)
    arms = []
    for name in order.arms:
        i = ARMS.index(name)
        rng = np.random.default_rng([order.seed, 12, i])
        per_region, treated = _sizes(order, design, name)
        region = rng.permutation(np.repeat(np.arange(len(REGIONS)), per_region))
        n = len(region)
        effects = rng.standard_normal((len(EFFECTS), n))
        scenario = order.scenario if name == "mezikd" else Scenario(regimen=design.regimen, arm="kd")
        one = jax.tree.map(lambda x: x[None], theta)
        batch = Batch(one, effects[None], region, jax.random.fold_in(root, i)[None])
        plan = plan_of(scenario, design.horizon_weeks)
        history, record = simulate_batch(batch, plan, form_of(design, "trial", record=True))
        history, record = jax.tree.map(lambda x: np.asarray(x)[0], (history, record))
        person = individuals(theta, Cohort(effects, region, np.zeros(0)), design.structure)
        person = jax.tree.map(np.asarray, person)
        maturation = np.exp(float(theta["maturation_sd"]) * effects[EFFECTS.index("maturation")])
        taken = rng.permutation(np.arange(n) < treated)
        sigma = float(theta["sigma_anc"])
        arms.append(VirtualArm(name, scenario, region, taken, person, maturation, sigma, history, record))
    values = {k: float(v) for k, v in theta.items()}
    return VirtualTrial(tuple(arms), values, told, order, Scenario(regimen=design.regimen))
