"""Chips: labelled scenes in, small GeoTIFFs of images and labels with an index out, for other tools. Training needs none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import antimeridian
import numpy as np
import rasterio
import rasterio.errors
import shapely
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS, UNLABELLED
from geoseg.errors import ConfigError, GeoreferenceError, OutputError
from geoseg.formats.text import write_table
from geoseg.georeference import Georeference
from geoseg.labels.labels import is_vector, open_labels
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions, Scene, gdal_env
from geoseg.scenes.sources import list_scenes
from geoseg.training.data.chips import Chip
from geoseg.training.data.labelled import LabelledScene, Values
from geoseg.training.data.samplers import make_sampler
from geoseg.windows import Window
from pipeline.files.atomic import DISK_ERRORS, write_json
from pipeline.files.outputs import atomic_folder, check_new_folder
from pipeline.train.label_files import pair_labels

__all__ = ["ChipOptions", "LabelOptions", "write_chips"]

log = logging.getLogger(__name__)

FIELDS = ("image", "label", "scene", "row", "col", "height", "width", "valid_px", "labelled_px", "counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """What labels mean."""

    codes: Mapping[str, int] | None = None
    """Class codes by raster value or text of the class column; None takes raster values as they are, and features as 1."""
    column: str | None = None
    """Of vector labels, the column that names the class."""
    outside: int = UNLABELLED
    """Code of what lies outside all features."""
    ignore: str | None = None
    """A vector file with areas that are not labelled."""
    all_touched: bool = False
    """Burn all pixels that a feature touches."""
    border: int = 0
    """Pixels to each side of a border between classes or objects that are not labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipOptions:
    """Which chips are written."""

    size: int = 256
    """Rows and columns."""
    step: int | None = None
    """Pixels from each chip of the grid to the next; None for ``size``."""
    sampler: str = "grid"
    """``grid``, ``area`` or ``class``."""
    count: int = 1000
    """How many are drawn by samplers other than the grid; those drawn twice are written once."""
    seed: int = 0
    """Of what is drawn."""
    labelled: float = 0.0
    """Least share of labelled pixels; chips without any are left out in any case."""


def write_chips(
    images: Sequence[str],
    labels: Sequence[str],
    out: Path,
    *,
    meaning: LabelOptions | None = None,
    options: ChipOptions | None = None,
    scenes: OpenOptions | None = None,
    overwrite: bool = False,
) -> int:
    """Write chips of labelled scenes to a folder, which appears when it is whole.

    ``images/`` has GeoTIFFs with all bands in the scene's data type (float32 where that can't hold it) and a mask of what is
    data, ``labels/`` one band of class codes with nodata 255, under the same names. ``index.csv`` and ``index.geojson`` list
    them, with footprints in WGS 84. Past the edge of a scene that is smaller than a chip there is no data.

    Returns:
        How many chips were written.

    Raises:
        ConfigError: An option can't work, labels are missing, or no chip is labelled.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there, or can't be written.
    """
    meaning, options = meaning or LabelOptions(), options or ChipOptions()
    _check(meaning, options)
    check_new_folder(out, overwrite=overwrite)
    sources = _open(images, labels, meaning, scenes or OpenOptions())
    entries: list[dict[str, Any]] = []
    try:
        with atomic_folder(out, replace=overwrite) as folder:
            for number, window in _windows(sources, meaning, options):
                source = sources[number]
                chip = source.read(window)
                known = int((chip.labels != UNLABELLED).sum())
                if known == 0 or known < options.labelled * window.pixels:
                    continue
                entries.append(_write(folder, source, window, chip))
            if not entries:
                raise ConfigError(
                    f"labels: no chip has labelled pixels, of {len(sources)} scenes; check the classes and the labels' place"
                )
            _write_index(folder, entries)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise OutputError(f"{out}: can't be written: {error.strerror}") from error
        raise
    return len(entries)


def _check(meaning: LabelOptions, options: ChipOptions) -> None:
    if options.size < 1 or (options.step is not None and options.step < 1):
        raise ConfigError(f"--size {options.size}, --step {options.step}: are at least 1 pixel")
    if options.count < 1:
        raise ConfigError(f"--count {options.count}: is at least 1")
    if options.step is not None and options.sampler != "grid":
        raise ConfigError(f"--step: is for --sampler grid, not {options.sampler}")
    if options.sampler not in ("grid", "area", "class"):
        raise ConfigError(f"--sampler: {options.sampler!r} is not known; choose one of grid, area, class")
    if not 0 <= options.labelled <= 1:
        raise ConfigError(f"--labelled {options.labelled}: is a share from 0 to 1")
    if meaning.border < 0:
        raise ConfigError(f"--border {meaning.border}: is at least 0 pixels")
    if meaning.column is not None and meaning.codes is None:
        raise ConfigError(
            f"--class-column {meaning.column}: say with --classes which code each text stands for: forest=1,water=2"
        )
    for text, code in {**(meaning.codes or {}), "--outside": meaning.outside}.items():
        if not (0 <= code <= MAX_CLASS or code == UNLABELLED):
            raise ConfigError(f"{text}: code {code} is not within 0..{MAX_CLASS}, nor {UNLABELLED} for what is not labelled")


def _open(images: Sequence[str], labels: Sequence[str], meaning: LabelOptions, how: OpenOptions) -> list[LabelledScene]:
    refs, refused = list_scenes(images, allow_vrt=how.allow_vrt)
    for item in refused:
        if item.status == "failed":
            raise ConfigError(f"images: {item.reason}")
    sources = []
    for ref, path in pair_labels(refs, labels):
        scene = open_scene(ref.paths, ref.name, how, band_names=ref.band_names)
        place = scene.georeference if scene.georeference.crs is not None else None
        codes = meaning.codes
        if codes is None:
            codes = {"": 1} if is_vector(path) else {str(code): code for code in range(MAX_CLASS + 1)}
        found = open_labels(
            path,
            place,
            scene.height,
            scene.width,
            codes,
            column=meaning.column,
            outside=meaning.outside,
            ignore=meaning.ignore,
            all_touched=meaning.all_touched,
        )
        sources.append(_as_it_is(scene, found, meaning.border))
    return sources


def _as_it_is(scene: Scene, labels: Any, border: int) -> LabelledScene:
    """A source of all bands with the values that the file has."""
    kind = str(np.result_type(*(band.dtype for band in scene.bands)))
    alike = replace(scene, bands=tuple(replace(band, dtype=kind) for band in scene.bands))
    names = tuple(f"{k} {band.label}" for k, band in enumerate(scene.bands, start=1))
    source = LabelledScene(alike, labels, Values(names, kind), chosen=[str(k + 1) for k in range(len(names))], border=border)
    if _written_as(source) != kind:
        log.warning("%s: %s pixels are written as float32", scene.path, kind)
    return source


def _written_as(source: LabelledScene) -> str:
    kind = source.scene.dtype
    return kind if np.can_cast(kind, np.float32, "safe") and kind != "float16" else "float32"


def _windows(sources: Sequence[LabelledScene], meaning: LabelOptions, options: ChipOptions) -> Iterator[tuple[int, Window]]:
    size = options.size
    if options.sampler == "grid":
        step = options.step or size
        for number, source in enumerate(sources):
            for row in _starts(source.height, size, step):
                for col in _starts(source.width, size, step):
                    yield number, Window.at((row, col), (size, size))
        return
    codes = [*(meaning.codes or {}).values(), meaning.outside]
    classes = 1 + max((code for code in codes if code != UNLABELLED), default=MAX_CLASS) if meaning.codes else MAX_CLASS + 1
    refs = make_sampler(options.sampler, sources, size, options.seed, classes).epoch(0, options.count)
    yield from sorted({(ref.source, ref.window) for ref in refs})


def _starts(extent: int, size: int, step: int) -> list[int]:
    """Where the chips of a grid start; the last one ends with the scene."""
    last = max(0, extent - size)
    return sorted({*range(0, last, step), last})


def _write(folder: Path, source: LabelledScene, window: Window, chip: Chip) -> dict[str, Any]:
    name = f"{source.name}_{window.row_off}_{window.col_off}.tif"
    image = chip.image.astype(_written_as(source))
    names = tuple(band.name for band in source.scene.bands)
    _write_tiff(folder / "images" / name, image, source.georeference, window, valid=chip.valid, names=names)
    _write_tiff(folder / "labels" / name, chip.labels[None], source.georeference, window, nodata=UNLABELLED)
    counts = np.bincount(chip.labels.ravel(), minlength=UNLABELLED + 1)[:UNLABELLED]
    return {
        "image": f"images/{name}",
        "label": f"labels/{name}",
        "scene": source.name,
        "row": window.row_off,
        "col": window.col_off,
        "height": window.height,
        "width": window.width,
        "valid_px": int(chip.valid.sum()),
        "labelled_px": int(counts.sum()),
        "counts": {str(code): int(counts[code]) for code in np.flatnonzero(counts)},
        "footprint": _footprint(source, window),
    }


def _write_tiff(
    path: Path,
    data: NDArray[Any],
    place: Georeference | None,
    window: Window,
    *,
    valid: NDArray[np.bool_] | None = None,
    nodata: int | None = None,
    names: Sequence[str | None] = (),
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    where: dict[str, Any] = {}
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


def _footprint(source: LabelledScene, window: Window) -> dict[str, Any] | None:
    """The outline of a chip on the ground, in degrees, cut at the antimeridian; None where it has no place."""
    place = source.georeference
    if place is None:
        return None
    edge = np.linspace(0, 1, 5)[:-1]
    zeros, ones = np.zeros(4), np.ones(4)
    rows = window.row_off + window.height * np.concatenate([zeros, edge, ones, 1 - edge])
    cols = window.col_off + window.width * np.concatenate([edge, ones, 1 - edge, zeros])
    try:
        # Counterclockwise on the ground: winding can't be told from longitudes that jump.
        outline = shapely.Polygon(place.lonlat(rows, cols)[:: 1 if place.mirrored else -1])
    except GeoreferenceError:
        return None
    found: dict[str, Any] = shapely.geometry.mapping(antimeridian.fix_polygon(outline, fix_winding=False))
    return found


def _write_index(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    rows = (
        entry | {"counts": " ".join(f"{code}:{count}" for code, count in entry["counts"].items())} for entry in map(dict, entries)
    )
    write_table(folder / "index.csv", FIELDS, rows)
    features = [
        {"type": "Feature", "geometry": entry["footprint"], "properties": {name: entry[name] for name in FIELDS}}
        for entry in entries
    ]
    write_json(folder / "index.geojson", {"type": "FeatureCollection", "features": features})
