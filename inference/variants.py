"""Structures of the model that a fit can choose: what each changes in the declared parameters (fit.toml, [model])."""

from dataclasses import replace

from mezikd.model.parameters import Parameter

from .settings import Model

NO_MEMORY_DAYS = 1.0
"""Without memory the tumour effect follows the week's own doses and is gone a day after the last one."""
KILL = {"mean_transit_hours": 0.15, "kill_feedback": 0.20}
"""Parameters that only the kill model has, and the SDs of their priors (six ANC data sets: 84-133 h, 0.145-0.203)."""
ARREST_ONLY = ("blood_half_life_hours", "reserve_ratio", "saturation", "feedback")


def _fixed(p: Parameter, value: float) -> Parameter:
    return replace(p, centre=value, spread=0.0, fixed=True)


def with_structure(parameters: tuple[Parameter, ...], model: Model) -> tuple[Parameter, ...]:
    """Return the parameters of the chosen structure: those it does not use are fixed, those it adds are free."""

    def of(p: Parameter) -> Parameter:
        if model.structure == "friberg" and p.name in ARREST_ONLY:
            return _fixed(p, p.centre)
        if model.structure == "friberg" and p.name in KILL:
            return replace(p, spread=KILL[p.name], fixed=False)
        if model.tumour == "no_memory" and p.name == "tumour_memory_days":
            return _fixed(p, NO_MEMORY_DAYS)
        if model.infection == "no_neutrophils" and p.name == "infection_neutropenia":
            return _fixed(p, 0.0)
        return p

    return tuple(of(p) for p in parameters)
