"""Results in an output folder: the map or the buildings, their sources, and the analysed area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyproj

from geoseg.damage.scale import STYLES
from geoseg.dialect import number_of, setting
from geoseg.errors import ConfigError
from geoseg.formats.page.elements import Entry
from geoseg.formats.styles import PALETTE
from geoseg.georeference import Georeference
from geoseg.models.readme_facts import readme_facts
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.config.delivering import DeliveryConfig
from pipeline.deliver.document import Image, Reports
from pipeline.deliver.statement import Measured, measured_in
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.maps import BUILDINGS, POLYGONS, first_file, one_result, refuse_values_folder
from pipeline.files.run_folder import REPORT, RunFolder

__all__ = ["Result", "read_result"]

COVERAGE = ("coverage.geojson", "coverage.gpkg", "coverage.fgb", "coverage.parquet")
SEVERITY = {style.name: style.color for style in STYLES} | {"damaged": STYLES[2].color}
"""Colours by class where the folder names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An output folder."""

    folder: Path
    kind: str
    """``deforestation``, ``damage`` or ``map``."""
    features: PolygonFile
    """Polygons of classes, or buildings."""
    crs: pyproj.CRS
    georeference: Georeference
    """Of the class raster; without one, a plain grid over the features."""
    raster: Path | None
    """The class raster."""
    coverage: PolygonFile | None
    """Analysed areas, as polygons."""
    images: tuple[Image, ...]
    """By date."""
    names: Mapping[int, str]
    """Names of classes by code, as far as the folder tells."""
    colors: Mapping[int, str]
    observed: tuple[int, ...] | None
    """Codes of the events; all where it is None."""
    model: str
    """Its name, version and sha256."""
    quality: tuple[Entry, ...]
    """What the READMEs of the models say of them, their accuracy first of all; none where they are not there."""
    finished: str | None
    """Time at which it was made, ISO 8601."""
    warnings: tuple[str, ...] = ()
    """Warnings of the run; images are named without their folders."""
    domain: str | None = None
    """Distance of the images from the training of the model, in words; None where it was not measured."""
    offset: str = ""
    """How far the last image lies off the first, in words."""
    measured: tuple[Measured, ...] = ()
    """What the run measured of its own map."""

    @property
    def by_number(self) -> bool:
        """Whether features count by number, as buildings do, rather than by area."""
        return self.kind == "damage"

    @property
    def title(self) -> str:
        """Its title on maps and tables."""
        return {"deforestation": "Changes of forest", "damage": "Damage to buildings"}.get(self.kind, "Classes")

    def with_facts(self, given: DeliveryConfig) -> Result:
        """The same, with what its maker knows of the images.

        Raises:
            ConfigError: There are more or fewer images than values of a setting.
        """
        for name, values in given.by_image.items():
            if len(values) != len(self.images):
                raise ConfigError(
                    f"{setting(name)}: {len(values)} values, and the result has {number_of(len(self.images), 'image')}: "
                    f"{', '.join(image.name for image in self.images) or 'none'}; give one each, or unknown"
                )
        images = tuple(
            replace(
                image,
                acquired=given.of_image(given.image_times, number) or image.acquired,
                sensor=given.of_image(given.sensors, number),
                provider=given.of_image(given.providers, number),
            )
            for number, image in enumerate(self.images)
        )
        return replace(self, images=images)

    def color(self, code: int, name: str) -> str:
        """The colour of a class."""
        return self.colors.get(code) or SEVERITY.get(name.lower().replace("-", " ")) or PALETTE[code % len(PALETTE)]


def read_result(folder: Path) -> Result:
    """Read a folder, by the files that are there.

    Raises:
        ConfigError: It holds neither polygons of a map nor buildings, or they have no CRS.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give an output folder of geoseg deforestation, damage or segment")
    folder = one_result(folder)
    RunFolder(folder).settle()
    buildings, polygons = first_file(folder, BUILDINGS), first_file(folder, POLYGONS)
    path = buildings or polygons
    if path is None:
        refuse_values_folder(folder, "delivered are polygons")
        raise ConfigError(
            f"{folder}: holds neither buildings nor polygons; give an output folder of deforestation, damage or segment"
        )
    kind = "damage" if buildings else "deforestation" if (folder / "changes.json").is_file() else "map"
    reports = Reports.read(folder, {"damage": "damage.json", "deforestation": "changes.json"}.get(kind, REPORT))
    features = PolygonFile.open(path, layer="buildings" if buildings and path.suffix == ".gpkg" else None)
    raster = folder / "classes.tif"
    names: dict[int, str] = {}
    colors: dict[int, str] = {}
    if raster.is_file() and kind != "damage":
        opened, legend = open_class_raster(str(raster), OpenOptions())
        georeference = opened.georeference
        names, colors = dict(legend.names), dict(legend.colors)
    else:
        georeference = _plain(features)
    crs = georeference.crs and pyproj.CRS.from_user_input(georeference.crs)
    if not crs or features.crs is None:
        raise ConfigError(f"{path}: no CRS, so it can't be laid over an area of interest; map again with --assume-crs")
    left, _, right, _ = features.bounds() if not raster.is_file() else (0.0, 0.0, 0.0, 0.0)
    if crs.is_geographic and right - left > 180:
        raise ConfigError(
            f"{path}: lies in degrees on both sides of the 180th meridian (longitudes {left:g} to {right:g}), where a map "
            "would go around the world; map again with footprints in a CRS in metres, such as EPSG:32660 or EPSG:32760"
        )
    covered = first_file(folder, COVERAGE)
    return Result(
        folder=folder,
        kind=kind,
        features=features,
        crs=crs,
        georeference=georeference,
        raster=raster if names else None,
        coverage=None if covered is None else PolygonFile.open(covered),
        images=reports.images,
        names=names,
        colors=colors,
        observed=reports.observed,
        model=reports.model,
        quality=tuple(entry for folder in reports.model_folders for entry in readme_facts(folder)),
        finished=reports.finished,
        warnings=reports.warnings,
        domain=reports.domain,
        offset=reports.offset,
        measured=measured_in(folder, reports),
    )


def _plain(features: PolygonFile) -> Georeference:
    """A north-up grid of a thousandth of the features' extent."""
    found = features.extent()
    if found is None:
        raise ConfigError(f"{features.path}: holds no features, so it has no place; deliver a run or a version that has some")
    left, bottom, right, top = found
    step = max(right - left, top - bottom, 1e-9) / 1000
    return Georeference((step, 0.0, left, 0.0, -step, top), None if features.crs is None else features.crs.to_wkt())
