"""A mean over points that several devices share: each follows its own, and the means alone go from one to the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec


def mean_over(devices: Mesh, function: Callable[[Any, Any], Any], given: Any, points: Any) -> Any:
    """Return the mean over devices of ``function(given, points)``, a tree of numbers.

    The first axis of each array of ``points`` is split between the devices, of which it is a multiple; ``given`` is the same
    for all. Gradients are those of ``given``. Numbers travel as one vector there and one back: devices wait for each other once
    for each array, which took longer than 64 virtual patients did.
    """
    (axis,) = devices.axis_names
    vector, parts = ravel_pytree(given)
    of_one = jax.tree.map(lambda x: x[: len(x) // devices.size], points)
    like = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, given, of_one))
    tree = ravel_pytree(like)[1]

    def own(vector, points):
        return ravel_pytree(function(parts(vector), points))[0][None]

    every, split = PartitionSpec(), PartitionSpec(axis)
    found = jax.shard_map(own, mesh=devices, in_specs=(every, split), out_specs=split, check_vma=False)(vector, points)
    return tree(found.mean(axis=0))
