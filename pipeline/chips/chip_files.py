"""Files of chips: GeoTIFFs of images and labels, and the index that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import antimeridian
import numpy as np
import rasterio
import rasterio.errors
import shapely
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.errors import GeoreferenceError, OutputError
from geoseg.formats.text import write_table
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import gdal_env
from geoseg.training.data.chips import Chip
from geoseg.training.data.labelled import LabelledScene
from geoseg.windows import Window
from pipeline.files.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChipEntry", "dtype_of", "write_chip", "write_index"]

FIELDS = ("image", "label", "scene", "row", "col", "height", "width", "valid_px", "labelled_px", "counts")


@dataclass(frozen=True, slots=True)
class ChipEntry:
    """A chip in the index."""

    name: str
    """Of its files."""
    scene: str
    window: Window
    valid_px: int
    counts: Mapping[int, int]
    """Labelled pixels by class code."""
    footprint: Mapping[str, object] | None
    """Its outline as GeoJSON, in degrees; None where it has no place."""

    def facts(self) -> dict[str, object]:
        """Its entry in the index, by ``FIELDS``."""
        window = self.window
        return {
            "image": f"images/{self.name}",
            "label": f"labels/{self.name}",
            "scene": self.scene,
            "row": window.row_off,
            "col": window.col_off,
            "height": window.height,
            "width": window.width,
            "valid_px": self.valid_px,
            "labelled_px": sum(self.counts.values()),
            "counts": {str(code): count for code, count in self.counts.items()},
        }


def dtype_of(source: LabelledScene) -> str:
    """The data type of a scene's chips: its own, or float32 where that can't hold it."""
    kind = source.scene.dtype
    return kind if np.can_cast(kind, np.float32, "safe") and kind != "float16" else "float32"


def write_chip(folder: Path, source: LabelledScene, window: Window, chip: Chip) -> ChipEntry:
    """Write the image and the labels of a window to ``images`` and ``labels`` of a folder; the entry for its index.

    Raises:
        OutputError: They can't be written.
    """
    name = f"{source.name}_{window.row_off}_{window.col_off}.tif"
    image = chip.image.astype(dtype_of(source))
    names = tuple(band.name for band in source.scene.bands)
    _write_tiff(folder / "images" / name, image, source.georeference, window, valid=chip.valid, names=names)
    _write_tiff(folder / "labels" / name, chip.labels[None], source.georeference, window, nodata=UNLABELLED)
    counts = np.bincount(chip.labels.ravel(), minlength=UNLABELLED + 1)[:UNLABELLED]
    by_code = {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
    return ChipEntry(name, source.name, window, int(chip.valid.sum()), by_code, _footprint(source, window))


def _write_tiff(
    path: Path,
    data: NDArray[np.generic],
    place: Georeference | None,
    window: Window,
    *,
    valid: NDArray[np.bool_] | None = None,
    nodata: int | None = None,
    names: Sequence[str | None] = (),
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    where: dict[str, object] = {}
    if place is not None:
        moved = rasterio.Affine(*place.transform) @ rasterio.Affine.translation(window.col_off, window.row_off)
        where = {"crs": place.crs, "transform": moved}
    try:
        with (
            gdal_env(),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=len(data),
                height=data.shape[1],
                width=data.shape[2],
                dtype=data.dtype.name,
                nodata=nodata,
                compress="deflate",
                **where,
            ) as dataset,
        ):
            dataset.write(data)
            for index, name in enumerate(names, start=1):
                if name:
                    dataset.set_band_description(index, name)
            if valid is not None and not valid.all():
                dataset.write_mask(valid)
    except rasterio.errors.RasterioError as error:
        raise OutputError(f"{path}: can't be written: {error}") from error


def _footprint(source: LabelledScene, window: Window) -> dict[str, object] | None:
    """The outline of a chip on the ground, in degrees, cut at the antimeridian; None where it has no place."""
    place = source.georeference
    if place is None:
        return None
    edge = np.linspace(0, 1, 5)[:-1]
    zeros, ones = np.zeros(4), np.ones(4)
    rows = window.row_off + window.height * np.concatenate([zeros, edge, ones, 1 - edge])
    cols = window.col_off + window.width * np.concatenate([edge, ones, 1 - edge, zeros])
    try:
        # Counterclockwise on the ground: longitudes that jump do not show the winding.
        outline = shapely.Polygon(place.lonlat(rows, cols)[:: 1 if place.mirrored else -1])
    except GeoreferenceError:
        return None
    found: dict[str, object] = shapely.geometry.mapping(antimeridian.fix_polygon(outline, fix_winding=False))
    return found


def write_index(folder: Path, entries: Iterable[ChipEntry]) -> None:
    """Write ``index.csv`` and ``index.geojson``, with footprints in WGS 84."""
    listed = [(entry, entry.facts()) for entry in entries]
    rows = (facts | {"counts": " ".join(f"{code}:{count}" for code, count in entry.counts.items())} for entry, facts in listed)
    write_table(folder / "index.csv", FIELDS, rows)
    features = [{"type": "Feature", "geometry": entry.footprint, "properties": facts} for entry, facts in listed]
    write_json(folder / "index.geojson", {"type": "FeatureCollection", "features": features})
