"""Names for types of arrays: one for each type, the same everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "Bools"]

U8 = NDArray[np.uint8]
"""Codes of classes, percents, masks of bytes."""
U16 = NDArray[np.uint16]
"""Numbers of the scenes of a mosaic."""
U32 = NDArray[np.uint32]
"""Counts of histograms, numbers of objects in files."""
U64 = NDArray[np.uint64]
"""Offsets in files."""
I8 = NDArray[np.int8]
"""Signs."""
I16 = NDArray[np.int16]
"""Pixels of images that may be below 0."""
I32 = NDArray[np.int32]
"""Labels of regions and objects."""
I64 = NDArray[np.int64]
"""Counts, indices, places of pixels in a raster."""
F32 = NDArray[np.float32]
"""Scores and probabilities of networks, normalized images."""
F64 = NDArray[np.float64]
"""Coordinates, areas, statistics."""
Bools = NDArray[np.bool_]
"""Masks."""
