"""What makes compiled functions faster on a CPU: memory kept between calls, wider vectors.

Above 32 MB glibc takes memory from the system at each call and gives it back after it, so that every page faults again:
a quarter of the time of a gradient of the built-in fit (tests/benchmarks/results.csv).
"""

import ctypes
import os
import sys

import jax

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the options (malloc.h)."""
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Tell the C library to keep freed memory for the next call; return whether it could be told (glibc only)."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST))


def one_core_a_program() -> None:
    """Let a compiled program run on the core of the thread that calls it; nothing where a backend already exists.

    For commands that run several programs at once: XLA would split every small loop of each between all cores, which
    takes half as much CPU time again and is no faster. Results are the same.
    """
    os.environ.setdefault("PJRT_NPROC", "1")
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def compiler_options() -> dict[str, int]:
    """Return the options for ``jax.jit``: vectors of 512 bits where the CPU has them.

    They save 6 % of a gradient and 15 % of a simulation.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}
