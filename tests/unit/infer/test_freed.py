"""Memory that was freed goes back to the system, and is asked about now and then only."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest

from pipeline.infer import freed

MANY, SIZE, PINNED = 2000, 100_000, 50


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def freed_between_others() -> list[bytearray]:
    """200 MB of a heap are freed, but for a few that lie between them, so that it does not shrink by itself."""
    held = [bytearray(SIZE) for _ in range(MANY)]
    return held[::PINNED]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_what_was_freed_is_given_back_once_in_a_while() -> None:
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
