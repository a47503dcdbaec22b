"""From the geometry at the mode to the draws of all chains: pilot, common step, kept draws, more while they mix too slowly."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .files import load_pickle, save_pickle
from .mode import CORES, Gradient
from .sampler import BLOCK, Draws, Geometry, Sampler, frozen, run_chain
from .step_size import common_step
from .whitening import refined
from .workers import workers

MORE_BLOCKS = 2
"""Blocks by which every chain goes on at a time."""


KeptAs = Callable[[np.ndarray], Any]
"""Turns the sampler's coordinates (last axis) into those that are kept."""
Enough = Callable[[np.ndarray], bool]
"""Whether kept draws (chain, draw, parameter) pass the gate. R-hat of draws folded at their median depends on the scale."""


class Sampled(NamedTuple):
    """What sampling gives."""

    draws: Draws
    """Kept draws; leading axes: chains, draws."""
    gradients: int
    """Of all chains, warm-up included."""
    seconds: float
    cpu_seconds: float
    """Of all cores."""


def sample(
    sampler: Sampler,
    geometry: Geometry,
    gradient: Gradient,
    work: Path,
    kept_as: KeptAs,
    console: Console,
    at_once: int = CORES,
    refine: bool = True,
    enough: Enough | None = None,
) -> Sampled:
    """Return the kept draws of every chain; ``kept_as`` turns the sampler's coordinates into those that are kept.

    ``at_once`` chains run side by side; with ``refine`` the draws of a pilot give better coordinates than ``geometry``.

    While R-hat or an effective sample size misses the gate (``enough``; None: of the coordinates kept), all chains go on by MORE_BLOCKS, up to ``more_draws`` further
    draws each: the same chains, nothing dropped. Blocks are saved in ``work`` as they come, so an interrupted run goes on.
    """
    from .diagnostics import mixed  # seconds of imports, which no compilation need wait for

    s = sampler.settings
    pilot, adapt, kept = s.pilot_blocks() if refine else 0, s.step_blocks(), s.draw_blocks()
    most = kept + -(-s.more_draws // BLOCK)
    begin, cpu, lock = time.perf_counter(), time.process_time(), threading.Lock()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar, workers(at_once) as pool:
        tasks = [bar.add_task(f"chain {c + 1}", total=(pilot + adapt + kept) * BLOCK) for c in range(s.chains)]

        def run(
            stage: str, geometry: Geometry, blocks: int, before: int, starts: list[Callable[[], Any]]
        ) -> tuple[list[Any], list[list[Draws]]]:
            """Return the last state and ``blocks`` of every chain, which have ``before`` blocks behind them."""

            def one(chain: int) -> tuple[Any, list[Draws]]:
                path = work / f"{stage}{chain}.pickle"

                def progress(done: list[Draws], state) -> None:
                    save_pickle(path, (jax.tree.map(np.asarray, state), done))
                    with lock:
                        bar.update(tasks[chain], completed=(before + len(done)) * BLOCK)

                return run_chain(sampler, geometry, starts[chain], blocks, load_pickle(path), progress)

            states, chains = zip(*pool.map(one, range(s.chains)), strict=True)
            return list(states), list(chains)

        def at(geometry: Geometry, z: list) -> list[Callable[[], Any]]:
            return [partial(sampler.start, c, geometry, z[c], gradient) for c in range(s.chains)]

        _, pilots = run("pilot", geometry, pilot, 0, at(geometry, [None] * s.chains))
        better = refined(geometry, pilots) if refine else geometry
        states, adapted = run("adapt", better, adapt, pilot, at(better, [p[-1].z[-1] if p else None for p in pilots]))
        step = common_step(adapted, s.target_accept)
        starts = [partial(frozen, state, s, step) for state in states]
        while True:
            _, chains = run("chain", better, kept, pilot + adapt, starts)
            chains = [blocks[:kept] for blocks in chains]  # a resumed run may have more of some
            draws = _stacked(chains, kept_as, s.draws if kept == s.draw_blocks() else None)
            if kept >= most or (enough or mixed)(draws.z):
                break
            kept = min(kept + MORE_BLOCKS, most)
            console.print(f"chains mix too slowly for the gate: going on to {kept * BLOCK} draws each")
            for task in tasks:
                bar.update(task, total=(pilot + adapt + kept) * BLOCK)
    gradients = int(sum(b.steps.sum() for c in (*pilots, *adapted, *chains) for b in c))
    return Sampled(draws, gradients, time.perf_counter() - begin, time.process_time() - cpu)


def _stacked(chains: list[list[Draws]], kept_as: KeptAs, draws: int | None) -> Draws:
    """Return the first ``draws`` of each chain side by side, in the coordinates that are kept."""
    joined = [[np.concatenate(x)[:draws] for x in zip(*blocks, strict=True)] for blocks in chains]
    stacked = Draws(*(np.stack(x) for x in zip(*joined, strict=True)))
    return stacked._replace(z=np.asarray(kept_as(stacked.z)))
