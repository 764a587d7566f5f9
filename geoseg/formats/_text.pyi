import numpy as np
from numpy.typing import NDArray

def coordinates_text(
    xy: NDArray[np.float64], rings: NDArray[np.int64], polygons: NDArray[np.int64], decimals: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...
