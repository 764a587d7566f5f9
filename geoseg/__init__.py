"""geoseg, the library: huge rasters in, maps out. Arrays and values in, arrays and values out.

It knows neither Dask nor Prefect; importing it loads nothing heavy.
"""

from __future__ import annotations

from geoseg.errors import GeosegError
from geoseg.grid import Chunk, Grid, Tile
from geoseg.windows import Window

__version__ = "0.1.0"
__all__ = ["Chunk", "GeosegError", "Grid", "Tile", "Window", "__version__"]
