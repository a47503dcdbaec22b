"""Where compiled programs are kept, and that a run with them gives the bytes of a run without."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from mezikd.inference import processor


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user without a cache folder."""
    monkeypatch.delenv("MEZIKD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_folder_of_this_processor_in_the_users_cache(home, monkeypatch):
    folder = processor.program_folder()
    assert folder is not None and folder.parent == home / "cache" / "mezikd" and folder.is_dir()
    monkeypatch.setattr(processor, "_processor", lambda: "other")
    assert processor.program_folder() not in (None, folder)


def test_elsewhere_off_or_impossible(home, monkeypatch):
    monkeypatch.setenv("MEZIKD_CACHE", str(home / "mine"))
    assert processor.program_folder().parent == home / "mine"
    monkeypatch.setenv("MEZIKD_CACHE", "off")
    assert processor.program_folder() is None
    (home / "file").write_text("")
    monkeypatch.setenv("MEZIKD_CACHE", str(home / "file" / "below"))
    assert processor.program_folder() is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("MEZIKD_CACHE", str(home / "mine"))
    assert processor.program_folder() is None


KEPT = """
import ctypes, resource, sys, threading
from mezikd.inference.processor import keep_memory
assert "keep" not in sys.argv or keep_memory(shared=True)
c, faults = ctypes.CDLL(None), []
c.malloc.restype = c.memset.restype = ctypes.c_void_p
c.malloc.argtypes, c.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def use():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = c.malloc(100 << 20)
        c.memset(block, 1, 100 << 20)
        c.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=use)
thread.start()
thread.join()
print(faults[-1])
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="told to glibc only")
def test_memory_of_a_thread_is_kept():
    """100 MB taken by a thread for the third time fault in no page; they do where glibc was told nothing."""
    told, untold = (
        int(subprocess.run([sys.executable, "-c", KEPT, *more], check=True, capture_output=True, text=True).stdout)
        for more in (("keep",), ())
    )
    assert told < 20 < untold


@pytest.mark.slow
def test_a_program_kept_on_disk_is_used_and_gives_the_same_bytes(tmp_path):
    """The second process compiles nothing that the first has compiled, damaged files are compiled anew."""
    told = []
    for run in range(3):
        out = tmp_path / str(run)
        cache = tmp_path / "cache"
        if run == 2:
            for path in cache.rglob("*-cache"):
                path.write_bytes(path.read_bytes()[:100])
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "mezikd.inference.commands", "predict", "--draws", "20", "--patients", "64",
             "--months", "3", "--out", str(out)],
            env=os.environ | {"MEZIKD_CACHE": str(cache), "JAX_LOG_COMPILES": "0"}, check=True, capture_output=True,
        )  # fmt: skip
        told.append((out / "predictions.csv").read_bytes())
        kept = {p.name for p in cache.rglob("*-cache")}
        assert all(any(part in name for name in kept) for part in ("prepared", "followed")), kept
    assert told[0] == told[1] == told[2]
