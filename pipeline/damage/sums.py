"""Graded buildings counted in cells, and how dense the destroyed ones lie."""

from __future__ import annotations

from pathlib import Path

from geoseg.codes import UNGRADED
from geoseg.damage.scale import CLASSES
from pipeline.damage.document import GridEntry
from pipeline.damage.files import LAYER
from pipeline.summarize.cells import write_grid
from pipeline.summarize.density import write_density

__all__ = ["summed_up"]


def summed_up(folder: Path, cell_m: float) -> GridEntry:
    """Counts in cells and the density of what is destroyed, beside the buildings."""
    buildings, destroyed = folder / "buildings.gpkg", (CLASSES[-1],)
    grid = write_grid(buildings, folder / "grid.gpkg", destroyed, side_m=cell_m, without=(UNGRADED,), layer=LAYER)
    write_density(buildings, folder / "density.tif", destroyed, radius_m=cell_m, layer=LAYER)
    return {"cell_m": cell_m, "cells": grid.cells, "crs": grid.crs}
