"""Compiled simulators of scenarios: each made once, and begun before a fit is read.

Compiling takes most of the time of a first prediction, on one core. What a program depends on (structures, months, patients)
is told by the command and by an attribute of the posterior, so it is compiled while the rest of the package is imported,
which keeps the other core busy. A program that was begun for something else than what is then asked for is wasted, no more.
"""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import h5py
import jax
import numpy as np
from mezikd.model.chance import keys_of
from mezikd.model.exact import Batch, Form, History, followed, prepared, simulate_batch
from mezikd.model.parameters import DECLARED, SUPPORT
from mezikd.model.patients import EFFECTS
from mezikd.model.plan import Plan, plan_of
from mezikd.model.regimen import DAYS_PER_MONTH, Regimen
from mezikd.model.scenario import Scenario
from mezikd.model.structures import STRUCTURES

from .places import OTHERS
from .processor import keep_memory, keep_programs, quick_options
from .scenario_settings import NO_GCSF, ScenarioFile
from .settings import FitSettings

BATCH = 10
"""Draws simulated at once, the same for every order, so that one program serves all; more are not faster."""


@cache
def simulator(form: Form) -> Callable[..., Any]:
    """Return ``simulate_batch``, compiled once for every arm and trial of this process."""
    return jax.jit(partial(simulate_batch, form=form), compiler_options=quick_options())


class Program:
    """``simulate_batch`` for arguments of certain shapes, in two parts that are compiled side by side."""

    def __init__(self, form: Form, batch: Batch, plan: Plan):
        first, then = (jax.jit(partial(f, form=form), compiler_options=quick_options()) for f in (prepared, followed))
        traced = first.trace(batch, plan)
        # The longer one begins before the interpreter turns to the other.
        self._then = _compiled(then.lower(*traced.out_info, plan, batch.structure))
        self._first = _compiled(traced.lower())

    def __call__(self, batch: Batch, plan: Plan) -> History:
        """Return the histories, once compiled."""
        return self._then.result()(*self._first.result()(batch, plan), plan, batch.structure)


def _compiled(lowered: Any) -> Future:
    """Return what ``lowered`` will be once a thread has compiled it; the interpreter is free meanwhile."""
    future = Future()

    def compile() -> None:
        try:
            future.set_result(lowered.compile())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=compile).start()
    return future


_begun: dict[Any, Program] = {}
_one_at_a_time = Lock()


def program(form: Form, batch: Batch, plan: Plan) -> Program:
    """Return the program for arguments of these shapes, the same for all who ask for it."""
    leaves, tree = jax.tree.flatten((batch, plan))
    key = form, tree, tuple((np.shape(x), x.dtype) for x in leaves)
    with _one_at_a_time:
        if key not in _begun:
            _begun[key] = Program(form, batch, plan)
        return _begun[key]


def begin(posterior: Path, request: ScenarioFile) -> None:
    """Begin to compile what a prediction from the mixture of structures beside ``posterior`` will ask for.

    Whatever is wrong with the files is told by those who read them.
    """
    try:
        found = [_settings(path).model for path in (posterior, *posterior.parent.glob(f"{OTHERS}/*.nc"))]
    except Exception:
        return
    keep_memory()
    keep_programs()
    own, asked = found[0], request.prediction
    names = ordered(m.structure for m in found if m.steps_per_day == own.steps_per_day)
    policies = (*(s.gcsf for s in request.scenario), *(request.grid.gcsf if request.grid else ()))
    form = form_of_prediction(names, own.steps_per_day, gcsf=any(policy != NO_GCSF for policy in policies))
    theta = {p.name: np.ones(BATCH) for p in (*DECLARED, *SUPPORT)} | {"tumour_memory": np.ones(BATCH)}
    patients = np.zeros((BATCH, len(EFFECTS), asked.patients)), np.zeros(asked.patients, int)
    batch = Batch(theta, *patients, keys_of(asked.seed, np.arange(BATCH)), structure=np.asarray(0, np.int32))
    program(form, batch, plan_of(Scenario(regimen=Regimen(), arm="kd"), weeks_of(asked.horizon_months)))


def form_of_prediction(structures: tuple[str, ...], steps: int, gcsf: bool = True) -> Form:
    """Return the form in which scenarios are predicted: everybody up to the horizon, days in single precision."""
    return Form(structures, steps, gcsf=gcsf, single=True)


def ordered(structures: Iterable[str]) -> tuple[str, ...]:
    """Return the neutrophil structures of a program, each once, in the order of STRUCTURES."""
    named = set(structures)
    return tuple(s for s in STRUCTURES if s in named)


def weeks_of(months: int) -> int:
    """Return the weeks that cover ``months`` months."""
    return math.ceil(months * DAYS_PER_MONTH / 7.0)


def _settings(path: Path) -> FitSettings:
    with h5py.File(path) as file:
        return FitSettings.model_validate_json(str(file.attrs["settings"]))
