"""What is reviewed: a map or graded buildings in a result folder, with its versions and the log beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.codes import MAX_CLASS
from geoseg.damage.scale import STYLES
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError, OutputError
from geoseg.formats.styles import ClassStyle
from geoseg.models.card import Card
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.files.maps import VALUES, one_result
from pipeline.files.reviews import LOG, REVIEWS, is_reviews
from pipeline.files.run_folder import REPORT, RunFolder
from pipeline.publish.run_facts import SceneFacts
from pipeline.review.decisions import Key
from pipeline.review.reviewed_units import BUILDING_UNITS, CLASS_UNITS, OBJECT_UNITS, Units
from pipeline.review.version_files import MODEL
from pipeline.review.version_rasters import legend_of_map

__all__ = ["ReviewedPolygon", "Subject", "polygons_in"]

COLUMNS = ("id", "part", "code", "class", "area_m2", "confidence")


@dataclass(frozen=True, slots=True)
class Subject:
    """A map, or graded buildings, that people review."""

    scene: Path
    """The folder of the run."""
    version: int
    """The version that was named; 0 is the run."""
    record: SceneFacts
    """Of the run."""
    units: Units = CLASS_UNITS
    """What is decided on."""

    @classmethod
    def open(cls, folder: Path) -> Subject:
        """Take the folder of a scene, or of one of its versions.

        Raises:
            ConfigError: It is none, or holds no map whose polygons can be reviewed.
        """
        folder = one_result(folder.resolve())
        version = int(folder.name) if is_reviews(folder.parent) and folder.name.isdecimal() else 0
        scene = folder.parent.parent if version else folder
        if scene.is_dir():
            RunFolder(scene).settle()
        record = _record(scene)
        if record is not None and (folder / VALUES).is_file():
            raise ConfigError(f"{folder}: holds a map of values; people review the polygons of classes, of which it has none")
        units = _units_of(folder)
        if record is None or not (folder / units.known_by).is_file():
            raise ConfigError(
                f"{folder}: holds neither a map with {REPORT} and classes.tif nor buildings.gpkg; give the folder of one scene"
            )
        if (scene / REVIEWS / REPORT).is_file():
            raise ConfigError(f"{scene / REVIEWS}: holds a scene of that name, where reviews would lie; map it elsewhere")
        task = record.plan.get("task", "semantic")
        if task == "panoptic":
            raise ConfigError(
                f"{folder}: a panoptic map, of objects and classes at once, is not reviewed; map with --task instances"
            )
        return cls(scene, version, record, units)

    @property
    def reviews(self) -> Path:
        """The folder of reviews."""
        return self.scene / REVIEWS

    def begin(self) -> None:
        """Make the folder of reviews with a log in it, which says that it is theirs; no run touches it.

        Raises:
            OutputError: It can't be made.
        """
        try:
            self.reviews.mkdir(exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise OutputError(
                f"{self.reviews}: reviews can't be written there: {error.strerror}; free the place, or copy {self.scene} to "
                "where you may write"
            ) from error

    @property
    def log(self) -> Path:
        """The log."""
        return self.reviews / LOG

    @property
    def folder(self) -> Path:
        """The folder of the version that was named."""
        return self.folder_of(self.version)

    def folder_of(self, version: int) -> Path:
        """The folder of a version."""
        return self.reviews / str(version) if version else self.scene

    @property
    def run_id(self) -> str:
        """sha256 of what the run has made, by which a log knows what it speaks of."""
        files, name = self.record.files or {}, self.units.known_by
        return files[name].sha256 if name in files else ""

    def legend(self) -> tuple[tuple[ClassStyle, ...], dict[str, str]]:
        """Styles of the classes, *not analysed* last, and the metadata of the map's files."""
        return (STYLES, {}) if self.units is BUILDING_UNITS else legend_of_map(self.folder)

    @property
    def codes(self) -> list[int]:
        """All classes."""
        return sorted(style.code for style in self.legend()[0] if style.code <= MAX_CLASS)

    @property
    def own_codes(self) -> list[int]:
        """The classes that a unit can be of: of objects, those whose objects are told apart."""
        if self.units is not OBJECT_UNITS:
            return self.codes
        told = set(Card.read(self.scene / MODEL).object_classes)
        return [code for code in self.codes if code in told]

    def versions(self) -> list[int]:
        """The versions that are there, the run aside."""
        if not self.reviews.is_dir():
            return []
        return sorted(int(p.name) for p in self.reviews.iterdir() if p.name.isdecimal() and (p / REPORT).is_file())

    def polygons(self, version: int | None = None) -> PolygonFile:
        """The polygons of a version, by default of the one that was named.

        Raises:
            ConfigError: There are none, or the version is gone.
        """
        folder = self.folder if version is None else self.folder_of(version)
        path = self.units.file_in(folder)
        if path is None:
            raise ConfigError(f"{folder}: holds no {self.units.name} to review; map with --formats gpkg, or put back the version")
        file = PolygonFile.open(path, layer=self.units.layer if path.suffix == ".gpkg" else None)
        if file.crs is None:
            raise ConfigError(f"{path}: has no CRS, so its polygons are on no map; map again with --assume-crs")
        return file

    def gone(self, lacking: Collection[Key]) -> ConfigError:
        """The error of a log that decides on what no version has."""
        version, number, part = min(lacking)
        which, file = f"{number}{f', part {part},' if part else ''} of version {version}", self.polygons(version).path
        return ConfigError(
            f"{self.log}: decides on polygon {which}, which is not in {file} (nor {len(lacking) - 1} others); "
            "the polygons are those of another run: put them back"
        )

    def document(self) -> Mapping[str, Json]:
        """The record of the run as it stands in its file.

        Raises:
            ConfigError: It can't be read.
        """
        found: Mapping[str, Json] = read_json(self.scene / REPORT, ConfigError, limit=LARGE)
        return found


@dataclass(frozen=True, slots=True)
class ReviewedPolygon:
    """A polygon of a version."""

    id: int
    part: int
    code: int
    name: str
    area_m2: float
    confidence: float | None


def polygons_in(file: PolygonFile) -> Iterator[tuple[Geometries, list[ReviewedPolygon]]]:
    """All polygons of a file in its CRS, some at a time.

    Raises:
        ConfigError: It is not of this program, or can't be read.
    """
    if missing := [name for name in ("id", "code", "area_m2") if name not in file.fields]:
        raise ConfigError(f"{file.path}: has no column {', '.join(missing)}; reviews need the polygons as geoseg wrote them")
    for geometries, values in file.batches(COLUMNS):
        count = len(geometries)
        columns: list[Iterable[object]] = [values.get(name, [None] * count) for name in COLUMNS]
        try:
            yield geometries, [_polygon(*row) for row in zip(*columns, strict=True)]
        except ValueError as error:
            raise ConfigError(
                f"{file.path}: an id, code or area is no number; reviews need the polygons as geoseg wrote them"
            ) from error


def _polygon(*row: object) -> ReviewedPolygon:
    number, part, code, name, area, confidence = row
    return ReviewedPolygon(
        int(str(number)),
        int(str(part or 0)),
        int(str(code)),
        str(name),
        float(str(area or 0)),
        None if confidence is None else float(str(confidence)),
    )


def _units_of(folder: Path) -> Units:
    """What a folder holds of which people decide."""
    if BUILDING_UNITS.file_in(folder):
        return BUILDING_UNITS
    return OBJECT_UNITS if (folder / OBJECT_UNITS.known_by).is_file() else CLASS_UNITS


def _record(folder: Path) -> SceneFacts | None:
    try:
        return SceneFacts.model_validate(read_json(folder / REPORT, limit=LARGE))
    except (OSError, ValueError):
        return None
