"""Threads: memory that they have freed is kept in few places."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from support import LIMIT_S

from geoseg.parallel import cores

SCRIPT = """
import ctypes, threading
from geoseg.parallel import few_arenas
few_arenas()
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the parameter is one of glibc")
@pytest.mark.parametrize(("told", "most"), [(None, cores()), ("9", 9)])
def test_arenas_are_as_many_as_cores_unless_told_otherwise(told: str | None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if told is not None:
        monkeypatch.setenv("MALLOC_ARENA_MAX", told)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stderr.count("Arena ") == most
