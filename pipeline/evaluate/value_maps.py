"""Maps of values among what is to be evaluated, and what their evaluation has no use for."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.errors import ConfigError, SceneError
from geoseg.labels.labels import is_vector
from geoseg.labels.number_rasters import NumberRaster
from pipeline.evaluate.settings import MeasureOptions, TruthOptions
from pipeline.files.maps import CLASSES, VALUES, MapFiles
from pipeline.files.reviews import lies_in_reviews
from pipeline.files.run_folder import WORK, RunFolder

__all__ = ["find_value_maps", "refuse_class_options"]


def find_value_maps(predictions: Sequence[str]) -> list[MapFiles]:
    """Maps of values by name: what ``segment`` wrote of a model that regresses, or rasters of numbers; none for maps of classes.

    Raises:
        ConfigError: Both kinds are there, or a map twice.
    """
    found = [(text, _maps(text)) for text in predictions]
    maps = [one for _, some in found for one in some]
    other = next((text for text, some in found if not some), None)
    if maps and other is not None:
        raise ConfigError(f"--pred: {maps[0].classes} is a map of values, and {other} is none; evaluate them apart")
    names = [one.name for one in maps]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"maps: {doubled[0]} is there {names.count(doubled[0])} times; give each map once")
    return maps


def _maps(text: str) -> list[MapFiles]:
    path = Path(text)
    if path.is_dir():
        # Publishes that were cut off are ended before their files are read.
        for folder in {path, *(work.parent for work in path.rglob(WORK))}:
            RunFolder(folder).settle()
        if (path / VALUES).is_file():
            return [MapFiles(path.resolve().name, str(path / VALUES))]
        below = [p for p in sorted(path.rglob(VALUES)) if not lies_in_reviews(p, path)]
        names = [(p.parent.relative_to(path), p) for p in below]
        maps = [MapFiles(name.as_posix(), str(p)) for name, p in names if not any(part.startswith(".") for part in name.parts)]
        if maps and (classes := next(path.rglob(CLASSES), None)) is not None:
            raise ConfigError(f"--pred: {maps[0].classes} is a map of values, and {classes} one of classes; evaluate them apart")
        return maps
    if path.is_file():
        name = path.resolve().parent.name if path.name == VALUES else path.stem
        return [MapFiles(name, str(path))] if path.name == VALUES or _holds_numbers(path) else []
    return [one for match in sorted(glob.glob(text, recursive=True)) for one in _maps(match)]


def _holds_numbers(path: Path) -> bool:
    """Whether a raster holds decimal numbers, or whole ones by a scale, which no class raster does."""
    if path.suffix.lower() not in (".tif", ".tiff") or path.name == CLASSES:
        return False
    try:
        return not NumberRaster.of(str(path)).is_plain
    except SceneError:
        # What it can't be as a raster of values, it may be as one of classes, whose reader says what is wrong.
        return False


def refuse_class_options(
    truth: str, reading: TruthOptions, options: MeasureOptions, names: Mapping[int, str] | None, *, baselines: bool = False
) -> None:
    """Refuse what is only for classes.

    Raises:
        ConfigError: It was asked for, or the truth has no numbers.
    """
    asked = {
        "--map": bool(reading.values),
        "--column": reading.column is not None,
        "--outside": reading.outside != TruthOptions().outside,
        "--plain": reading.plain,
        "--assume-crs": reading.assume_crs is not None,
        "--boundary": tuple(options.boundary) not in ((), tuple(MeasureOptions().boundary)),
        "--isbi": options.isbi is not None,
        "--names": bool(names),
        "--baseline": baselines,
    }
    key = next((key for key, is_asked in asked.items() if is_asked), None)
    if key is not None:
        raise ConfigError(f"{key}: is for maps of classes, and these are maps of values; leave it out")
    if is_vector(truth):
        raise ConfigError(f"--truth: {truth}: maps of values are compared with rasters of numbers, not with polygons")
