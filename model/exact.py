"""The exact patient: held or not, reduced or not, infected or not, day by day, under any scenario, from explicit keys.

Same definitions as the mean-field model (course.py, outcomes.py), with discrete events instead of probabilities: a
weekly scan with a daily scan inside (weekly.py), the patients of all draws side by side (lanes.py). A scenario enters as
arrays (plan.py), so all scenarios of a horizon share one compiled program. Dosing ends when treatment ends.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from . import lanes, weekly
from .batch import Batch, FollowUp, Form
from .choice import Choice
from .days import model_of
from .history import NEVER, History, Realised, Record
from .plan import Plan, plan_of
from .scenario import Scenario
from .trial_design import Design

__all__ = [
    "NEVER", "Batch", "FollowUp", "Form", "History", "Realised", "Record", "followed", "form_of", "prepared", "simulate_batch",
    "simulate_trials",
]  # fmt: skip


def prepared(batch: Batch, plan: Plan, form: Form) -> tuple[weekly.Person, weekly.State, weekly.Calendar]:
    """Return the patients of all draws side by side before the first dose, and what the weeks bring to each draw."""
    structure = Choice.of(form.structures, batch.structure)

    def one(theta, z, key, draw):
        return weekly.first_day(theta, z, batch.region, key, draw, plan, form, structure)

    person, state, calendar = jax.vmap(one)(batch.theta, batch.z, batch.keys, jnp.arange(len(batch.keys)))
    return *lanes.flattened((person, state)), jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), calendar)


def followed(
    person: weekly.Person, state: weekly.State, calendar: weekly.Calendar, plan: Plan, number, form: Form
) -> History:
    """Return the history of each patient ``prepared``, draws first; only those who need it are followed day by day.

    ``number`` is that of the neutrophil structure.
    """
    structure = Choice.of(form.structures, number)

    def whole(person, state, first, until):
        model = model_of(person.theta, person.individual, structure, form.steps, form.single)

        def week(w, s):
            return weekly.with_days(person, s, weekly.today(w, plan, calendar), plan, model, form)[0]

        return jax.lax.fori_loop(first, until, week, state)

    def short(person, state, first, until):
        def week(w, s):
            return weekly.without_days(person, s, weekly.today(w, plan, calendar))

        return jax.lax.fori_loop(first, until, week, state)

    state = lanes.followed(person, state, plan.visit.shape[0], weekly.needs_days, whole, short)
    return _finished(lanes.by_draw(state.history, calendar.hazard.shape[-1]))


@partial(jax.jit, static_argnames="form")
def simulate_batch(batch: Batch, plan: Plan, form: Form = Form()) -> History | tuple[History, Record]:  # noqa: B008
    """Return the history of each patient in each draw, and with ``form.record`` the course behind it; draws first.

    ``plan`` is the scenario (``plan_of``). Without a record only those who need it are followed day by day: on treatment
    and up to 28 days after it. Their histories are the same with it.
    """
    weeks, draws = plan.visit.shape[0], len(batch.keys)
    person, state, calendar = prepared(batch, plan, form)
    if not form.record and batch.realised is None:
        return followed(person, state, calendar, plan, batch.structure, form)

    model = model_of(
        person.theta, person.individual, Choice.of(form.structures, batch.structure), form.steps, form.single
    )
    ledger = None if batch.realised is None else lanes.flattened(jax.tree.map(jnp.asarray, batch.realised))
    every = weekly.today(jnp.arange(weeks), plan, calendar, ledger)
    end, course = jax.lax.scan(lambda s, x: weekly.with_days(person, s, x, plan, model, form), state, every)
    history = _finished(end.history)
    if course is None:
        return lanes.by_draw(history, draws)
    return lanes.by_draw((history, _collected(course, history)), draws)


def _finished(h: History) -> History:
    """Return the history with counts in 10^9/L, and as fatal only the infections that were the patient's death.

    On the way ``fatal`` marks whose first severe infection would be fatal; it is not where progression or another death
    comes first.
    """
    counts = {name: jnp.exp(getattr(h, name)) for name in ("nadir", "nadir_cycle1", "anc_day28")}
    return h._replace(fatal=((h.death < NEVER) & (h.death == h.severe)) * 1.0, **counts)


def _collected(course: Record, h: History) -> Record:
    """Return the record with infections cut at death."""
    seen = course.infection <= h.death
    last = jnp.where(course.infection_grade == 5, 0.0, course.infection_days)
    return course._replace(
        infection=jnp.where(seen, course.infection, NEVER),
        infection_grade=jnp.where(seen, course.infection_grade, 0),
        infection_days=jnp.where(seen, last, 0.0),
        infection_concurrent=course.infection_concurrent & seen,
    )


def form_of(design: Design, follow_up: FollowUp = "horizon", record: bool = False) -> Form:
    """Return the form of the model that a fit uses."""
    return Form((design.structure_name,), design.steps_per_day, follow_up, record)


def simulate_trials(theta, z, region, keys, arm: Literal["mezikd", "kd"], design: Design) -> History:
    """Return the patients of one arm of the reported trial, many trials at once; its own regimen, rules and follow-up.

    The first four arguments are those of ``Batch``.
    """
    plan = plan_of(Scenario(regimen=design.regimen, arm=arm), design.horizon_weeks)
    return simulate_batch(Batch(theta, z, region, keys), plan, form_of(design, "trial"))
