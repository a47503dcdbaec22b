"""Tasks on worker processes, of this machine or of a Dask cluster (extra `cluster`): retried, results as they come.

Worker processes of this machine compute on its CPU: each of them would claim a GPU for itself.
"""

import json
import logging
import pickle
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Annotated, Any
from uuid import uuid4

import typer

from .errors import input_error, shown

LOCAL = "local"
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Worker processes: 'local' for one a core of this machine, or a Dask scheduler's address, "
        "tcp://host:8786, or its scheduler file, FILE.json [default: threads].",
    ),
]
"""The option of the commands."""
ADDRESS = re.compile(r"(?:tcp|tls)://(?P<host>\[[0-9A-Fa-f:]+\]|[\w.-]+):(?P<port>[0-9]{1,5})", re.ASCII)
TRIES = 3
"""How often a task is tried that raises an error."""
SECONDS = 10
"""How long a scheduler may take to answer."""
START = 120
"""How long it may take until the scheduler has written its file, and until a first worker is there, seconds."""
GO_ON = "give the same command again to go on"
ENVIRONMENT = {"JAX_PLATFORMS": "cpu"}
"""Of worker processes of this machine."""
RUN = uuid4().hex
"""What tells the tasks of this process from those of another one on the same workers."""
_made: dict[tuple[str, bytes], Callable[..., Any]] = {}
_making = Lock()


class Remote:
    """A function that each worker process makes once (compiles, say), by ``make()``, and calls for each task.

    It is kept there, beside others of the same run, until a task of another run comes. ``make`` and whatever the function takes and returns must be known to ``pickle``.
    """

    def __init__(self, make: Callable[[], Callable[..., Any]], versions: Mapping[str, str]):
        """``versions``: of the packages on which results depend; workers must have the same."""
        self.__name__ = "mezikd"  # as the task is called in Dask's dashboard and logs
        self._made, self._versions = (RUN, pickle.dumps(make)), dict(versions)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns; InputError on a worker with other versions."""
        there = {package: metadata.version(package) for package in self._versions}
        if differ := [f"{k} {there[k]} there, {v} here" for k, v in self._versions.items() if there[k] != v]:
            remedy = "install mezikd with the same constraints.txt on all of them"
            raise input_error("--cluster", f"a worker has other versions ({'; '.join(differ)})", remedy)
        with _making:
            if any(run != self._made[0] for run, _ in _made):
                _made.clear()
            if self._made not in _made:
                _made[self._made] = pickle.loads(self._made[1])()
            function = _made[self._made]
        return function(*arguments)


class Workers(Executor):
    """Tasks on the workers of a Dask client.

    Each result is fetched at once and let go of there: Dask would do it again when the worker that holds it dies.
    """

    def __init__(self, client: Any):
        self._client, self._running = client, set()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:  # pyright: ignore
        """Return the future result of ``function(*arguments)``; a task that raises an error is tried TRIES times."""
        here, there = Future(), self._client.submit(function, *arguments, pure=False, retries=TRIES - 1)
        self._running.add(there)  # Dask drops what nobody holds
        there.add_done_callback(partial(self._fetch, here))
        return here

    def _fetch(self, here: Future, there: Any) -> None:
        try:
            here.set_result(there.result())
        except BaseException as error:
            here.set_exception(error)
        there.release()
        self._running.discard(there)


def check_refits(where: str | None, refit: bool) -> None:
    """Raise InputError where there is a cluster and nothing is to be fitted again on it."""
    if where is not None and not refit:
        raise input_error("--cluster", "given without --refit", "give both, or neither: only refits go to workers")


@contextmanager
def cluster_workers(where: str | None) -> Iterator[Executor | None]:
    """Yield an executor whose tasks run on the workers of ``where``, or None where that is None.

    A task whose worker dies goes to another one. When the block ends early, what has not begun is dropped.

    Parameters
    ----------
    where: 'local' for new worker processes on this machine, one a core, on the CPU; or the address of a Dask scheduler, or
        the file that it writes (`dask scheduler --scheduler-file`), which need not be there yet.

    Raises
    ------
    InputError: Dask is not installed; no scheduler answers, or it is lost; no worker comes; every worker that took up some
        task died.
    """
    if where is None:
        yield None
        return
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError:
        remedy = "install the extra: pip install 'mezikd[cluster]'; or do without --cluster"
        raise input_error("--cluster", "Dask is not installed", remedy) from None
    if where != LOCAL:
        where = _in_file(Path(where)) if where.endswith(".json") else where
        _check(where)
    from .mode import CORES

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what goes wrong is told here
    one_each: dict[str, Any] = {
        "n_workers": CORES,
        "threads_per_worker": 1,
        "memory_limit": 0,
        "dashboard_address": ":0",
        "env": ENVIRONMENT,
    }
    silent: dict[str, Any] = {"silence_logs": logging.CRITICAL}
    try:
        with (
            _ended(LocalCluster(**one_each, **silent)) if where == LOCAL else nullcontext(where) as cluster,
            Client(cluster, timeout=SECONDS, set_as_default=False) as client,
        ):
            _wait_for_a_worker(client, where)
            yield Workers(client)
    except KilledWorker:
        problem = "every worker that took up a certain task died"
        raise input_error("--cluster", problem, f"give workers more memory, then {GO_ON}") from None
    except CancelledError:
        raise input_error("--cluster", f"the scheduler at {where} was lost", f"start it, then {GO_ON}") from None


@contextmanager
def _ended(cluster: Any) -> Iterator[Any]:
    """Close a cluster at the end; a worker that was just being started anew after a death is no mistake then."""
    try:
        yield cluster
    finally:
        with suppress(AssertionError):
            cluster.close()


def _in_file(path: Path) -> str:
    """Return the address in a scheduler file, once it is there; InputError where none comes, or it holds none."""
    until = time.monotonic() + START
    while True:
        try:
            return str(json.loads(path.read_text("utf-8"))["address"])
        except (OSError, ValueError, LookupError, TypeError):  # not there, or not whole yet
            if time.monotonic() > until:
                remedy = "start one with `dask scheduler --scheduler-file`, and name the same file"
                raise input_error(
                    path, f"no Dask scheduler has written its address there in {START} s", remedy
                ) from None
        time.sleep(0.2)


def _wait_for_a_worker(client: Any, where: str) -> None:
    """Return when the first worker is there; others may come later. InputError where none comes."""
    try:
        client.wait_for_workers(1, timeout=START)
    except TimeoutError:
        remedy = "start some with `dask worker`"
        raise input_error("--cluster", f"no worker has come to {where} in {START} s", remedy) from None


def _check(where: str) -> None:
    """Raise InputError unless ``where`` is the address of a Dask scheduler that answers."""
    import asyncio

    from distributed.comm.core import connect
    from distributed.security import Security

    if not ADDRESS.fullmatch(where):
        allowed = "local, the address of a Dask scheduler such as tcp://host:8786, or its scheduler file, FILE.json"
        raise input_error("--cluster", f"value {shown(where)} is not allowed", "give another value", allowed=allowed)

    async def answer() -> None:
        comm = await connect(where, **Security().get_connection_args("client"))
        await comm.close()

    try:
        asyncio.run(asyncio.wait_for(answer(), SECONDS))
    except Exception:  # anything may answer at a port, or nothing
        remedy = "start one with `dask scheduler` and give the address that it tells, or --cluster local"
        raise input_error("--cluster", f"no Dask scheduler answers at {where}", remedy) from None
