from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]
Ints: TypeAlias = NDArray[np.int32]
Bytes: TypeAlias = NDArray[np.uint8]

def label(classes: Bytes) -> tuple[Ints, Ints, Ints, Ints, Ints, Longs]: ...
def measure(
    run_row: Ints,
    run_start: Ints,
    run_stop: Ints,
    run_label: Ints,
    count: int,
    pixel_area: Floats,
    spacing: float,
    confidence: Bytes | None,
    histogram_row: Ints,
    histograms: NDArray[np.uint32],
) -> tuple[Longs, Floats, Longs, Bytes]: ...
def components(count: int, first: Longs, second: Longs) -> tuple[Longs, int]: ...
def borders(labels: Ints, small: Bytes) -> tuple[Ints, Ints, Longs, Longs]: ...
