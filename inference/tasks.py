"""Tasks for threads or worker processes, whose results are saved as they come: what is saved is not done again."""

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from .files import load_pickle, save_pickle


class Task(NamedTuple):
    """Something to do: ``function(*arguments)``."""

    file: Path
    """Where its result is kept."""
    function: Callable[..., Any]
    arguments: tuple


def results_of[Key: Hashable](
    pool: Executor,
    tasks: Mapping[Key, Task],
    come: Callable[[], None] = lambda: None,
    more: Callable[[Key, Any], Mapping[Key, Task]] = lambda key, result: {},
) -> dict[Key, Any]:
    """Return the results of ``tasks`` by their keys, each saved in its file as it comes.

    Parameters
    ----------
    pool: threads, or worker processes (cluster.py).
    come: called after each result, also of those that were saved before.
    more: (key, result) -> tasks that are wanted in addition, now that it is there.
    """
    found: dict[Key, Any] = {}
    done: SimpleQueue[Future] = SimpleQueue()
    waiting: dict[Future, tuple[Key, Task]] = {}

    def ask(tasks: Mapping[Key, Task]) -> None:
        for key, task in tasks.items():
            saved = load_pickle(task.file)
            if saved is not None:
                take(key, saved)
                continue
            future = pool.submit(task.function, *task.arguments)
            waiting[future] = key, task
            future.add_done_callback(done.put)

    def take(key: Key, result: Any) -> None:
        found[key] = result
        come()
        ask(more(key, result))

    ask(tasks)
    while waiting:
        future = done.get()
        key, task = waiting.pop(future)
        result = future.result()
        save_pickle(task.file, result)
        take(key, result)
    return found
