"""Many chains side by side from start to kept draws: scale, step size and length of trajectories found on the way."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .diagnostics import MAX_DIVERGENT, mixed
from .files import load_pickle, save_pickle
from .sampler import BLOCK, Draws, SamplerSettings
from .sampling import MORE_BLOCKS, Enough, KeptAs, Sampled
from .side_by_side import Block, Place, Scale, SideBySide
from .step_size import step_for
from .whitening import SHRINK, matching_covariance

FIRST_STEP = 0.2
FIRST_LENGTH = 0.5 * np.pi
"""A quarter of the period of a standard normal: from there draws are independent of where they came from."""
JITTER = 0.4
"""Share of the length by which trajectories are shorter or longer. From 0 to twice the length, as in the paper, |u| is half of
what it was on average however long they are, and R-hat of its spread needs twice the draws."""
LENGTHS = (0.3, 15.0)
"""Bounds of the mean length (time) of a trajectory."""
PRIOR_DRAWS = 100.0
"""Weight of the scale in use of each patient's coordinates, in draws."""
STILL = 0.05
"""Mean acceptance below which a chain stands still: where it is, the step that suits the others is far too long."""
CURVATURES = (0.2, 5.0)
"""Bounds of a: effects are about standard normal to begin with."""
RATE = 0.025
"""Of Adam, as in the paper."""
SHORTER = 0.7
"""Factor of the step where trajectories diverge too often: from an acceptance of 0.8 to one of 0.9."""
CLEARLY = 3.0
"""Times the gate's share of divergences beyond which chains do not go on with their step."""


class Tuning(NamedTuple):
    """How trajectories are made, and Adam's memory."""

    step_size: float = FIRST_STEP
    length: float = FIRST_LENGTH
    """Mean time of a trajectory."""
    mean: float = 0.0
    square: float = 0.0
    updates: int = 0


class Run(NamedTuple):
    """Everything that the next block depends on, and what came before: what is saved."""

    place: Place
    scale: Scale
    tuning: Tuning
    warm: list[Block]
    """Warm-up since the scale was last changed."""
    kept: list[Block]
    done: int
    """Blocks done."""
    gradients: int
    seconds: float
    cpu_seconds: float


def jitter(number: np.ndarray) -> np.ndarray:
    """Return the ``number``-th points of the van der Corput sequence, in (0, 1)."""
    number, out, part = np.asarray(number) + 1, np.zeros(len(number)), 0.5
    while number.any():
        out, number, part = out + part * (number % 2), number // 2, 0.5 * part
    return out


def steps_of(tuning: Tuning, first: int, most: int) -> np.ndarray:
    """Return the leapfrog steps of the next ``BLOCK`` transitions, which have ``first`` behind them."""
    time = tuning.length * (1.0 + JITTER * (2.0 * jitter(first + np.arange(BLOCK)) - 1.0))
    return np.clip(np.rint(time / tuning.step_size), 1, most).astype(int)


def tuned(tuning: Tuning, block: Block, target_accept: float) -> Tuning:
    """Return the tuning after a block of warm-up: Adam on the log of the length, the step by the law of step_size.py."""
    mean, square, n, log_length = tuning.mean, tuning.square, tuning.updates, np.log(tuning.length)
    for slope, steps in zip(block.criterion, block.steps, strict=True):
        g = slope * steps * tuning.step_size  # d criterion / d log length
        n += 1
        mean, square = 0.9 * mean + 0.1 * g, 0.95 * square + 0.05 * g * g
        log_length += RATE * (mean / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.95**n)) + 1e-12)
    length = float(np.clip(np.exp(log_length), *LENGTHS))
    step = step_for([(tuning.step_size, block.accept)], target_accept)
    step = float(np.clip(step, 0.5 * tuning.step_size, 2.0 * tuning.step_size))
    return Tuning(step, length, mean, square, n)


def rescaled(scale: Scale, warm: list[Block]) -> Scale:
    """Return the scale that draws and their gradients suggest; the first block is left out.

    Of a normal target the slope g in an own coordinate u is -(a u + c's), s what is shared, so that u is about -c's/a given s.
    Regressed on positions slopes tell a and c from few draws, without error where the target is normal. For the shared
    coordinates then see whitening.py; along directions in which positions and slopes tell of different scales, positions decide.
    """
    kept = warm[1:] or warm
    z = np.concatenate([b.z.reshape(-1, b.z.shape[-1]) for b in kept])
    slope = np.concatenate([b.slope.reshape(-1, b.slope.shape[-1]) for b in kept])
    u, shared = scale.to_u(z), scale.whiten.shape[0]
    u, slope = u - u.mean(axis=0), slope - slope.mean(axis=0)
    s, own, of_own = u[:, :shared], u[:, shared:], slope[:, shared:]
    gram = s.T @ s + SHRINK * shared * np.eye(shared)

    def from_shared(x):
        return np.linalg.solve(gram, s.T @ x)

    rest, of_rest = own - s @ from_shared(own), of_own - s @ from_shared(of_own)
    a = (PRIOR_DRAWS - (rest * of_rest).sum(axis=0)) / (PRIOR_DRAWS + (rest * rest).sum(axis=0))
    a = np.clip(a, *CURVATURES)
    move = from_shared(of_own + a * own) / a  # shared own
    root = np.linalg.cholesky(matching_covariance(s, slope[:, :shared] + of_own @ move.T))
    # Of a normal target positions spread by 1 in these coordinates, and so do slopes. Along a bent ridge both spread more, as
    # its walls turn: trajectories as long as others pass along it only where positions alone decide.
    at = np.linalg.solve(root, s.T)
    values, vectors = np.linalg.eigh((at @ at.T + SHRINK * shared * np.eye(shared)) / (len(s) + SHRINK * shared))
    root = root @ vectors * np.sqrt(np.maximum(values, 1.0))
    ratio = np.sqrt((own - s @ move).std(axis=0) / np.maximum(of_own.std(axis=0), 1e-12))
    whiten, spread = np.asarray(scale.whiten), np.asarray(scale.spread)
    follow = np.asarray(scale.follow) + np.linalg.solve(whiten.T, spread * move).T
    return Scale(z.mean(axis=0), whiten @ root, spread * ratio ** (len(u) / (len(u) + PRIOR_DRAWS)), follow)


def going_on_from(warm: list[Block]) -> np.ndarray:
    """Return the number of the chain from whose place each chain goes on: its own, another's where it stands still.

    Only while the scale is sought: where a chain begins is free. Chains part again at once, each with momenta of its own.
    """
    moves = np.concatenate([b.accept for b in warm]).mean(axis=0) >= STILL
    number = np.arange(len(moves))
    return np.where(moves, number, number[moves][number % moves.sum()]) if moves.any() else number


def sample_side_by_side(
    sampler: SideBySide,
    settings: SamplerSettings,
    scale: Scale,
    data: Any,
    work: Path,
    console: Console,
    kept_as: KeptAs = np.asarray,
    enough: Enough | None = None,
) -> Sampled:
    """Return the kept draws of all chains; saved block by block in ``work``, so that an interrupted run goes on.

    ``kept_as`` turns the sampler's coordinates into those that are kept; ``enough``: as ``sampling.sample``.

    Two thirds of the warm-up find the scale (twice), all of it the step and the length; more draws as in sampling.sample.
    Where divergences alone miss the gate, or miss it clearly, draws are kept anew with a shorter step, as far as ``more_draws``
    allows: those before count as warm-up.
    """
    s, path = settings, work / "side_by_side.pickle"
    pilot, adapt = s.pilot_blocks(), s.step_blocks()
    changes, warm = {max(1, pilot // 2), pilot}, pilot + adapt
    most = s.draw_blocks() + -(-s.more_draws // BLOCK)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    run: Run | None = load_pickle(path)
    if run is None:
        key = jax.random.PRNGKey(s.seed)
        first, second = jax.random.split(key)
        u = np.asarray(jax.random.normal(first, (sampler.chains, sampler.coordinates)))
        place = sampler.at(np.asarray(jax.random.split(second, sampler.parts)), u, scale, data)
        run = Run(place, jax.tree.map(np.asarray, scale), Tuning(), [], [], 0, 0, 0.0, 0.0)
    wanted = s.draw_blocks()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{s.chains} chains", completed=run.done * BLOCK)
        while True:
            before = max(warm, run.done - len(run.kept))
            bar.update(task, total=(before + wanted) * BLOCK)
            if len(run.kept) < wanted:
                run = _next(sampler, s, run, data, changes, warm)
                save_pickle(path, run)
                bar.update(task, completed=run.done * BLOCK)
                continue
            # A resumed run may have more blocks than were wanted at first; what is kept is decided as without interruption.
            draws = _stacked(run.kept[:wanted], s.draws if wanted == s.draw_blocks() else None)
            draws = draws._replace(z=np.asarray(kept_as(draws.z)))
            good, divergent = (enough or mixed)(draws.z), draws.diverging.mean() / MAX_DIVERGENT
            room = most - (before - warm)  # blocks, those kept before a shorter step taken off
            left = room - wanted
            last = left - MORE_BLOCKS < s.draw_blocks()  # later there is no room to begin anew
            if divergent > (1.0 if good or last else CLEARLY) and left >= s.draw_blocks():
                console.print(
                    f"divergences {int(draws.diverging.sum())} of {draws.diverging.size}: keeping draws anew with a shorter step"
                )
                run = run._replace(kept=[], tuning=run.tuning._replace(step_size=SHORTER * run.tuning.step_size))
                save_pickle(path, run)
                wanted = s.draw_blocks()
            elif good or not left:
                return Sampled(draws, run.gradients, run.seconds, run.cpu_seconds)
            else:
                wanted = min(wanted + MORE_BLOCKS, room)
                console.print(f"chains mix too slowly for the gate: going on to {wanted * BLOCK} draws each")


def _next(sampler: SideBySide, s: SamplerSettings, run: Run, data: Any, changes: set[int], warm: int) -> Run:
    """Return the run a block later."""
    clock, cpu = time.perf_counter(), time.process_time()
    place, scale, tuning, blocks = run.place, run.scale, run.tuning, run.warm
    if run.done in changes:
        chain = going_on_from(blocks)
        moving = np.unique(chain)
        scale = rescaled(scale, [b._replace(z=b.z[:, moving], slope=b.slope[:, moving]) for b in blocks])
        u = scale.to_u(run.scale.to_z(np.asarray(place.u)[chain]))
        place, blocks = sampler.at(np.asarray(place.key), u, scale, data), []
    if run.done == warm:
        tuning = tuning._replace(step_size=step_for([(b.step_size[0], b.accept) for b in blocks], s.target_accept))
    steps = steps_of(tuning, run.done * BLOCK, 2**s.max_tree_depth)
    place, block = sampler.advance(place, steps, tuning.step_size, scale, data)
    kept = run.kept
    if run.done < warm:
        tuning, blocks = tuned(tuning, block, s.target_accept), [*blocks, block]
    else:
        kept, blocks = [*kept, block], []
    gradients = run.gradients + int(steps.sum()) * sampler.chains
    took, took_cpu = time.perf_counter() - clock, time.process_time() - cpu
    return Run(
        place, scale, tuning, blocks, kept, run.done + 1, gradients, run.seconds + took, run.cpu_seconds + took_cpu
    )


def _stacked(blocks: list[Block], draws: int | None) -> Draws:
    """Return the first ``draws`` of each chain; leading axes: chains, draws."""
    b = Block(*(np.concatenate(x)[:draws] for x in zip(*blocks, strict=True)))
    chains = b.z.shape[1]

    def by_chain(x):
        return np.swapaxes(x, 0, 1)

    return Draws(
        z=by_chain(b.z), log_density=by_chain(b.log_density), energy=by_chain(b.energy), accept=by_chain(b.accept),
        steps=np.tile(b.steps, (chains, 1)), diverging=by_chain(b.diverging), step_size=np.tile(b.step_size, (chains, 1)),
        slope=by_chain(b.slope), agreed=np.ones_like(by_chain(b.diverging), bool),
    )  # fmt: skip
