"""Several neutrophil structures behind one interface, of which a number known at run time picks one.

All that surrounds the marrow (rules, infections, progression) is then compiled once for all of them. The state holds the
chain of each; the one that is picked moves, the others stand still (days.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from .structures import STRUCTURES, Structure


@dataclass(frozen=True)
class Choice:
    """Structures and the number of the one in use: as a Structure, but each value is a tuple, one a structure."""

    structures: tuple[Structure, ...]
    number: Any
    """Scalar, may be traced."""

    @classmethod
    def of(cls, names: tuple[str, ...], number: Any) -> "Choice":
        """Return the choice among the structures of these names."""
        return cls(tuple(STRUCTURES[n] for n in names), number)

    def _each(self, method: Callable[[Structure], Callable[..., Any]], of: Any, *more: Any) -> tuple[Any, ...]:
        return tuple(method(s)(x, *more) for s, x in zip(self.structures, of, strict=True))

    def rates(self, theta: Any, maturation: Any) -> tuple[Any, ...]:
        """Return the patients' rate constants."""
        return tuple(s.rates(theta, maturation) for s in self.structures)

    def baseline(self, marrow: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the steady states without drug."""
        return self._each(lambda s: s.baseline, marrow, shape)

    def prepare(self, marrow: Any, k_ikaros: Any, h: float) -> tuple[Any, ...]:
        """Return what steps of ``h`` days need and none of them changes."""
        return self._each(lambda s: s.prepare, marrow, k_ikaros, h)

    def blood(self, chain: Any, marrow: Any) -> Any:
        """Return C = ANC / ANC0 of the structure in use."""
        found, *others = (s.blood(c, m) for s, c, m in zip(self.structures, chain, marrow, strict=True))
        for i, other in enumerate(others, 1):
            found = jnp.where(self.number == i, other, found)
        return found
