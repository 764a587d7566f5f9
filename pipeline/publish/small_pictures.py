"""Small pictures of maps for the page of their folder: kept from when the large ones were drawn, else decoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import U8
from geoseg.scenes.gdal import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MOST_KEPT", "SIDE", "keep_small", "small_picture"]

SIDE = 260
"""Most pixels a side."""
MOST_KEPT = 120
"""As many as a page shows."""

_kept: OrderedDict[tuple[int, ...], U8] = OrderedDict()
_lock = threading.Lock()


def keep_small(path: Path, picture: Image) -> None:
    """Keep a file's picture small, for who asks for it as long as the file is as it was written."""
    small = _small(picture.copy())
    with _lock:
        _kept[_identity(path)] = small
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)


def small_picture(path: Path) -> U8:
    """(h, w, 3) of a picture on the disk, wherever it was moved to, small.

    Raises:
        OSError: It is not there, or can't be read.
        SceneError: It is too large.
        ValueError: It is damaged.
    """
    identity = _identity(path)
    with _lock:
        known = _kept.get(identity)
    if known is not None:
        return known
    with open_picture(str(path)) as picture:
        return _small(picture)


def _small(picture: Image) -> U8:
    """The picture, which is made small in its place."""
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture.convert("RGB"))


def _identity(path: Path) -> tuple[int, ...]:
    """What a file keeps when it is renamed, and loses when it is written."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_nlink
