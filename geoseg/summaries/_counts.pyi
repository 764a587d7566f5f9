import numpy as np
from numpy.typing import NDArray

def count_codes(codes: NDArray[np.uint8]) -> NDArray[np.int64]: ...
