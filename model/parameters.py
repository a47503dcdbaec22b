"""Every parameter of the model, declared once: symbol, unit, support, prior, source and how sure it is.

A prior is normal on the working scale of its support: log for ``positive``, logit for ``unit``, identity for ``real``;
``centre`` is in the parameter's own unit and ``spread`` is the SD on the working scale. Sure: A read in the source,
B in a transcription, C derived from A or B, ``assumption`` otherwise (literature.md of the project's evidence).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Support = Literal["positive", "unit", "real"]
REGIONS = ("usa", "europe", "asia", "rest_of_world")
RECHECK_DELAY_DAYS = 3
"""Days at the start of an episode of neutropenia without a further count (an assumption: counts at once after the first
would make a quarter of the episodes end within 4 days; the trial reports 6)."""


@dataclass(frozen=True)
class Parameter:
    """Declaration of one scalar parameter."""

    name: str
    symbol: str
    unit: str
    support: Support
    centre: float
    """Prior median, in ``unit``."""
    spread: float
    """Prior SD on the working scale; 0 where the parameter is fixed."""
    source: str
    sure: Literal["A", "B", "C", "assumption"]
    meaning: str
    fixed: bool = False

    def to_working(self, value):
        """Return ``value`` on the scale on which its prior is normal."""
        if self.support == "positive":
            return np.log(value)
        if self.support == "unit":
            return np.log(value) - np.log1p(-np.asarray(value))
        return np.asarray(value)

    def from_standard(self, z):
        """Return the parameter at standard-normal coordinate ``z``: numpy for numpy, which compiles nothing, else jax."""
        plain = isinstance(z, np.ndarray)
        w = self.to_working(self.centre) + self.spread * z
        if self.support == "positive":
            return np.exp(w) if plain else jnp.exp(w)
        if self.support != "unit":
            return w
        if not plain:
            return jax.nn.sigmoid(w)
        from scipy.special import expit  # a first prediction is compiled meanwhile (inference/programs.py)

        return expit(w)


def _p(name, symbol, unit, support, centre, spread, source, sure, meaning) -> Parameter:
    return Parameter(name, symbol, unit, support, centre, spread, source, sure, meaning, fixed=spread == 0.0)


_CLASS = "avadomide (Abbiati 2021), widened for transfer between drugs"
_FRIBERG = "Friberg-type models of six ANC data sets"
_NONE = "none found"

EXPOSURE = (
    _p("half_life_hours", "t_half", "h", "positive", 10.0, 0.40, "class: iberdomide 9-22 h, pomalidomide, avadomide",
       "C", "terminal half-life of the drug"),
    _p("exposure_sd", "w_E", "log", "positive", 0.45, 0.20, "CV of CL/F: avadomide 52 %, pomalidomide 43 %", "C",
       "between-patient log SD of exposure"),
    _p("ec50", "EC50", "mg", "positive", 0.25, 0.70, _CLASS, "C",
       "amount (in doses of 1 mg) that blocks half of the maturation step"),
    _p("hill", "n", "1", "positive", 2.0, 0.25, _CLASS, "A", "Hill exponent of the block"),
    _p("emax", "Emax", "1", "unit", 0.90, 0.30, _CLASS + " (assumed there)", "assumption", "largest share of the step that can be blocked"),
    _p("ikaros_half_life_days", "ln2/k_I", "day", "positive", 0.90, 0.35, "resynthesis 0.5-1.5 d", "C",
       "half-life of the resynthesis of Ikaros"),
)  # fmt: skip

MARROW = (
    _p("blood_half_life_hours", "t_circ", "h", "positive", 30.0, 0.15, _CLASS, "C", "half-life of neutrophils in blood"),
    _p("maturation_sd", "w_M", "log", "positive", 0.15, 0.25, _FRIBERG + " (omega^2 of MTT 0.012-0.019)", "B",
       "between-patient log SD of the maturation rate"),
    _p("reserve_ratio", "rho", "1", "positive", 2.5, 0.30, _CLASS, "C", "marrow reserve over blood at baseline"),
    _p("saturation", "K", "1", "positive", 0.25, 0.60, _CLASS, "C", "Michaelis constant of the arrested step"),
    _p("feedback", "gamma", "1", "positive", 0.012, 0.50, _CLASS, "C", "exponent of the feedback on proliferation"),
    _p("cell_death", "kd", "1/day", "positive", 0.024, 0.0, _CLASS + " (assumed there)", "assumption",
       "death rate of maturing cells"),
    _p("theta", "theta", "1", "unit", 0.97, 0.0, "numerical form of the pooled reserve", "assumption",
       "sharpness of the split between reserve and blood"),
    _p("mean_transit_hours", "MTT", "h", "positive", 110.0, 0.0, _FRIBERG + " (84-133 h)", "B",
       "mean transit time of the kill comparator; the arrest model does not use it"),
    _p("kill_feedback", "gamma_F", "1", "positive", 0.17, 0.0, _FRIBERG + " (0.145-0.203)", "B",
       "feedback of the kill comparator; the arrest model does not use it"),
    _p("anc0", "ANC0", "10^9/L", "positive", 3.5, 0.20, "relapsed myeloma, from " + _FRIBERG, "C", "typical baseline ANC"),
    _p("anc0_sd", "w_0", "log", "positive", 0.35, 0.20, _FRIBERG, "C", "between-patient log SD of baseline ANC"),
)  # fmt: skip

OBSERVATION = (
    _p("sigma_anc", "sigma", "log", "positive", 0.30, 0.20, _FRIBERG + " (0.29-0.42)", "B", "residual log SD of one count"),
    _p("recheck_days", "r", "day", "positive", 3.5, 0.40, _NONE, "assumption",
       "mean time to a further count in an episode, once counts are repeated"),
    _p("febrile_share", "f_F", "1", "unit", 0.08, 0.50, "pomalidomide: febrile in about 15 % of those with grade 3-4",
       "assumption", "share of grade >= 3 episodes that are febrile"),
)  # fmt: skip

RULES = (
    _p("hold_grade3", "pi_3", "1", "unit", 0.30, 1.00, _NONE, "assumption",
       "probability per visit that grade 3 leads to a hold (grade 4 always does)"),
    _p("reduce_after_hold", "pi_R", "1", "unit", 0.50, 0.80, "US pomalidomide rule (always), loosened", "assumption",
       "probability that dosing resumes one level lower"),
    _p("intensity", "q", "1", "unit", 0.92, 0.60, _NONE, "assumption",
       "typical share of the dose taken, other causes than neutropenia"),
    _p("intensity_sd", "w_q", "logit", "positive", 1.2, 0.30, _NONE, "assumption", "between-patient logit SD of that share"),
    _p("other_reduction", "kappa", "1", "positive", 1.0, 0.70, _NONE, "assumption",
       "a patient at intensity q has a formal other-cause reduction with probability 1 - q^kappa"),
)  # fmt: skip

INFECTION = (
    _p("infection_rate", "alpha", "1/month", "positive", 0.012, 0.50,
       "newly diagnosed myeloma: 0.031 then 0.008 per patient-month", "C", "late rate of first grade >= 3 infection on Kd"),
    _p("infection_early_mezikd", "e0", "1", "positive", 2.0, 0.50, "same", "C", "early excess over the late rate"),
    _p("infection_early_kd", "e0_Kd", "1", "positive", 2.0, 0.50, "same", "C", "same, Kd"),
    _p("infection_early_days", "tau", "day", "positive", 60.0, 0.40, "excess gone after about four months", "C",
       "decay time of the early excess"),
    _p("infection_drug", "b_m", "log/arrest", "real", 0.4, 0.60, _NONE, "assumption",
       "log hazard ratio at full arrest, beyond neutropenia"),
    _p("infection_neutropenia", "b_n", "1", "positive", 0.7, 0.50, "HR 1.98 per day x 10^9/L below 0.5 (Li 2016)", "C",
       "log hazard ratio per log unit of ANC below 1.0"),
    _p("infection_frailty_sd", "w_I", "1", "positive", 0.7, 0.30, _NONE, "assumption", "SD of the gamma frailty of infection"),
    _p("infection_any_ratio", "c_any", "1", "positive", 4.0, 0.40, _NONE, "assumption",
       "rate of any-grade over grade >= 3 infection"),
    _p("infection_grade4_mezikd", "g4", "1", "unit", 0.12, 0.60, _NONE, "assumption", "grade 4 share of severe, with mezigdomide"),
    _p("infection_grade4_kd", "g4_Kd", "1", "unit", 0.08, 0.60, _NONE, "assumption", "grade 4 share of severe, Kd"),
    _p("infection_fatal", "g5", "1", "unit", 0.06, 0.50, _NONE, "assumption", "fatal share of severe infections"),
)  # fmt: skip

PROGRESSION = (
    _p("progression_rate", "h0", "1/month", "positive", 0.08, 0.35, "Kd in other trials of refractory patients", "C",
       "mean progression hazard over the first 6 months on Kd"),
    _p("progression_shape", "k", "1", "positive", 1.0, 0.25, _NONE, "assumption", "Weibull shape"),
    _p("progression_frailty_sd", "w_P", "log", "positive", 0.5, 0.30, _NONE, "assumption", "log SD of progression frailty"),
    _p("tumour_effect", "delta", "log HR", "real", 0.5, 0.50, _NONE, "assumption",
       "log hazard ratio of progression at full 1.0 mg 21/28"),
    _p("ec50_tumour", "EC50_T", "mg", "positive", 0.25, 0.80, "in vitro potency of the class; no clinical dose-response", "assumption",
       "amount that gives half of the tumour effect"),
    _p("tumour_memory_days", "1/k_T", "day", "positive", 28.0, 0.0, "about one cycle", "assumption",
       "memory of the tumour effect"),
    _p("death_rate", "h_d", "1/month", "positive", 0.005, 0.40, "deaths on study in other Kd trials", "assumption",
       "death without progression, other than infection"),
    _p("stop_rate_mezikd", "h_s", "1/month", "positive", 0.02, 0.50, _NONE, "assumption", "treatment stop for other reasons"),
    _p("stop_rate_kd", "h_s_Kd", "1/month", "positive", 0.02, 0.50, _NONE, "assumption", "same, Kd"),
    _p("post_progression_death", "h_pp", "1/month", "positive", 0.04, 0.40, "median 15-20 months after progression", "assumption",
       "death after progression"),
)  # fmt: skip

FOLLOW_UP = (
    _p("followup_months", "F", "month", "positive", 12.0, 0.25, "accrual and cutoff dates", "assumption",
       "median time from randomisation to data cutoff"),
    _p("followup_sd", "w_F", "log", "positive", 0.50, 0.20, _NONE, "assumption", "log SD of that time"),
    _p("dropout_mezikd", "h_c", "1/month", "positive", 0.012, 0.60, _NONE, "assumption",
       "end of progression follow-up for other reasons"),
    _p("dropout_kd", "h_c_Kd", "1/month", "positive", 0.015, 0.60, _NONE, "assumption", "same, Kd"),
)  # fmt: skip

_MELHEM = "filgrastim in Friberg-type models: production up to x7.53, transit up to x3.89 (Melhem 2018, B)"
SUPPORT = (
    _p("gcsf_production", "s_P - 1", "1", "positive", 3.0, 0.60, _MELHEM + "; against a block: no data", "assumption",
       "rise of the production of maturing neutrophils under G-CSF, over that without"),
    _p("gcsf_transit", "s_T - 1", "1", "positive", 1.5, 0.60, _MELHEM + "; against a block: no data", "assumption",
       "rise of the rate of maturation under G-CSF"),
    _p("gcsf_egress", "s_E - 1", "1", "positive", 2.0, 0.50, "ANC rises several-fold within a day of filgrastim (labels)", "assumption",
       "rise of the level up to which the marrow reserve fills the blood; the arrest structure only"),
    _p("gcsf_half_life_days", "t_G", "day", "positive", 1.0, 0.40, "ANC halves in 1-2 days after filgrastim (label)", "assumption",
       "half-life with which the effects of G-CSF come and go"),
)  # fmt: skip
"""Supportive care: not in the trial's evidence, so no fit samples them (they are not in DECLARED); predictions draw them
from the prior (gcsf.support_draws)."""


def _regional(quantity: str, symbol: str, meaning: str, spread: float) -> tuple[Parameter, ...]:
    """Declare the four regions' log effects: partially pooled towards none, with a fixed between-region SD.

    Four regions say little of that SD; estimating it makes the posterior funnel-shaped and moves no reported number.
    """
    return tuple(
        _p(f"{quantity}_region_{r}", f"u_{symbol}[{r}]", "log", "real", 0.0, spread, "partial pooling", "assumption",
           f"log effect of region {r} on {meaning}")
        for r in REGIONS
    )  # fmt: skip


REGION = (
    *_regional("ec50", "E", "EC50", 0.40),
    *_regional("anc0", "0", "baseline ANC", 0.12),
    *_regional("infection", "I", "infection rate", 0.70),
)

DECLARED: tuple[Parameter, ...] = EXPOSURE + MARROW + OBSERVATION + RULES + INFECTION + PROGRESSION + FOLLOW_UP + REGION


def with_priors(changes: Mapping[str, tuple[float, float]]) -> tuple[Parameter, ...]:
    """Return the declared parameters with (centre, spread) replaced where ``changes`` names them."""
    return tuple(
        replace(p, centre=changes[p.name][0], spread=changes[p.name][1]) if p.name in changes else p for p in DECLARED
    )


def free(parameters: Iterable[Parameter] = DECLARED) -> tuple[Parameter, ...]:
    """Return the parameters that are estimated, in the order of the coordinate vector."""
    return tuple(p for p in parameters if not p.fixed)


def natural(z, parameters: Iterable[Parameter] = DECLARED) -> dict[str, Any]:
    """Return every parameter in its own unit at standard-normal coordinates ``z`` (free parameters, in order; last axis).

    Numpy arrays for numpy, which compiles nothing, else jax.
    """
    array = np.asarray if isinstance(z, np.ndarray) else jnp.asarray
    out, i = {}, 0
    for p in parameters:
        if p.fixed:
            out[p.name] = array(p.centre)
        else:
            out[p.name] = p.from_standard(z[..., i])
            i += 1
    return out


def regional(theta: Mapping[str, jax.Array], quantity: str):
    """Return the log effects of the four regions on ``quantity``, shape ``regions``."""
    return jnp.stack([theta[f"{quantity}_region_{r}"] for r in REGIONS])
