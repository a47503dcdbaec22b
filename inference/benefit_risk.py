"""Benefit against risk in one number whose weights the user sets.

    utility = w_PFS RMST(T) + w_infection P(severe infection by T) + w_febrile P(febrile neutropenia by T)

per patient, with T the month of the restricted mean (18, or an earlier horizon). Expected over patients in each posterior
draw; scenarios are compared within draws. Weights are a judgement, not a finding: the defaults are arbitrary.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .monte_carlo import Estimates, centre_error, population_draws, probability_above_zero, quantiles
from .prediction import Outcomes, Predicted
from .prediction_outcomes import FEBRILE, PFS_MEAN, SEVERE, Key, mean_month
from .prediction_tables import Extrapolated
from .scenario_settings import Utility

COLUMNS = (
    "scenario", "arm", "month", "utility", "pi50_low", "pi50_high", "pi90_low", "pi90_high", "difference",
    "difference_pi50_low", "difference_pi50_high", "difference_pi90_low", "difference_pi90_high", "p_better", "p_best",
    "extrapolated",
)  # fmt: skip


def weights(utility: Utility, horizon: int) -> dict[Key, float]:
    """Return the weight of each outcome in its own unit (months; percent of patients)."""
    month = mean_month(horizon)
    return {
        Key(PFS_MEAN, month): utility.pfs_month,
        Key(SEVERE, month): utility.severe_infection / 100.0,
        Key(FEBRILE, month): utility.febrile_neutropenia / 100.0,
    }


def utilities(outcomes: Outcomes, by_outcome: Mapping[Key, float]) -> Estimates:
    """Return the utility of one scenario in every draw."""
    parts = zip(*(outcomes[key] for key in by_outcome), strict=True)
    weight = np.array(list(by_outcome.values()))
    return Estimates(*(weight @ np.stack(part) for part in parts))


def probability_best(values: list[Estimates]) -> np.ndarray:
    """Return the posterior probability that each scenario has the highest utility; ties share it.

    Utilities are taken relative to the scenarios' mean in the same draw before Monte Carlo noise is taken out: what all
    scenarios share does not decide between them.
    """
    mean = Estimates(*(np.mean(part, axis=0) for part in zip(*values, strict=True)))
    relative = np.stack([population_draws(v.minus(mean)) for v in values])
    best = relative >= relative.max(axis=0) - 1e-12
    return (best / best.sum(axis=0)).mean(axis=1)


def benefit_risk_table(
    predicted: Predicted, reference: str, utility: Utility, horizon: int, extrapolated: Extrapolated
) -> pd.DataFrame:
    """Return benefit_risk.csv: expected utility, its difference from the reference, P(better than it) and P(best).

    A line is extrapolated if any outcome with a weight is. Kd has a line of its own and takes part in P(best).
    """
    by_outcome = {k: w for k, w in weights(utility, horizon).items() if w != 0.0}
    values = {s.name: utilities(predicted.outcomes[s.name], by_outcome) for s in predicted.scenarios}
    best, lines = probability_best(list(values.values())), []
    for s, p_best in zip(predicted.scenarios, best, strict=True):
        own = quantiles(population_draws(values[s.name]))
        paired = values[s.name].minus(values[reference])
        draws = population_draws(paired)
        difference = quantiles(draws)
        same = s.name == reference
        numbers = [own[2], own[1], own[3], own[0], own[4]]
        numbers += [difference[2], difference[1], difference[3], difference[0], difference[4]]
        better = float("nan") if same else probability_above_zero(draws, centre_error(paired))
        flag = any(extrapolated(s, key) for key in by_outcome)
        lines.append((s.name, s.scenario.arm, mean_month(horizon), *numbers, better, float(p_best), flag))
    return pd.DataFrame(lines, columns=pd.Index(COLUMNS))
