"""Names for types of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bytes"]

Bytes = NDArray[np.uint8]
