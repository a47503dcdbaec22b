"""The posterior of a fit to patients: what they share and their own values, in natural units, from the sampler's coordinates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .sampler import BLOCK


@dataclass(frozen=True)
class Reader:
    """Turns draws into the posterior; compiled once, whatever the number of draws."""

    read: Callable[[Any, Any], dict[str, Any]]
    """(points, data) -> values by name, leaves ``points`` or ``points patients``."""
    units: Mapping[str, str]
    """Where they are not 1."""

    @classmethod
    def of(cls, read: Callable[[Any, Any], dict[str, Any]], units: Mapping[str, str]) -> "Reader":
        """Return the reader of ``read``: (coordinates of one draw, data) -> values by name, scalar or ``patients``."""
        return cls(jax.jit(jax.vmap(read, in_axes=(0, None))), units)

    def posterior(self, z: np.ndarray, data: Any, ids: Sequence[str]) -> xr.Dataset:
        """Return the posterior of draws ``z``, ``chains draws coordinates``, of patients ``ids``."""
        chains, length, _ = z.shape
        blocks = [
            jax.tree.map(np.asarray, self.read(jnp.asarray(_filled(c[i : i + BLOCK])), data))
            for c in z
            for i in range(0, length, BLOCK)
        ]
        coords = {"chain": np.arange(chains), "draw": np.arange(length), "patient": list(ids)}

        def by_chain(name: str) -> np.ndarray:
            x = np.stack([b[name] for b in blocks])
            return x.reshape(chains, -1, *x.shape[2:])[:, :length]

        found = {n: by_chain(n) for n in blocks[0]}
        dims = ("chain", "draw", "patient")
        return xr.Dataset(
            {n: (dims[: x.ndim], x, {"unit": self.units.get(n, "1")}) for n, x in found.items()}, coords=coords
        )


def _filled(z: np.ndarray) -> np.ndarray:
    """Return ``z`` with its last draw repeated up to BLOCK draws."""
    return np.concatenate([z, np.repeat(z[-1:], BLOCK - len(z), axis=0)])
