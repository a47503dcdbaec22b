"""What makes compiled functions faster on a CPU: memory kept between calls, wider vectors.

Above 32 MB glibc takes memory from the system at each call and gives it back after it, so that every page faults again:
a quarter of the time of a gradient of the built-in fit (tests/benchmarks/results.csv). In threads so it does above 64 MB
whatever it is told, unless they share the main thread's memory: a third of the time where 26 cycles are followed by day. Sharing
makes them wait for each other while they compile, so it is for gradients that need it.
"""

import ctypes
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of the options (malloc.h)."""
_LARGEST = 2**31 - 1
MANY_CYCLES = 12
"""Cycles followed by day from which it is taken to need that: temporary memory of a gradient, in double precision, is 37 MB at 6
cycles and 63 to 71 MB at 26 (tests/benchmarks/results.csv)."""


def keep_memory(shared: bool = False) -> bool:
    """Tell the C library to keep freed memory for the next call; return whether it could be told (glibc only).

    ``shared``: blocks above 64 MB too. It holds for threads that begin later.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    told = [(_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), *([(_ARENA_MAX, 1)] if shared else [])]
    return all(mallopt(*x) for x in told)


def keep_programs() -> None:
    """Let compiled programs be kept for the next run where ``program_folder`` finds a place; results are the same."""
    if (folder := program_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def program_folder() -> Path | None:
    """Return the folder for compiled programs in the user's cache folder, made if missing; None where none can be.

    ``MEZIKD_CACHE`` names another place, or ``off``. Programs hold instructions of the processor that they were made for,
    so each kind of processor and each version of the compiler has a folder of its own.
    """
    asked = os.environ.get("MEZIKD_CACHE", "")
    if asked.lower() == "off":
        return None
    base = Path(asked) if asked else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mezikd"
    folder = base / f"jax-{jax.__version__}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _processor() -> str:
    """Return a short name of the kind of processor: a hash of its model and instructions."""
    told = platform.machine() + platform.processor()
    if (info := Path("/proc/cpuinfo")).is_file():
        lines = info.read_text("utf-8", errors="replace").splitlines()
        told += "".join(dict.fromkeys(x for x in lines if x.startswith(("model name", "flags", "Features"))))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def compiler_options() -> dict[str, int | bool]:
    """Return the options for ``jax.jit`` on a CPU: vectors of 512 bits where it has them, and one core a program.

    Wide vectors save 6 % of a gradient and 15 % of a simulation. Chains and batches already run one a core: split between
    all cores as well, each small loop costs a fifth of a gradient more and half as much again of a simulation.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}


def quick_options() -> dict[str, int | bool]:
    """Return ``compiler_options`` with fewer passes of the compiler: for the exact simulator.

    It is compiled for longer than a first order runs it; so it is compiled sooner, as fast, and with the same results.
    Gradients would gain nothing in compilation and be slower.
    """
    few = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True}
    return compiler_options() | few if jax.default_backend() == "cpu" else {}
