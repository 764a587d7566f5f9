"""What is to be shown: maps of output folders, or files of anyone, with the images that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.addresses import is_remote, shown
from geoseg.errors import ConfigError, GeosegError
from pipeline.deliver.document import Reports
from pipeline.files.maps import BUILDINGS, CLASSES, POLYGONS, first_file, is_result, refuse_values_folder, result_folders
from pipeline.files.run_folder import REPORT
from pipeline.files.scene_record import GivenScene, SceneRecord

__all__ = ["FoundMap", "SourceImage", "find_all"]

RASTERS = (".tif", ".tiff", ".jp2")
VECTORS = (".geojson", ".json", ".gpkg", ".fgb", ".parquet", ".shp", ".geojsonl", ".ndjson")
MOST_SCENES = 16
"""Scenes that a mosaic is shown with."""
MOST = 1000
"""Maps of one call: a list of more is none that people choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """An image that a map was made from, or one that was given."""

    paths: tuple[str, ...]
    title: str
    assume_crs: str | None = None
    """Its CRS where it has none, as its run was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMap:
    """A map and what lies beside it."""

    name: str
    kind: str
    """``map``, ``changes``, ``damage`` or ``files``."""
    classes: Path | None = None
    confidence: Path | None = None
    polygons: Path | None = None
    layer: str | None = None
    """Layer of the polygons' file."""
    images: tuple[SourceImage, ...] = ()
    """By date."""
    notes: tuple[str, ...] = ()

    @property
    def to_review(self) -> Path | None:
        """The folder of what people can correct: a map by class of a run, or graded buildings; None of anything else."""
        told = {"map": self.classes, "damage": self.polygons}.get(self.kind)
        return None if told is None else told.parent


def find_all(inputs: Sequence[Path]) -> list[FoundMap]:
    """The maps of folders, and one of all files that were given by themselves.

    Raises:
        ConfigError: An input is not there, or holds nothing that can be shown.
    """
    maps: list[FoundMap] = []
    files: list[Path] = []
    for path in inputs:
        if is_remote(str(path)) or not path.exists():
            raise ConfigError(f"{shown(str(path))}: no such file or folder; view opens what lies on this machine")
        if path.is_dir() and path.suffix.lower() != ".gdb":
            maps += _of_folder(path)
        else:
            files.append(path)
    if len(maps) > MOST:
        raise ConfigError(f"{len(maps):,} maps; {MOST:,} are the most of one view: give folders of fewer scenes")
    return [*maps, *([_of_files(files)] if files else [])]


def _of_folder(folder: Path) -> list[FoundMap]:
    if is_result(folder):
        return [_map(folder, folder.resolve().name)]
    below = result_folders(folder)
    if not below:
        refuse_values_folder(folder, "shown are classes and polygons: open values.tif in a GIS, or report.html in the browser")
        raise ConfigError(
            f"{folder}: holds no {CLASSES}, no polygons and no buildings; give an output folder of segment, deforestation or "
            "damage, or files"
        )
    return [_map(path, path.relative_to(folder).as_posix()) for path in below]


def _map(folder: Path, name: str) -> FoundMap:
    buildings, changes = first_file(folder, BUILDINGS), first_file(folder, ("changes.json",))
    polygons = buildings or first_file(folder, POLYGONS)
    kind = "damage" if buildings else "changes" if changes else "map"
    images, notes = _images(folder, kind)
    return FoundMap(
        name=name,
        kind=kind,
        classes=None if buildings else first_file(folder, (CLASSES,)),
        confidence=first_file(folder, ("confidence.tif",)),
        polygons=polygons,
        layer=("buildings" if buildings else "polygons") if polygons is not None and polygons.suffix == ".gpkg" else None,
        images=images,
        notes=notes,
    )


def _images(folder: Path, kind: str) -> tuple[tuple[SourceImage, ...], tuple[str, ...]]:
    """Images by date as the records name them, and sentences on those that are not there."""
    record = SceneRecord.read(folder)
    told = None if record is None else record.config.get("scene", {}).get("assume_crs")
    assumed = told if isinstance(told, str) else None
    summary = {"damage": "damage.json", "changes": "changes.json"}.get(kind, REPORT)
    try:
        reported = Reports.read(folder, summary).images
    except GeosegError as error:
        return (), (str(error),)
    dates = [image.acquired for image in reported]
    found: list[SourceImage] = []
    notes: list[str] = []
    given = () if record is None or record.given is None else _all_dates(record.given)
    # What a mosaic was given has no files of its own: its scenes have.
    mosaic = bool(given) and not given[0].paths
    scenes = [scene.paths for scene in given if scene.paths] or [(image.path,) for image in reported]
    if mosaic and len(scenes) > MOST_SCENES:
        notes.append(f"The map is shown with the first {MOST_SCENES} of its {len(scenes):,} scenes.")
        del scenes[MOST_SCENES:]
    for number, paths in enumerate(scenes):
        when = dates[number] if number < len(dates) else None
        title = given[number + 1].name if mosaic else _title(number, len(scenes), when)
        away = next((path for path in paths if is_remote(path) or not Path(path).exists()), None)
        if away is None:
            found.append(SourceImage(paths=paths, title=title, assume_crs=assumed))
        else:
            where = "lies on a server, which is not asked" if is_remote(away) else "is not there any more"
            notes.append(f"The image {shown(away)} {where}, so the map is shown without it.")
    return tuple(found), tuple(notes)


def _all_dates(given: GivenScene) -> tuple[GivenScene, ...]:
    return (given, *given.later)


def _title(number: int, dates: int, acquired: str | None) -> str:
    word = "Image" if dates == 1 else "Before" if number == 0 else "After" if number == dates - 1 else f"Date {number + 1}"
    return f"{word} ({acquired})" if acquired else word


def _of_files(files: Sequence[Path]) -> FoundMap:
    """One map of files: a class raster, polygons, and any number of images.

    Raises:
        ConfigError: A file is none of these, or there are two class rasters or two files of polygons.
    """
    found = FoundMap(name=files[0].stem, kind="files")
    for path in files:
        suffix = path.suffix.lower()
        if suffix in RASTERS:
            if _is_class_raster(path):
                _refuse_second(found.classes, path, "class rasters")
                found = replace(found, classes=path, confidence=_beside(path))
            else:
                image = SourceImage(paths=(str(path),), title=path.name)
                found = replace(found, images=(*found.images, image))
        elif suffix in VECTORS or path.is_dir():
            _refuse_second(found.polygons, path, "files of polygons")
            found = replace(found, polygons=path)
        else:
            raise ConfigError(f"{path}: neither a raster ({', '.join(RASTERS)}) nor polygons ({', '.join(VECTORS)})")
    return found


def _refuse_second(first: Path | None, second: Path, what: str) -> None:
    if first is not None:
        raise ConfigError(f"{first}, {second}: two {what}; give one of them, or view each by itself")


def _beside(classes: Path) -> Path | None:
    path = classes.with_name("confidence.tif")
    return path if classes.name == CLASSES and path.is_file() else None


def _is_class_raster(path: Path) -> bool:
    """Whether a file is a class raster: one band of whole numbers with names or colours for them."""
    from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster
    from geoseg.scenes.legend import legend_of

    with gdal_env(), open_raster(path, IMAGES) as dataset:
        if dataset.count != 1 or dataset.dtypes[0] != "uint8":
            return False
        legend = legend_of(dataset, str(path))
    return bool(legend.names or legend.colors)
