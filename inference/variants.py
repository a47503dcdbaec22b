"""Structures of the model that a fit can choose: what each changes in the declared parameters (fit.toml, [model]).

Without tumour memory a fixed one is added, 0, which the exact simulator reads (model/weekly.py): patients of both kinds
run in one compiled program. The likelihood knows it when it is compiled (trial_design.Design.tumour_memory).
"""

from dataclasses import replace

from mezikd.model.parameters import Parameter

from .settings import Model

KILL = {"mean_transit_hours": 0.15, "kill_feedback": 0.20}
"""Parameters that only the kill model has, and the SDs of their priors (six ANC data sets: 84-133 h, 0.145-0.203)."""
NO_MEMORY = Parameter(
    "tumour_memory",
    "1",
    "1",
    "real",
    0.0,
    0.0,
    "structure",
    "assumption",
    "1: the tumour effect has a memory; 0: none",
    True,
)
ARREST_ONLY = ("blood_half_life_hours", "reserve_ratio", "saturation", "feedback")


def structure_name(model: Model) -> str:
    """Return what tables call a structure: arrest or kill, and what it leaves out."""
    parts = ["kill" if model.structure == "friberg" else "arrest"]
    if model.tumour == "no_memory":
        parts.append("no tumour memory")
    if model.infection == "no_neutrophils":
        parts.append("infection without neutrophils")
    return ", ".join(parts)


def with_structure(parameters: tuple[Parameter, ...], model: Model) -> tuple[Parameter, ...]:
    """Return the parameters of the chosen structure: those it does not use are fixed, those it adds are free."""

    def of(p: Parameter) -> Parameter:
        if model.structure == "friberg" and p.name in ARREST_ONLY:
            return replace(p, spread=0.0, fixed=True)
        if model.structure == "friberg" and p.name in KILL:
            return replace(p, spread=KILL[p.name], fixed=False)
        if model.infection == "no_neutrophils" and p.name == "infection_neutropenia":
            # A log hazard ratio of 0 lies outside the declared support.
            return replace(p, support="real", centre=0.0, spread=0.0, fixed=True)
        return p

    more = (NO_MEMORY,) if model.tumour == "no_memory" else ()
    return (*(of(p) for p in parameters), *more)
