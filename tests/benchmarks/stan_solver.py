"""Stan's own log-density and gradient of ``course.stan``, from the sources in the package httpstan; no part of the project.

``pip install --no-deps httpstan`` brings Stan's compiler and headers; g++ (C++17) compiles the program (about half a
minute of CPU, kept in .jax_cache). ``Missing`` says what is not there.
"""

import ctypes
import hashlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KEPT = Path(__file__).parents[2] / ".jax_cache"
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-w")
MACROS = ("-DBOOST_DISABLE_ASSERTS", "-D_REENTRANT", "-D_GLIBCXX_USE_CXX11_ABI=0")
"""As httpstan compiles, since its libraries are linked."""


class Missing(Exception):
    """What Stan needs is not installed."""


def _place() -> tuple[Path, str]:
    """Return the folder of httpstan and the compiler."""
    found = importlib.util.find_spec("httpstan")
    if found is None or found.origin is None:
        raise Missing("Stan is not installed: pip install --no-deps httpstan")
    compiler = shutil.which("g++")
    if compiler is None:
        raise Missing("Stan needs the compiler g++, which is not installed")
    return Path(found.origin).parent, compiler


def version() -> str:
    """Return what Stan's compiler calls itself."""
    folder, _ = _place()
    return subprocess.check_output([folder / "stanc", "--version"], text=True).strip()


def library() -> ctypes.CDLL:
    """Return the compiled program, compiled once for the same sources and versions."""
    folder, compiler = _place()
    sources = (HERE / "course.stan", HERE / "stan_course.cpp")
    told = version() + subprocess.check_output([compiler, "--version"], text=True) + " ".join(OPTIONS)
    name = hashlib.sha256(told.encode() + b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    made = KEPT / f"stan-{name}.so"
    if not made.exists():
        KEPT.mkdir(exist_ok=True)
        cpp = made.with_suffix(".hpp")
        subprocess.run([folder / "stanc", "--name", "course_model", "--o", cpp, sources[0]], check=True)
        include, libraries = f"-I{folder / 'include'}", folder / "lib"
        part = made.with_suffix(".part")
        subprocess.run(
            [compiler, *OPTIONS, *MACROS, f'-DSTAN_MODEL="{cpp}"', include, sources[1], "-o", part, f"-L{libraries}",
             "-ltbb", f"-Wl,-rpath,{libraries}"],
            check=True,
        )  # fmt: skip
        part.replace(made)
    loaded = ctypes.CDLL(str(made))
    loaded.course_with.restype = ctypes.c_void_p
    pointer = ctypes.POINTER(ctypes.c_double)
    loaded.course_gradient.argtypes = [ctypes.c_void_p, pointer, ctypes.c_int, pointer, pointer]
    return loaded


class Course:
    """One patient's counts and a tolerance: a log-density with its gradient by Stan."""

    def __init__(self, loaded: ctypes.CDLL, data: dict):
        self.gradient = loaded.course_gradient
        self.course = loaded.course_with(json.dumps(data).encode())
        if self.course is None:
            raise ValueError("Stan refused the data")

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-density at ``w`` and its gradient."""
        at = np.ascontiguousarray(w, float)
        value, slope = ctypes.c_double(), np.empty_like(at)
        pointer = ctypes.POINTER(ctypes.c_double)
        failed = self.gradient(
            self.course, at.ctypes.data_as(pointer), len(at), ctypes.byref(value), slope.ctypes.data_as(pointer)
        )
        if failed:
            raise FloatingPointError("Stan's solver gave up")
        return value.value, slope
