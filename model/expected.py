"""Expected reported quantities: what the trial's summaries tend to in the mean-field model.

Daily scan (course.py) -> weekly scan (outcomes.py) -> the marginal probabilities that reported numbers estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from . import infection, observation, outcomes, progression, rules
from .course import HELD, UNTOUCHED, expected_course, repeat_last
from .dose_intensity import rdi_distribution
from .individuals import individuals
from .outcomes import Person, Tally, Weekly
from .over_devices import mean_over
from .parameters import RECHECK_DELAY_DAYS, REGIONS
from .patients import Cohort
from .regimen import DAYS_PER_MONTH
from .trial_design import ARMS, Design

NOBODY = 1e-200
"""Survival below this counts as none left: keeps its logarithm finite, and the gradient, where a wide draw underflows."""


@dataclass(frozen=True)
class Cuts:
    """Values at which distributions are wanted; the quartiles that a trial reported."""

    rdi: Sequence[float] | Array = (0.25, 0.5, 0.75)
    """Shares of the planned dose."""
    neutropenia_days: Sequence[float] | Array = (6.0, 10.0, 15.0)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["tally", "follow_up", "rdi", "neutropenia_duration", "grade4"],
    meta_fields=["design"],
)
@dataclass(frozen=True)
class Expected:
    """Marginal probabilities of both arms, from the weekly means of arm x region."""

    tally: Tally
    design: Design
    follow_up: Float[Array, "weeks"]
    """P(data cutoff later than the start of each week)."""
    rdi: Float[Array, "rdi_cuts"]
    """P(relative dose intensity <= cut) in the mezigdomide arm at ``Cuts.rdi``."""
    neutropenia_duration: Float[Array, "duration_cuts"]
    """P(duration <= cut) of first episodes of grade >= 3 neutropenia in the mezigdomide arm that begin while the
    course is followed day by day (nearly all), at ``Cuts.neutropenia_days``."""
    grade4: dict[str, Array]
    """Share of severe infections whose worst grade is 4, by arm."""

    def groups(self, per_group, arm: str) -> Float[Array, "weeks regions"]:
        """Return the columns of one arm."""
        i = ARMS.index(arm) * len(REGIONS)
        return per_group[..., i : i + len(REGIONS)]

    def of(self, per_group, arm: str, subgroup: str = "all"):
        """Return the value of one arm, or of one region of it."""
        x = self.groups(per_group, arm)
        if subgroup != "all":
            return x[..., REGIONS.index(subgroup)]
        n = np.array(self.design.arm(arm).regions, float)
        return x @ (n / n.sum())

    def ever(self, weekly: str, arm: str, subgroup: str = "all"):
        """Return the probability of the event named ``weekly`` (a field of Tally) at any time."""
        return self.of(getattr(self.tally, weekly).sum(axis=0), arm, subgroup)

    def pfs_median(self, arm: str):
        """Return the marginal median of progression-free survival, months."""
        s = self.of(self.tally.free, arm)
        months = jnp.arange(s.shape[0]) * progression.WEEK_MONTHS
        return progression.median_time(months, jnp.log(jnp.maximum(s, NOBODY)))

    def log_hazard_ratio(self):
        """Return the log hazard ratio of progression or death that an unstratified Cox model tends to."""
        t = self.tally
        at_risk, events = (jnp.stack([self.of(x, a) for a in ARMS[::-1]]) for x in (t.pfs_at_risk, t.pfs_events))
        return progression.cox_log_hazard_ratio(at_risk, events, jnp.asarray(self.design.shares()))

    def severe_onset(self, arm: str, days) -> Float[Array, "cuts"]:
        """Return the distribution of the onset of severe infection among those with one."""
        total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(self.of(self.tally.severe, arm))])
        return _interpolate(total, jnp.asarray(days) / 7.0) / total[-1]

    def treatment_duration(self, arm: str, months) -> Float[Array, "cuts"]:
        """Return P(duration of treatment <= months); treatment still going on counts up to data cutoff."""
        longer = self.of(self.tally.treated, arm) * self.follow_up
        return 1.0 - _interpolate(longer, jnp.asarray(months) * DAYS_PER_MONTH / 7.0)

    def observed_follow_up(self, months) -> Float[Array, "cuts"]:
        """Return P(follow-up <= months) over both arms: ended by death or data cutoff."""
        alive = sum(n * self.of(self.tally.alive, a) for n, a in zip(self.design.shares(), ARMS[::-1], strict=True))
        return 1.0 - _interpolate(alive * self.follow_up, jnp.asarray(months) * DAYS_PER_MONTH / 7.0)


def _interpolate(x, position):
    """Return ``x`` at fractional indices, linear between its entries; the last entry beyond them."""
    position = jnp.clip(position, 0.0, x.shape[0] - 1.0)
    low = jnp.minimum(jnp.floor(position).astype(int), x.shape[0] - 2)
    share = position - low
    return (1.0 - share) * x[low] + share * x[low + 1]


def group_means(x, sizes: Sequence[int]):
    """Return the means over the patients of each arm and region; patients come arm by arm, region by region."""
    parts, at = [], 0
    for n in sizes:
        parts.append(x[..., at : at + n].reshape(*x.shape[:-1], len(REGIONS), -1).mean(axis=-1))
        at += n
    return jnp.concatenate(parts, axis=-1)


class _Week(NamedTuple):
    """What is kept of the days of a week."""

    infection: infection.Intensity
    below: Array
    """Probability of a count below 1.0 on its first day."""
    episode: Array


def mixed(x, never):
    """Return the mean of ``x`` (second but last axis: paths) over patients untouched, share ``never``, and held."""
    untouched, held = x[..., UNTOUCHED, :], x[..., HELD, :]
    return held + never * (untouched - held)


AT_ONCE, OF_MORE = 256, 128
"""Virtual patients of mezigdomide followed side by side, at most, and how many of those of more than that. The daily states of
more leave the caches, and all of them stay for the reverse pass: a gradient of 8,192 took 2.7 times as long as 32 of 256, and
2.9 GB. 64 of 128 take 12 to 18 % less again where both cores compute (they share a cache)."""


class _Means(NamedTuple):
    """Means over some patients, equally many of each region; those over more of them are means of these."""

    tally: Tally
    follow_up: Float[Array, "weeks"]
    rdi: Float[Array, "rdi_cuts"]
    outlasts: Float[Array, "duration_cuts"]
    """P(a first episode begins while followed day by day, and lasts longer than the cut)."""
    begins: Float[Array, ""]


def expected(theta, design: Design, mezikd: Cohort, kd: Cohort, cuts: Cuts, over: Mesh | None = None) -> Expected:
    """Return the expectations of both arms under natural parameters ``theta``.

    ``over``: devices over which the virtual patients are spread, at most as many as there are of each region and arm, and a
    divisor of their number. Each follows its own; the means alone go from one to the other.
    """
    devices = 1 if over is None else over.size
    own, sizes = mezikd.size // devices, [c.size // len(REGIONS) // devices for c in (mezikd, kd)]
    chunks = 1 if own <= AT_ONCE else math.gcd(-(-own // OF_MORE), *sizes)
    parts = [in_chunks(cohort, devices * chunks) for cohort in (mezikd, kd)]

    def chunk(given, points):
        theta, values = given
        some, control = (replace(c, z=z, weight=w) for (c, _), (z, w) in zip(parts, points, strict=True))
        return _means(theta, design, some, control, Cuts(*values))

    def of_device(given, points):
        """Return the means over the chunks of a device."""
        first = jax.tree.map(lambda x: x[0], points)
        if chunks == 1:
            return chunk(given, first)
        again = jax.checkpoint(chunk)  # the reverse pass computes a chunk again: it needs the memory of one

        def add(total, points):
            return jax.tree.map(lambda t, x: t + x / chunks, total, again(given, points)), None

        like = jax.eval_shape(chunk, given, first)
        return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), points)[0]

    given, points = (theta, (cuts.rdi, cuts.neutropenia_days)), tuple(points for _, points in parts)
    means = of_device(given, points) if over is None else mean_over(over, of_device, given, points)
    grade4 = {arm: theta[f"infection_grade4_{arm}"] for arm in ARMS}
    return Expected(means.tally, design, means.follow_up, means.rdi, 1.0 - means.outlasts / means.begins, grade4)


def in_chunks(cohort: Cohort, chunks: int) -> tuple[Cohort, tuple[Array, Array]]:
    """Return the first of ``chunks`` equal parts of a cohort, and the effects and weights of all, chunks first.

    Patients come region by region, equally many of each; so they do in each part, whose weights sum to 1.
    """

    def parted(x) -> Any:
        x = x.reshape(*x.shape[:-1], len(REGIONS), chunks, -1)
        moveaxis = np.moveaxis if isinstance(x, np.ndarray) else jnp.moveaxis
        return moveaxis(x, -2, 0).reshape(chunks, *x.shape[:-3], -1)

    z, weight = parted(cohort.z), parted(cohort.weight) * chunks
    return Cohort(z[0], parted(cohort.region)[0], weight[0]), (z, weight)


def _means(theta, design: Design, mezikd: Cohort, kd: Cohort, cuts: Cuts) -> _Means:
    """Return the means over some virtual patients."""
    weeks, cycle = design.horizon_weeks, design.regimen.cycle_days // 7
    structure, sigma = design.structure, theta["sigma_anc"]
    drug, control = individuals(theta, mezikd, structure), individuals(theta, kd, structure)

    rule = rules.HoldRule(
        theta["hold_grade3"], theta["reduce_after_hold"], sigma, theta.get("log_resume", rules.LOG_GRADE3)
    )
    durations = jnp.asarray(cuts.neutropenia_days) - 0.5  # whole days: half of the cut's own day counts
    episode = observation.EpisodeWeights(durations, RECHECK_DELAY_DAYS)

    def see(days):
        below = observation.below_limit(days.log_anc, sigma)
        intensity = infection.intensity(days.log_anc, days.arrest, below, theta)
        return _Week(intensity, below[0], episode.of_week(below, theta["recheck_days"]))

    course = expected_course(
        drug, design.regimen, rule, structure, weeks, design.daily_weeks, design.steps_per_day, see=see
    )
    seen = course.seen
    total, concurrent, tumour_block = (
        mixed(repeat_last(x, weeks, cycle), course.never) for x in (*seen.infection, course.tumour_block)
    )
    # A first count below 1.0 comes on full doses; what follows it depends on whether it leads to a hold.
    longer = episode.longer(seen.episode)
    below = seen.below[:, UNTOUCHED]
    kept_dose = 1.0 - course.first_hold[: len(below)] / (below + 1e-9)
    longer = mixed(longer, kept_dose[:, None])
    below = repeat_last(below, weeks, cycle)
    still = jnp.broadcast_to(control.log_anc0, (7, kd.size))
    below_still = observation.below_limit(still, sigma)
    hazard_still = infection.intensity(still, 0.0, below_still, theta)

    def both(a, b):
        """Return weekly ``a`` of the mezigdomide arm and constant ``b`` of Kd side by side."""
        return jnp.concatenate([a, jnp.broadcast_to(b, (*a.shape[:-1], kd.size))], axis=-1)

    visit = jnp.asarray(design.regimen.is_visit(weeks), float)
    month = np.arange(weeks + 1) * progression.WEEK_MONTHS
    follow_up = progression.in_follow_up(theta, month)
    middle = 0.5 * (follow_up[1:] + follow_up[:-1])

    def of_arms(name):
        return jnp.stack([theta[f"{name}_{arm}"] for arm in ARMS])

    sizes = mezikd.size, kd.size

    def spread(of_arms):
        """Spread an array with a last axis of arms over the patients."""
        parts = (of_arms[..., i : i + 1] for i in range(len(ARMS)))
        return jnp.concatenate([jnp.broadcast_to(x, (*x.shape[:-1], n)) for x, n in zip(parts, sizes, strict=True)], -1)

    lost = jnp.exp(-of_arms("dropout") * (month[:-1, None] + 0.5 * progression.WEEK_MONTHS))
    weekly = Weekly(
        base_hazard=progression.baseline_hazard(theta, weeks),
        early=jnp.stack([infection.early_factor(theta, arm, weeks) for arm in ARMS], axis=1),
        follow_up=follow_up[:-1],
        follow_up_middle=middle,
        follow_up_next=jnp.concatenate([follow_up[1:-1], jnp.zeros(1)]),
        lost=jnp.repeat(lost, len(REGIONS), axis=1),
        tumour_block=both(tumour_block, 0.0),
        infection=both(total, hazard_still.total),
        infection_concurrent=both(concurrent, hazard_still.concurrent),
        grade3=both(below, below_still[0]) * visit[:, None],
        hold=both(course.first_hold, 0.0),
        full_level=both(course.full_level, 1.0),
    )
    person = Person(
        progression_frailty=jnp.concatenate([drug.progression_frailty, control.progression_frailty]),
        infection_rate=jnp.concatenate([drug.infection_rate, control.infection_rate]),
        stop=of_arms("stop_rate") * progression.WEEK_MONTHS,
        untouched=jnp.concatenate([jnp.exp(theta["other_reduction"] * jnp.log(drug.intensity)), jnp.ones(kd.size)]),
    )
    tally, each = outcomes.tally(weekly, person, theta, partial(group_means, sizes=sizes), spread, design.tumour_memory)
    dosing = (course.dose, course.dose_variance, course.never)
    planned = design.regimen.planned(weeks).sum(axis=1)
    rdi = rdi_distribution(cuts.rdi, each.ends[:, : mezikd.size], *dosing, planned, drug.intensity)
    began = each.neutropenia[: len(longer), : mezikd.size]
    outlasts = (began[:, None] * longer).sum(axis=0) @ mezikd.weight
    return _Means(tally, follow_up[:-1], rdi @ mezikd.weight, outlasts, began.sum(axis=0) @ mezikd.weight)
