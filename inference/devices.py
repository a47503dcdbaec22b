"""Which processors a fit runs on, and over how many of them its virtual patients are spread."""

import os
import re
from typing import TYPE_CHECKING

from .errors import input_error, shown

if TYPE_CHECKING:
    from jax.sharding import Mesh

DEVICE = re.compile(r"auto|(?P<kind>cpu|gpu)(?::(?P<count>[1-9][0-9]{0,3}))?", re.ASCII)
ALLOWED = "auto, cpu, gpu, or a power of two of them such as gpu:4"
PATIENTS = "patients"
"""Axis of the mesh of devices."""


def use_device(name: str) -> int | None:
    """Let JAX run on the CPU, on a GPU, or ('auto') on a GPU where it finds one; call before anything is computed.

    Return how many devices are asked for, as in 'gpu:4'; None where that is left open. 'cpu:4' makes as many of the CPU.

    Raises
    ------
    InputError: another name, a number that is no power of two, or more devices than JAX finds.
    """
    found = DEVICE.fullmatch(name)
    count = int(found["count"]) if found and found["count"] else None
    if not found or (count is not None and count & (count - 1)):
        raise input_error("--device", f"value {shown(name)} is not allowed", "name one", allowed=ALLOWED)
    if name == "auto":
        return None
    import jax

    jax.config.update("jax_platforms", "cuda,cpu" if found["kind"] == "gpu" else "cpu")
    if found["kind"] == "cpu" and count is not None and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)
    try:
        there = len(jax.devices(found["kind"]))
    except RuntimeError:
        remedy = "install the extra: pip install 'mezikd[cuda]', on a machine with an NVIDIA GPU; or --device cpu"
        raise input_error("--device", f"value {name}, and JAX finds no GPU here", remedy) from None
    if count is not None and count > there:
        raise input_error("--device", f"value {name}, and JAX finds {there} here", "ask for as many or fewer")
    return count


def patients_mesh(count: int | None, patients: int) -> "Mesh | None":
    """Return the devices over which virtual patients are spread, each with as many of each region; None for one device.

    ``patients`` is how many there are of a region in the smaller arm, a power of two. ``count`` is how many devices were asked
    for (``use_device``); None: all GPUs, or their largest power of two; one CPU.
    """
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh

    devices = jax.devices()
    on_gpus = 2 ** (len(devices).bit_length() - 1) if jax.default_backend() != "cpu" else 1
    count = min(on_gpus if count is None else count, patients)
    return None if count == 1 else Mesh(np.array(devices[:count]), (PATIENTS,), axis_types=(AxisType.Auto,))
