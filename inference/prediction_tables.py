"""predictions.csv and differences.csv: posterior medians and intervals of every outcome and of paired differences."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .monte_carlo import Estimates, centre_error, median_error, population_draws, probability_above_zero, quantiles
from .prediction import Predicted
from .prediction_outcomes import KINDS, Key
from .scenarios import NamedScenario
from .spreadsheet import inert

PREDICTIONS: list[str] = [
    "scenario", "arm", "outcome", "month", "unit", "median", "pi90_low", "pi90_high", "extrapolated",
    "pi50_low", "pi50_high", "mc_error",
]  # fmt: skip
DIFFERENCES: list[str] = [
    "scenario", "reference", "outcome", "month", "unit", "median", "pi90_low", "pi90_high", "extrapolated",
    "pi50_low", "pi50_high", "mc_error", "better_if", "p_better",
]  # fmt: skip
BETTER = {1: "higher", -1: "lower", 0: ""}
Extrapolated = Callable[[NamedScenario, Key], bool]


def ordered(keys) -> list[Key]:
    """Return outcomes in the order of KINDS, then by month."""
    order = list(KINDS)
    return sorted(keys, key=lambda k: (order.index(k.outcome), k.month))


def _numbers(draws: np.ndarray, raw: np.ndarray) -> dict[str, float]:
    q05, q25, q50, q75, q95 = quantiles(draws)
    return {
        "median": q50, "pi90_low": q05, "pi90_high": q95, "pi50_low": q25, "pi50_high": q75,
        # The draws before noise is taken out: how far the median would move in another run of this size.
        "mc_error": median_error(raw),
    }  # fmt: skip


def prediction_table(predicted: Predicted, extrapolated: Extrapolated) -> pd.DataFrame:
    """Return predictions.csv: one line a scenario, outcome and month; ``inf`` is a median not reached in the horizon."""
    lines = []
    for s in predicted.scenarios:
        found = predicted.outcomes[s.name]
        for key in ordered(found):
            kind, x = KINDS[key.outcome], found[key]
            lines.append(
                {
                    "scenario": s.name,
                    "arm": s.scenario.arm,
                    "outcome": key.outcome,
                    "month": key.month,
                    "unit": kind.unit,
                }
                | _numbers(population_draws(x, kind.log), x.full)
                | {"extrapolated": extrapolated(s, key)}
            )
    return pd.DataFrame(lines, columns=pd.Index(PREDICTIONS))


def difference_draws(one: Estimates, two: Estimates) -> tuple[np.ndarray, np.ndarray, float]:
    """Return draws of ``one`` minus ``two`` within draw: without the noise of finitely many patients, and raw.

    The third is the standard error that this noise leaves in their centre.
    """
    difference = one.minus(two)
    return population_draws(difference), difference.full, centre_error(difference)


def difference_table(predicted: Predicted, reference: str, extrapolated: Extrapolated) -> pd.DataFrame:
    """Return differences.csv: each scenario, and Kd, minus the reference, in the outcome's unit.

    ``p_better`` is the posterior probability that the scenario is better for the patient, in the direction ``better_if``,
    the Monte Carlo error of the draws' centre included; blank where neither direction is. Extrapolated unless both sides are constrained.
    """
    by_name = {s.name: s for s in predicted.scenarios}
    base, lines = predicted.outcomes[reference], []
    for s in predicted.scenarios:
        if s.name == reference:
            continue
        found = predicted.outcomes[s.name]
        for key in ordered(k for k in found if k in base):
            kind = KINDS[key.outcome]
            draws, raw, error = difference_draws(found[key], base[key])
            better = probability_above_zero(kind.better * draws, error) if kind.better else float("nan")
            lines.append(
                {"scenario": s.name, "reference": reference, "outcome": key.outcome, "month": key.month}
                | {"unit": "percentage points" if kind.unit == "percent" else kind.unit}
                | _numbers(draws, raw)
                | {"extrapolated": extrapolated(s, key) or extrapolated(by_name[reference], key)}
                | {"better_if": BETTER[kind.better], "p_better": better}
            )
    return pd.DataFrame(lines, columns=pd.Index(DIFFERENCES))


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV text: 6 digits, ``inf`` where not reached, blank where unknown."""
    return inert(table).to_csv(index=False, float_format="%.6g", lineterminator="\n")
