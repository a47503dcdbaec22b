"""What a batch of exact patients needs: some draws of the parameters with their patients and luck, and the form of the model."""

from typing import Any, Literal, NamedTuple

from .history import Realised

FollowUp = Literal["trial", "horizon"]
"""Up to the trial's data cutoff, with drop-out; or everybody to the end of the plan."""


class Batch(NamedTuple):
    """Draws of the parameters, each with patients and luck of its own; draws first."""

    theta: Any
    """Parameters in natural units (without SUPPORT: their prior medians), leaves of shape ``(draws,)``."""
    z: Any
    """The patients' standard normal effects, shape ``(draws, effects, patients)``."""
    region: Any
    """Their regions, indices into REGIONS, shape ``(patients,)``: the same in every draw."""
    keys: Any
    """Every chance comes from these, shape ``(draws,)``: with the same keys two plans share it, patient by patient."""
    realised: Realised | None = None
    """A dosing ledger to replay, leaves of shape ``(draws, weeks, 7, patients)``; no rule acts then."""
    structure: Any = 0
    """Number of the neutrophil structure among those of the form: the same for all draws, and known at run time only."""


class Form(NamedTuple):
    """What is decided before a program is compiled."""

    structures: tuple[str, ...] = ("arrest",)
    """Neutrophil structures (structures.py) that one program serves: only their days are compiled apart."""
    steps: int = 1
    """Integration steps a day."""
    follow_up: FollowUp = "horizon"
    record: bool = False
    """Whether the course behind the history is returned too."""
    gcsf: bool = True
    """Whether a plan may have a G-CSF policy; without, its days are not compiled."""
    single: bool = False
    """Whether days are followed in single precision (days.py)."""
