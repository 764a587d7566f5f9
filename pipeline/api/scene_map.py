"""A finished map, to be shown, opened and queried, in a folder or in memory."""

from __future__ import annotations

import base64
import html
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError, SceneError

if TYPE_CHECKING:
    import geopandas
    import rasterio

    from pipeline.config.sections import Config

__all__ = ["Maps", "SceneMap", "of_areas", "read_polygons"]

REPORT, PREVIEW = "run.json", "preview.png"
# The most exact first: GeoJSON rounds, and is in longitudes and latitudes.
POLYGONS = ("gpkg", "fgb", "parquet", "geojson")
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class SceneMap:
    """The map of a scene. Where it has failed, ``reason`` says why, and whatever is asked of it raises that."""

    name: str
    status: str
    """``done``, ``skipped`` (an earlier run had finished it), ``partial`` (parts are not analysed) or ``failed``."""
    reason: str | None
    """Reason why it is not done, in one sentence."""
    place: Path | Mapping[str, bytes] = field(repr=False)
    """The folder of its files; of a map in memory, their contents by name."""
    polygon_file: str = "polygons"
    """The stem of the file of its polygons."""

    @property
    def folder(self) -> Path:
        """The folder of its files.

        Raises:
            ConfigError: The map is in memory.
        """
        if isinstance(self.place, Path):
            return self.place
        raise ConfigError(f"{self.name}: was mapped in memory and has no folder; map a file with out= to have one")

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files, in order."""
        if isinstance(self.place, Path):
            there = self.place.iterdir() if self.place.is_dir() else ()
            return tuple(sorted(path.name for path in there if path.is_file()))
        return tuple(sorted(self.place))

    @property
    def report(self) -> dict[str, object]:
        """All facts of the run, as ``run.json`` has them."""
        return self.document(REPORT)

    @property
    def areas(self) -> dict[str, float | None]:
        """Geodesic area in square metres by name of class, not analysed and no data included; None where it is not known."""
        document = json.loads(self._bytes(REPORT))
        return {entry["name"]: entry["area_m2"] for entry in document["classes"]}

    def document(self, name: str) -> dict[str, object]:
        """A JSON document of it, such as ``changes.json``, ``damage.json`` or ``model.json``."""
        found: dict[str, object] = json.loads(self._bytes(name))
        return found

    def classes(self) -> rasterio.DatasetReader:
        """The class raster: an open rasterio dataset, one band of uint8; 254 is not analysed, 255 no data."""
        return self.raster("classes")

    def values(self) -> rasterio.DatasetReader:
        """The raster of a model that regresses: an open rasterio dataset, one band of uint16.

        A value is the code times the dataset's scale plus its offset; 65534 is not analysed, 65535 no data.
        """
        return self.raster("values")

    def raster(self, layer: str) -> rasterio.DatasetReader:
        """A raster of it as an open rasterio dataset: ``classes``, ``confidence`` (uint8, percent), ``probabilities`` ...

        Raises:
            SceneError: There is no such raster.
        """
        from geoseg.scenes.gdal import open_written

        name = f"{layer}.tif"
        self._check(name)
        return open_written(self.place / name if isinstance(self.place, Path) else self.place[name])

    def polygons(self) -> geopandas.GeoDataFrame:
        """Its polygons in the CRS of the scene, a row a polygon: class, area in square metres, confidence, id, geometry.

        Raises:
            ConfigError: No file of polygons was asked for, or geopandas is not installed.
        """
        self._check()
        for extension in POLYGONS:
            name = f"{self.polygon_file}.{extension}"
            if name in self.files:
                source = self.place / name if isinstance(self.place, Path) else self.place[name]
                return read_polygons(source, name, self.polygon_file)
        raise ConfigError(f"{self.name}: no polygons were written; ask for formats=['gpkg']")

    def _repr_html_(self) -> str:
        title = f"<b>{html.escape(self.name)}</b>: {html.escape(self.status)}"
        if self.reason is not None:
            title += f": {html.escape(self.reason)}"
        if PREVIEW not in self.files:
            return f"<div>{title}</div>"
        picture = base64.b64encode(self._bytes(PREVIEW)).decode("ascii")
        image = f'<img src="data:image/png;base64,{picture}" style="max-width: 100%">'
        return f"<figure>{image}<figcaption>{title}</figcaption></figure>"

    def _check(self, name: str = REPORT) -> None:
        if name not in self.files:
            raise SceneError(self.reason or f"{self.name}: there is no {name}; there are {', '.join(self.files) or 'no files'}")

    def _bytes(self, name: str) -> bytes:
        self._check(name)
        return (self.place / name).read_bytes() if isinstance(self.place, Path) else self.place[name]


class Maps(tuple[SceneMap, ...]):
    """The maps of several scenes, in the order in which they were given; shows their pictures in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        more = f"<div>and {len(self) - MOST_SHOWN} more</div>" if len(self) > MOST_SHOWN else ""
        return "".join(one._repr_html_() for one in self[:MOST_SHOWN]) + more


def of_areas(maps: Sequence[SceneMap], config: Config) -> SceneMap | Maps:
    """What a verb of one map gives: it, or those of each feature of the file of areas.

    Raises:
        SceneError: All have failed.
    """
    if all(one.status == "failed" for one in maps):
        raise SceneError(maps[0].reason)
    return maps[0] if config.area.aoi_column is None else Maps(maps)


def read_polygons(source: Path | bytes, name: str, layer: str = "polygons") -> geopandas.GeoDataFrame:
    """Polygons of a file, or of the bytes of one, as a GeoDataFrame.

    Args:
        source: The file, or what it holds.
        name: The name of the file, whose ending says its format.
        layer: Of a GeoPackage, the layer: styles lie beside it.

    Raises:
        ConfigError: geopandas is not installed.
    """
    from geoseg.polygons.dataframe import geopandas_or_refuse

    geopandas = geopandas_or_refuse()
    if isinstance(source, bytes):
        # Drivers look at the ending, and SQLite at a file.
        with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
            file = Path(folder) / name
            file.write_bytes(source)
            return read_polygons(file, name, layer)
    ending = source.suffix.lower()
    if ending == ".parquet":
        return geopandas.read_parquet(source)
    return geopandas.read_file(source, **({"layer": layer} if ending == ".gpkg" else {}))
