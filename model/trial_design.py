"""The trial as the model sees it: arms, regions, regimen, horizon. Static, so that it can be closed over by jit."""

from dataclasses import dataclass, field

import numpy as np

from .patients import Cohort, virtual_cohort
from .regimen import Regimen
from .structures import STRUCTURES

ARMS = ("mezikd", "kd")


@dataclass(frozen=True)
class Arm:
    """Sizes of one arm."""

    randomised: int
    treated: int
    regions: tuple[int, ...]
    """Randomised patients per region, in the order of parameters.REGIONS."""


@dataclass(frozen=True)
class Design:
    """What is fixed when a log-density is evaluated."""

    mezikd: Arm
    kd: Arm
    regimen: Regimen = field(default_factory=Regimen)
    structure_name: str = "arrest"
    """How the drug lowers neutrophils: a key of structures.STRUCTURES."""
    tumour_memory: bool = True
    """Whether the tumour effect outlasts the week of its exposure."""
    daily_weeks: int = 24
    """Weeks in which patients are followed day by day; later weeks repeat the last cycle, which is nearly periodic."""
    horizon_weeks: int = 132
    steps_per_day: int = 1

    @property
    def structure(self):
        """The neutrophil structure in use."""
        return STRUCTURES[self.structure_name]

    def arm(self, name: str) -> Arm:
        """Return the sizes of arm ``name``."""
        return self.mezikd if name == "mezikd" else self.kd

    def shares(self) -> np.ndarray:
        """Return the shares of Kd and mezigdomide-Kd among the randomised, in the order the Cox model wants (0, 1)."""
        n = np.array([self.kd.randomised, self.mezikd.randomised], float)
        return n / n.sum()

    def cohort(self, name: str, patients: int, seed: int) -> Cohort:
        """Return the virtual patients of arm ``name``."""
        return virtual_cohort(patients, np.array(self.arm(name).regions), seed + 1000 * ARMS.index(name))
