"""The folder for results: one process at a time writes there, results appear together, unfinished work is gone on with."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import input_error
from .files import to_disk, write_whole
from .places import check_out

try:
    import fcntl
except ImportError:  # Windows: no lock is kept there
    fcntl = None

UNFINISHED, FINGERPRINT = "unfinished", "inputs.json"
"""Folder of saved work, with which the same command goes on; file in it that says what the work is."""
NEW, LOCK = ".new", ".lock"
"""Results that are still being written; file that the writing process has locked."""
OURS = frozenset({NEW, LOCK})


class Stopped(Exception):
    """A run that was interrupted; the message says what is left of it and how to go on."""


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Make ``out`` and keep every other process from writing there; where nothing is written, leave no trace.

    The system gives the lock back when its process ends, however it ends.

    Raises
    ------
    InputError: as ``check_out``, or another process writes there.
    Stopped: the block was interrupted.
    """
    check_out(out)
    new = not out.exists()
    out.mkdir(exist_ok=True)
    handle = _lock(out)
    try:
        yield
    except KeyboardInterrupt:
        kept = f"what is done is saved in {out / UNFINISHED}: give the same command again (without --restart) to go on"
        saved = (out / UNFINISHED / FINGERPRINT).exists()
        raise Stopped(f"interrupted; {kept if saved else f'nothing in {out} was changed'}") from None
    finally:
        shutil.rmtree(out / NEW, ignore_errors=True)
        (out / LOCK).unlink(missing_ok=True)
        os.close(handle)
        if new and not any(out.iterdir()):
            out.rmdir()


def _lock(out: Path) -> int:
    """Return the open lock file of ``out``; InputError where another process has it."""
    path = out / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            remedy = "wait until it ends, or name another --out"
            raise input_error(out, "another process is writing there", remedy) from None
        except FileNotFoundError:
            pass  # whoever had the lock has just ended, and took the file away
        os.close(handle)


def new_results(out: Path) -> Path:
    """Return an empty folder in ``out`` for results, which ``publish`` then moves to their places."""
    new = out / NEW
    if new.exists():
        shutil.rmtree(new)  # of a process that was killed
    (new / "figures").mkdir(parents=True)
    return new


def publish(out: Path, last: str | None = None, outdated: Iterable[str] = ()) -> None:
    """Move the files of ``new_results`` to their places in ``out``, once all of them are on the disk.

    Until then no file in ``out`` is touched. ``last`` is the file that says that the others are there; ``outdated`` are
    files of an earlier run, as paths in ``out``, of which those not written anew are removed.
    """
    new = out / NEW
    files = sorted((p for p in new.rglob("*") if p.is_file()), key=lambda p: (p.name == last, p))
    for path in files:
        to_disk(path)
    places = [path.relative_to(new) for path in files]
    for old in {Path(x) for x in outdated} - set(places):
        (out / old).unlink(missing_ok=True)
    for place in places:
        (out / place.parent).mkdir(exist_ok=True)
        (new / place).replace(out / place)
    to_disk(out)
    shutil.rmtree(new)


def resume_or_begin(out: Path, what: str, fingerprint: str, finished: str | None, restart: bool) -> bool:
    """Make ``out``/unfinished ready and return whether there is work of the same ``fingerprint`` to go on with.

    Parameters
    ----------
    what: 'fit' or 'calibration'.
    finished: the file that is in ``out`` when such work is finished; None where finished work may be replaced.
    restart: what is unfinished is dropped; what is finished stays until the new results take its place.

    Raises
    ------
    InputError: ``out`` holds finished work, or unfinished work of another fingerprint.
    """
    work, saved = out / UNFINISHED, out / UNFINISHED / FINGERPRINT
    if saved.exists() and not restart:
        if saved.read_text("utf-8") == fingerprint:
            return True
        remedy = "name another --out, or --restart to begin anew"
        raise input_error(out, f"holds an unfinished {what} of other inputs, settings or versions", remedy)
    if finished is not None and (out / finished).exists() and not restart:
        raise input_error(out, f"holds a finished {what}", "name another --out, or --restart to replace it")
    drop_unfinished(out)
    work.mkdir(parents=True)
    write_whole(saved, lambda p: p.write_text(fingerprint, "utf-8"))
    return False


def drop_unfinished(out: Path) -> None:
    """Remove saved work. What says what it is goes first: a process killed here leaves nothing to go on with."""
    (out / UNFINISHED / FINGERPRINT).unlink(missing_ok=True)
    if (out / UNFINISHED).exists():
        shutil.rmtree(out / UNFINISHED)
