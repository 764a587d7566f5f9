"""What an output folder holds: the map or the buildings, what they were made from, what was analysed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj

from geoseg.addresses import opens_elsewhere
from geoseg.damage.scale import STYLES
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError
from geoseg.formats.styles import PALETTE
from geoseg.formats.text import clean
from geoseg.georeference import Georeference
from geoseg.redaction import sanitized
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.run_folder import REPORT, RunFolder

__all__ = ["Image", "Result", "read_result"]

POLYGONS = ("polygons.gpkg", "polygons.fgb", "polygons.parquet", "polygons.geojson")
BUILDINGS = ("buildings.gpkg", "buildings.fgb", "buildings.parquet", "buildings.geojson")
COVERAGE = ("coverage.geojson", "coverage.gpkg", "coverage.fgb", "coverage.parquet")
SEVERITY = {style.name: style.color for style in STYLES} | {"damaged": STYLES[2].color}
"""Colours by class where the folder names none."""


@dataclass(frozen=True, slots=True)
class Image:
    """A source image."""

    path: str
    acquired: str | None
    """ISO 8601."""

    def __post_init__(self) -> None:
        """Refuse what a result of a stranger would have opened in its place."""
        if (why := opens_elsewhere(self.path)) is not None and not Path(self.path).is_file():
            raise ConfigError(f"source: {self.path}: {why}; the report of the result was not written by geoseg")

    @property
    def name(self) -> str:
        """Its file's name."""
        return clean(Path(self.path).name)


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
    """What was analysed, as polygons."""
    images: tuple[Image, ...]
    """By date."""
    names: Mapping[int, str]
    """Names of classes by code, as far as the folder tells."""
    colors: Mapping[int, str]
    observed: tuple[int, ...] | None
    """Codes of the events; all where it is None."""
    model: str
    """Its name, version and sha256."""
    finished: str | None
    """When it was made, ISO 8601."""
    document: Mapping[str, Any]
    """Its summary."""
    warnings: tuple[str, ...] = ()
    """What the run that made it said; images are named without their folders."""
    domain: str | None = None
    """How far the images lie from what the model was made for, in words; None where that was not looked at."""

    @property
    def by_number(self) -> bool:
        """Whether features count by number, as buildings do, rather than by area."""
        return self.kind == "damage"

    @property
    def title(self) -> str:
        """What it shows."""
        return {"deforestation": "Changes of forest", "damage": "Damage to buildings"}.get(self.kind, "Classes")

    def color(self, code: int, name: str) -> str:
        """The colour of a class."""
        return self.colors.get(code) or SEVERITY.get(name.lower().replace("-", " ")) or PALETTE[code % len(PALETTE)]


def read_result(folder: Path) -> Result:
    """Read what a folder says, by the files that are there.

    Raises:
        ConfigError: It holds neither polygons of a map nor buildings, or they have no CRS.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give an output folder of geoseg deforestation, damage or segment")
    RunFolder(folder).settle()
    buildings, polygons = _first(folder, BUILDINGS), _first(folder, POLYGONS)
    path = buildings or polygons
    if path is None:
        raise ConfigError(
            f"{folder}: holds neither buildings nor polygons; give an output folder of deforestation, damage or segment"
        )
    kind = "damage" if buildings else "deforestation" if (folder / "changes.json").is_file() else "map"
    summary = _json(folder / {"damage": "damage.json", "deforestation": "changes.json"}.get(kind, REPORT))
    run = _json(folder / REPORT)
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
    covered = _first(folder, COVERAGE)
    changes = run.get("changes")
    return Result(
        folder=folder,
        kind=kind,
        features=features,
        crs=crs,
        georeference=georeference,
        raster=raster if names else None,
        coverage=None if covered is None else PolygonFile.open(covered),
        images=_images(summary, run),
        names=names,
        colors=colors,
        observed=tuple(sorted(int(code) for code in changes)) if changes else None,
        model=_model(summary.get("model") or run.get("model")),
        finished=run.get("finished") or summary.get("finished") or summary.get("produced"),
        document=summary,
        warnings=_warnings(summary, run),
        domain=_domain(run),
    )


def _warnings(*documents: Mapping[str, Any]) -> tuple[str, ...]:
    """All that they hold, without the folders of the machine that made them."""
    images = {image.path: image.name for image in _images(*documents)}
    texts = [str(text) for document in documents for text in document.get("warnings") or ()]
    for path, name in images.items():
        texts = [text.replace(path, name) for text in texts]
    return tuple(dict.fromkeys(" ".join(sanitized(text).split()) for text in texts))


def _domain(run: Mapping[str, Any]) -> str | None:
    """The worst that the models say."""
    checks = [check for check in run.get("domain") or () if check.get("distance") is not None]
    if not checks:
        return None
    worst = max(checks, key=lambda check: (check["far"], check["distance"]))
    return (
        f"{'far from' if worst['far'] else 'like'} the training of {worst['model']} (distance {worst['distance']:g}, up to "
        f"{worst['limit']:g} is usual)"
    )


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path, limit=LARGE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {error}; run again with --overwrite") from error
    return found if isinstance(found, dict) else {}


def _plain(features: PolygonFile) -> Georeference:
    """A north-up grid of a thousandth of the features' extent."""
    left, bottom, right, top = features.bounds()
    step = max(right - left, top - bottom, 1e-9) / 1000
    return Georeference((step, 0.0, left, 0.0, -step, top), None if features.crs is None else features.crs.to_wkt())


def _images(*documents: Mapping[str, Any]) -> tuple[Image, ...]:
    for document in documents:
        found = []
        for entry in document.get("dates") or []:
            source = entry.get("source") or []
            source = [source] if isinstance(source, str) else source
            found += [Image(str(path), entry.get("acquired")) for path in source[:1]]
        if found:
            return tuple(found)
    for document in documents:
        source = document.get("source") or []
        if source:
            return (Image(str(source if isinstance(source, str) else source[0]), document.get("acquired")),)
    return ()


def _model(said: Any) -> str:
    if not said:
        return ""
    if isinstance(said, str):
        return said
    name = " ".join(str(said[key]) for key in ("name", "version") if said.get(key))
    return f"{name}, sha256 {said['sha256']}" if said.get("sha256") else name
