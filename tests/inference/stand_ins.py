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


def held(folder: Path, task: str, name: str) -> None:
    """Record in ``folder``, where there is one, who does the task; wait to be killed where it is ``name``, the first time."""
    if folder.exists() and recorded(folder / task) == 1 and task == name:
        time.sleep(120)


class Sent:
    """A result that becomes ``make(*arguments)`` where it arrives, so that workers need not import what that needs."""

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        self._parts = make, arguments

    def __reduce__(self) -> tuple:
        return self._parts


def level(*of: Any) -> Any:
    """Return a level of a bridge."""
    from mezikd.inference.bridge import Level

    return Level(*of)


def compiled_levels(folder: Path, wait: str, *_: Any) -> Callable[[str, np.ndarray, float], Sent]:
    """Return, in place of groups_left_out.level_sampler, exact draws of a normal mean that was observed twice, ten apart."""

    def sampled(name: str, members: np.ndarray, power: float) -> Sent:
        held(folder, name, wait)
        precision = 1.0 / 3.0**2 + 1.0 + power
        x = np.random.default_rng(list(name.encode())).normal(power * 10.0 / precision, precision**-0.5, 4000)
        return Sent(level, power, x**2, x**2 + (10.0 - x) ** 2, 1.02)

    return sampled


class Asked(NamedTuple):
    """As mezikd.inference.refits.Asked, and what is replaced in its data."""

    data: Any
    changes: Any
    prior: Any = None


def compiled_posteriors(folder: Path, wait: str, target: str, *_: Any) -> Callable[..., tuple]:
    """Return, in place of sensitivity_run.sampler_of, what was asked for."""

    def sampled(name: str, asked: Any, near: Any) -> tuple:
        held(folder, name, wait)
        return target, name, asked, near

    return sampled


def outcomes(x: np.ndarray) -> dict:
    """Return outcomes of two scenarios."""
    from mezikd.inference.monte_carlo import Estimates

    return {name: {"x": Estimates(x, x + 0.25, x + 0.5)} for name in ("one", "two")}


def compiled_predictor(folder: Path, wait: str, values: np.ndarray, size: int, first: int) -> Callable[[int], Sent]:
    """Return, in place of prediction.batch_predictor, outcomes that tell which draws of which program they are of."""

    def one_batch(begin: int) -> Sent:
        held(folder, f"{first}_{begin}", wait)
        return Sent(outcomes, values[begin : begin + size] + 1000.0 * first)

    return one_batch


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
