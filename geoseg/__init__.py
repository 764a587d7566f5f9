"""geoseg: huge rasters in, maps out.

::

    import geoseg

    maps = geoseg.segment("scenes", model="amazon-forest", out="maps")
    maps[0].polygons()

The verbs (``segment``, ``train``, ``evaluate`` ...) are those of the command line, with the same names, units and defaults.
The nouns (``open_scene``, ``load_model``, ``Grid``, ``polygonize``, ``estimate_area``) serve those who have arrays. The library
below knows neither Dask nor Prefect; importing it loads nothing heavy, for what is reached here is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoseg.errors import GeosegError
from geoseg.grid import Chunk, Grid, Tile
from geoseg.windows import Window

if TYPE_CHECKING:
    from geoseg.models.model_folder import load_model
    from geoseg.polygons.dataframe import polygonize
    from geoseg.sampling.estimators import estimate_area
    from geoseg.scenes.opening import open_scene
    from pipeline.api import (
        adopt,
        area,
        calibrate,
        composite,
        deforestation,
        deliver,
        evaluate,
        grade_damage,
        load,
        match,
        quantize,
        review,
        sample,
        screen,
        segment,
        train,
        vectorize,
    )

__version__ = "0.1.0"
__all__ = [
    "Chunk",
    "GeosegError",
    "Grid",
    "Tile",
    "Window",
    "__version__",
    "adopt",
    "area",
    "calibrate",
    "composite",
    "deforestation",
    "deliver",
    "estimate_area",
    "evaluate",
    "grade_damage",
    "load",
    "load_model",
    "match",
    "open_scene",
    "polygonize",
    "quantize",
    "review",
    "sample",
    "screen",
    "segment",
    "train",
    "vectorize",
]

if not TYPE_CHECKING:
    # Type checkers read the imports above; a function of this name would tell them that anything is here.
    def __getattr__(name: str) -> object:
        """Import a noun or a verb when it is asked for."""
        from geoseg.doors import reach

        if name not in __all__:
            raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
        found = reach(name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return list(__all__)
