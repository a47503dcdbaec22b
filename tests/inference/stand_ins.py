"""Tasks for worker processes, which import this file: they take no time, and leave a record of who did them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HELD = 7
"""The trial that waits, when it is run first, for its process to be killed."""


class Fitted(NamedTuple):
    """As mezikd.inference.calibration.Fitted, without its imports."""

    draws: dict[str, np.ndarray]
    accept: float
    divergences: int


class TrialFit(NamedTuple):
    """As mezikd.inference.calibration.TrialFit."""

    truth: dict[str, float]
    fits: dict[str, Fitted]


def compiled_fit(folder: Path, *_: Any) -> Callable[..., TrialFit]:
    """Return the fit of one trial, at once, which writes its process into ``folder`` where there is one."""

    def fit(index: int, truth: np.ndarray, evidence: float, seed: int) -> TrialFit:
        if folder.exists() and recorded(folder / str(index)) == 1 and index == HELD:
            time.sleep(120)

        def fitted(n: int) -> Fitted:
            rng = np.random.default_rng([seed, index, n])
            return Fitted({"x": evidence + rng.standard_normal(39), "c": rng.standard_normal(39)}, 0.8, 0)

        truths = {"x": float(truth[0]), "c": float(truth[1])}
        return TrialFit(truths, {v: fitted(n) for n, v in enumerate(("independent", "covariance"))})

    return fit


def recorded(path: Path) -> int:
    """Write a line with the process's number to ``path``; return how many there are."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(path.read_text().split())


def failing(record: Path, times: int) -> Callable[[Any], Any]:
    """Return a function that raises ``times`` times, then returns what it is given."""

    def call(x: Any) -> Any:
        if recorded(record) <= times:
            raise OSError("no room on this machine")
        return x

    return call


def made(record: Path) -> Callable[[Any], str]:
    """Return ``str``, and leave a line for each time it was made."""
    recorded(record)
    return str


def deadly() -> None:
    """End the process that does this."""
    os.kill(os.getpid(), signal.SIGKILL)
