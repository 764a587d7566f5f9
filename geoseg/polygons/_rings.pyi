from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]
Ints: TypeAlias = NDArray[np.int32]
Bytes: TypeAlias = NDArray[np.uint8]

NODE: int
PORTAL: int
PINCH: int
HEADING_SHIFT: int

def trace(labels: Ints, classes: Bytes, wanted: Bytes, open_: Bytes) -> tuple[Ints, Ints, Bytes, Longs, Ints, Longs]: ...
def chain(following: Longs) -> tuple[Longs, Longs]: ...
def wkb_polygons(xy: Floats, rings: Longs, polygons: Longs, reverse: bool) -> tuple[Bytes, Longs]: ...
def ring_lengths(rc: Floats, rings: Longs, jacobian: Floats, row_off: float, col_off: float, spacing: float) -> Floats: ...
def ring_areas(rc: Floats, rings: Longs) -> Floats: ...
def wkb_bounds(data: Bytes, offsets: Ints) -> Floats: ...
