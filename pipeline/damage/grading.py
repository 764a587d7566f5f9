"""Grading buildings: one by one from crops, part by part so that a run can go on, or from a map of damage by pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoseg.damage.crops import Crop, pixel_shapes
from geoseg.damage.pooling import footprint_mask, pooled
from geoseg.damage.scale import CLASSES, LABELS
from geoseg.errors import ModelError, SceneError
from geoseg.georeference import Georeference
from geoseg.models.card import Card
from geoseg.models.model_folder import Model
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.scenes.names import scene_name
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.config.sections import AreaConfig, Config
from pipeline.damage.buildings import Building, crops_of
from pipeline.files.manifest import Manifest
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.dates import OpenedDates, dates_of
from pipeline.segment.folder import segment_folder

if TYPE_CHECKING:
    from geoseg.inference.onnx_session import OnnxSession

__all__ = ["PART", "Grade", "ahead", "classes_of_damage", "grade_by_crops", "grade_by_pixels"]

Item = TypeVar("Item")
PART = 64
"""Buildings of a part: what the network sees at once, and what is done again when a run is stopped."""


class Grade(NamedTuple):
    """Probabilities of the classes of a building, or why there are none."""

    reason: str | None
    """Reason why it is not analysed; None where it is."""
    probability: NDArray[np.float32] | None
    """(K,) of the classes; None where it is not analysed."""


def grade_by_crops(
    buildings: Sequence[Building],
    opened: OpenedDates,
    model: Model,
    values: ValueMap,
    manifest: Manifest,
    *,
    threads: int,
    tell: Callable[[int], None],
) -> Iterator[tuple[Building, Grade]]:
    """Grade buildings one by one. Parts that the manifest has are not graded again, and what is graded is added to it.

    Args:
        buildings: In the order in which the images are read.
        opened: The images.
        model: A model that grades buildings.
        values: How pixels become what the model takes.
        manifest: Of this run, with these buildings in this order.
        threads: Of the network; 0 for all cores.
        tell: Called with the number of buildings of each part that is done.

    Raises:
        ModelError: The model can't be used.
        SceneError: The images can't be read.
    """
    assert model.card.damage is not None
    parts = [buildings[k : k + PART] for k in range(0, len(buildings), PART)]
    missing = [number for number, part in enumerate(parts) if not _has(manifest, number, len(part))]
    if missing:
        session = _session(model, threads)
        crops = crops_of([b for number in missing for b in parts[number]], opened, model.card.damage, values)
        tell(sum(len(part) for part in parts) - sum(len(parts[number]) for number in missing))
        for number, batch in ahead((number, list(islice(crops, len(parts[number])))) for number in missing):
            grades = _graded(session, [crop for _, crop in batch])
            manifest.add_chunk(
                number, {"status": "done", "reason": [g.reason for g in grades], "p": [_listed(g) for g in grades]}
            )
            tell(len(batch))
    for number, part in enumerate(parts):
        record = manifest.chunks[number]
        for building, reason, p in zip(part, record["reason"], record["p"], strict=True):
            yield building, Grade(reason, None if p is None else np.array(p, np.float32))


def _has(manifest: Manifest, number: int, count: int) -> bool:
    return number in manifest.chunks and len(manifest.chunks[number]["p"]) == count


def _listed(grade: Grade) -> list[float] | None:
    # Text of a double that was a float32 reads back as it was.
    return None if grade.probability is None else [float(v) for v in grade.probability]


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Items of an iterable, one made by another thread while the one before is used."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-crops") as pool:
        coming: Future[list[Item]] = pool.submit(list, islice(iterator, 1))
        while item := coming.result():
            coming = pool.submit(list, islice(iterator, 1))
            yield item[0]


def _session(model: Model, threads: int) -> OnnxSession:
    from geoseg.inference.onnx_session import OnnxSession

    if model.onnx is None:
        raise ModelError(f"{model.path}: has no model.onnx; train it again with geoseg train-damage")
    return OnnxSession(model.onnx, threads=threads)


def _graded(session: OnnxSession, crops: Sequence[Crop]) -> list[Grade]:
    analysed = [crop for crop in crops if crop.reason is None]
    found: NDArray[np.float32] = np.empty((0, len(CLASSES)), np.float32)
    if analysed:
        image, mask = np.stack([crop.image for crop in analysed]), np.stack([crop.mask[None] for crop in analysed])
        found = session.run({"image": image, "mask": mask})[0]
    each = iter(found)
    return [Grade(crop.reason, None if crop.reason is not None else next(each)) for crop in crops]


def classes_of_damage(card: Card) -> list[int] | None:
    """Codes of the scale's classes in a model that maps pixels; None where one is missing."""
    codes = {LABELS[c.name.lower()]: c.value for c in card.classes if c.name.lower() in LABELS}
    return [codes[k] for k in range(len(CLASSES))] if len(codes) == len(CLASSES) else None


def grade_by_pixels(
    buildings: Sequence[Building],
    crs: pyproj.CRS | None,
    ref: SceneRef,
    model: Model,
    config: Config,
    out: Path,
    tolerance_m: float,
) -> Iterator[tuple[Building, Grade]]:
    """Map damage by pixels into ``out``, and pool it over each footprint.

    Args:
        buildings: In the order in which the images are read.
        crs: Of their geometries.
        ref: The images.
        model: A model whose classes are those of damage, of the image after or of both.
        config: The settings.
        out: Where the map goes.
        tolerance_m: Pixels so near to a footprint count to it.

    Raises:
        SceneError: The images can't be mapped.
    """
    codes = classes_of_damage(model.card)
    assert codes is not None
    # A model of one date sees the image after the event.
    target = ref if dates_of(model.card) > 1 else replace(ref.later[-1], name=scene_name(f"{ref.name}_after"))
    infer = config.infer.model_copy(update={"probabilities": True, "task": "semantic"})
    # Buildings at the border of an area of interest are graded whole.
    vector = config.vector.model_copy(update={"formats": ()})
    own = config.model_copy(update={"infer": infer, "vector": vector, "area": AreaConfig()})
    (report,) = segment_folder([target], [], model, own, out, LocalWorkers)
    if report.status == "failed":
        raise SceneError(f"{report.reason}")
    with gdal_env(), open_written(out / target.name / "probabilities.tif") as raster:
        place = Georeference(tuple(raster.transform)[:6], None if raster.crs is None else raster.crs.to_wkt())
        scene = Window.of((raster.height, raster.width))
        shapes = pixel_shapes(np.array([b.geometry for b in buildings], object), crs, place)
        for building, shape in zip(buildings, shapes, strict=True):
            if shape is None or not np.isfinite(shape.bounds).all():
                yield building, Grade("no polygon" if shape is None else "off image", None)
                continue
            left, top, right, bottom = shape.bounds
            whole = Window.between(int(np.floor(top)), int(np.ceil(bottom)) + 1, int(np.floor(left)), int(np.ceil(right)) + 1)
            sides = place.pixel_sides(Window.of((1, 1))) or (1.0, 1.0)
            rows, cols = (int(np.ceil(tolerance_m / side)) + 1 for side in sides)
            window = whole.grown(rows, cols) & scene
            if window is None or (whole & scene) is None:
                yield building, Grade("off image", None)
                continue
            inside = shapely.transform(shape, lambda xy, w=window: xy - [w.col_off, w.row_off])
            mask = footprint_mask(inside, window.shape, sides, tolerance_m)
            area = window.for_rasterio()
            p, reason = pooled(raster.read([code + 1 for code in codes], window=area), mask)
            yield building, Grade(reason, p)
