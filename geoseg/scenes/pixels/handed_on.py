"""Decoded units that a look at a scene hands on to whoever reads it next in this process, so that they are decoded once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from geoseg.scenes.pixels.layout import Key
from geoseg.scenes.pixels.unit_cache import Unit
from geoseg.scenes.scene import Scene

__all__ = ["leave", "take"]

_lock = threading.Lock()
_left: list[tuple[Scene, tuple[int, ...], Mapping[Key, Unit]]] = []


def leave(scene: Scene, bands: Sequence[int], units: Mapping[Key, Unit]) -> None:
    """Keep the units of a scene for who takes them, in place of those that nobody has taken."""
    with _lock:
        _left[:] = [(scene, tuple(bands), units)]


def take(scene: Scene, bands: Sequence[int]) -> Mapping[Key, Unit]:
    """The units of the very same scene, which are kept no longer; none where those of another are kept."""
    with _lock:
        found = [units for one, which, units in _left if one is scene and which == tuple(bands)]
        _left.clear()
    return found[0] if found else {}
