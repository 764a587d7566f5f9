"""Files that a version takes over from its run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from geoseg.formats.styles import ClassStyle, category_names, raster_qml, vector_qml

__all__ = ["COVERAGE", "MODEL", "copy_companions"]

COVERAGE = ("coverage.gpkg", "coverage.fgb", "coverage.parquet", "coverage.geojson")
MODEL = "model.json"


def copy_companions(scene: Path, folder: Path, styles: Sequence[ClassStyle]) -> None:
    """Put the model's card, styles and names of classes beside the rasters and polygons of a version."""
    shutil.copyfile(scene / MODEL, folder / MODEL)
    (folder / "classes.qml").write_text(raster_qml(styles), encoding="utf-8")
    (folder / "polygons.qml").write_text(vector_qml(styles), encoding="utf-8")
    (folder / "classes.tif.aux.xml").write_text(category_names(styles), encoding="utf-8")
