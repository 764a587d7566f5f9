"""Checks of the images of a product, before any of them is opened."""

from __future__ import annotations

import math
from pathlib import Path

from geoseg.errors import NotARasterError, SceneError
from geoseg.scenes.pixels.jp2 import Jp2Structure
from geoseg.scenes.preflight import MAX_BLOCK_BYTES, check_file, check_jp2, check_jp2_stream, check_tiff_stream
from geoseg.scenes.products.container import Container
from geoseg.tiff import TiffStructure

__all__ = ["check_image"]

SPARE_BYTES = 1 << 20
"""Metadata that a file of an archive may hold beside its pixels."""


def check_image(container: Container, name: str, limit: int = MAX_BLOCK_BYTES) -> TiffStructure | Jp2Structure:
    """Refuse an image of a product that is not whole, or whose blocks are too large.

    Raises:
        SceneError: It is.
    """
    path, jp2 = Path(container.shown(name)), name.lower().endswith(".jp2")
    if container.form == "folder":
        if jp2:
            return check_jp2(path, max_block_bytes=limit)
        found = check_file(path, max_block_bytes=limit)
        assert found is not None
        return found
    size = container.sizes[name]
    if size == 0:
        raise NotARasterError(f"{path}: an empty file (0 bytes); copy or download it again")
    with container.opened(name) as file:
        if jp2:
            # Following the tiles of a compressed member would unpack all of it.
            structure: TiffStructure | Jp2Structure = check_jp2_stream(file, size, path, limit, walk=container.stored)
        else:
            structure = check_tiff_stream(file, size, path, limit)
    if size > 2 * (raw := _raw_bytes(structure)) + SPARE_BYTES:
        raise SceneError(f"{path}: {size:,} bytes, and its pixels take {raw:,}; what else it holds is not unpacked")
    return structure


def _raw_bytes(structure: TiffStructure | Jp2Structure) -> int:
    if isinstance(structure, Jp2Structure):
        return structure.raw_bytes
    return math.prod(structure.main.blocks) * structure.main.block_bytes
