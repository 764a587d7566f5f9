"""Memory that was freed is kept in few places and goes back to the system, which is asked now and then only."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support import LIMIT_S

from geoseg.parallel import cores
from pipeline.infer import freed

MANY, SIZE, PINNED = 2000, 100_000, 50
SCRIPT = """
import ctypes, threading
from pipeline.infer.freed import small_heaps
small_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
begin = threading.Barrier(24)
def work():
    begin.wait()
    for _ in range(200):
        blocks = [libc.malloc(50_000) for _ in range(20)]
        for block in blocks:
            libc.free(block)
    begin.wait()
threads = [threading.Thread(target=work) for _ in range(24)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""

LARGE = """
import ctypes, resource
from pathlib import Path
from pipeline.infer.freed import small_heaps
small_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
before, larges = resident(), []
for _ in range(20):
    larges.append(libc.malloc(8_000_000))
    ctypes.memset(larges[-1], 1, 8_000_000)
    # Something small lies between, so that a heap would not shrink.
    libc.malloc(5_000)
for large in larges:
    libc.free(large)
print(resident() - before)
"""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def freed_between_others() -> list[bytearray]:
    """200 MB of a heap are freed, but for a few that lie between them, so that it does not shrink by itself."""
    held = [bytearray(SIZE) for _ in range(MANY)]
    return held[::PINNED]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_what_was_freed_is_given_back_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine needs longer than a second for what follows.
    monkeypatch.setattr(freed, "EVERY_S", 10.0 * LIMIT_S)
    heaps, half = freed._Heaps(), MANY * SIZE // 2
    pins = freed_between_others()
    before = resident()
    heaps.trim()
    assert resident() < before - half
    pins += freed_between_others()
    before = resident()
    heaps.trim()
    assert resident() > before - half
    heaps._next = 0.0
    heaps.trim()
    assert resident() < before - half
    assert len(pins) == 2 * MANY // PINNED


def test_other_c_libraries_keep_what_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed._heaps, "_trim", None)
    freed.give_back()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the parameter is one of glibc")
@pytest.mark.parametrize(("told", "most"), [(None, cores()), ("9", 9)])
def test_arenas_are_as_many_as_cores_unless_told_otherwise(told: str | None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if told is not None:
        monkeypatch.setenv("MALLOC_ARENA_MAX", told)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stderr.count("Arena ") == most


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the parameter is one of glibc")
def test_large_arrays_go_as_soon_as_they_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert int(done.stdout) < 100_000_000
