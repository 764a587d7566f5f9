from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]

def normalize(
    pixels: NDArray[Any], valid: Bytes, scale: Floats, shift: Floats, low: Floats, high: Floats, out: Floats
) -> None: ...
def decide(
    scores: Floats,
    valid: Bytes,
    gain: Floats,
    offset: Floats,
    thresholds: Floats,
    curve_x: Floats,
    curve_y: Floats,
    curve_slope: Floats,
    softmax: bool,
    use_thresholds: bool,
    nodata: int,
    classes: Bytes,
    confidence: Bytes,
) -> int: ...
