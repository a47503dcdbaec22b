"""Threads for work side by side, not waited for when the user interrupts it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``count`` threads.

    After an interrupt what runs is left to itself (the process ends, and every file is written whole or not at all); after
    another error what has not begun is dropped and the rest waited for.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
