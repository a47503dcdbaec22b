"""The structures that turn the block into neutrophils, behind one interface (model.md, section 3)."""

from typing import Any, Protocol

from . import friberg, neutrophils


class Structure(Protocol):
    """What the daily scan asks of a structure; the modules below provide it."""

    def rates(self, theta: Any, maturation: Any) -> Any:
        """Return the patients' rate constants from population parameters and relative maturation."""
        ...

    def baseline(self, marrow: Any, shape: tuple[int, ...]) -> Any:
        """Return the steady state without drug."""
        ...

    def blood(self, chain: Any, marrow: Any) -> Any:
        """Return C = ANC / ANC0."""
        ...

    def prepare(self, marrow: Any, k_ikaros: Any, h: float) -> Any:
        """Return what steps of ``h`` days need and none of them changes."""
        ...

    def advance(self, chain: Any, arrest: Any, first: Any, second: Any, c: Any) -> Any:
        """Return the chain a step later, given A at its start and the mean block of its two stages."""
        ...

    def advance_supported(self, chain: Any, arrest: Any, first: Any, second: Any, c: Any, support: Any) -> Any:
        """Return the chain a step later under G-CSF (neutrophils.Support)."""
        ...


STRUCTURES: dict[str, Structure] = {"arrest": neutrophils, "friberg": friberg}
"""By name: reversible maturation arrest (the model), Friberg-Karlsson kill (the comparator)."""
