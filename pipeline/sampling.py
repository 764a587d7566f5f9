"""Drawing a reference sample of a map, for people to label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.models.folder import file_hash
from geoseg.sampling.design import Allocation, allocate, size_for
from geoseg.sampling.draw import OUTSIDE, Units, count_units, draw_units
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.areas import measure_codes
from pipeline.raster import Legend, RasterFile, open_class_raster
from pipeline.sample_file import Design, write_sample

__all__ = ["ClassMap", "SampleSettings", "areas_of", "draw_sample", "open_map"]

BUFFER = 256
"""Code of the stratum around some classes."""
DEFAULT_ACCURACY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """How a sample is drawn."""

    size: int | None = None
    """Units; None for what the target asks."""
    target_se: float = 0.01
    """Standard error of the overall accuracy, where no size is given."""
    expected: Mapping[str, float] | None = None
    """Expected user's accuracy by name of class; 0.8 for the others."""
    allocation: Allocation = "proportional"
    """How units are shared among strata."""
    least: int = 50
    """Units that each stratum has at least."""
    around: tuple[str, ...] = ()
    """Classes around which there is a stratum of its own."""
    buffer_m: float = 0.0
    """How far it reaches, in metres; pixels without a CRS."""
    block: int = 1
    """Side of a unit in pixels: above 1, blocks are drawn."""
    seed: int = 0
    images: tuple[str, ...] = ()
    """Images that are named on each unit."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """A class raster with its legend."""

    path: Path
    """The file."""
    raster: RasterFile
    """Its pixels."""
    names: Mapping[int, str]
    """Names by code; made up where the file has none."""


def open_map(path: str) -> ClassMap:
    """Open a class raster.

    Raises:
        SceneError: It can't be read, or is no class raster.
    """
    raster, legend = open_class_raster(path, OpenOptions())
    return ClassMap(Path(path), raster, _names(raster, legend))


def _names(raster: RasterFile, legend: Legend) -> dict[int, str]:
    known = {code: name for code, name in legend.names.items() if code <= MAX_CLASS}
    return known or {code: f"class {code}" for code in _codes_of(raster)}


def _codes_of(raster: RasterFile) -> list[int]:
    found = np.zeros(256, np.bool_)
    for window in Window(0, 0, *raster.shape).parts(1024):
        found[np.unique(raster.classes(window))] = True
    return [int(code) for code in np.flatnonzero(found[: MAX_CLASS + 1])]


def draw_sample(path: str, out: Path, settings: SampleSettings, *, strata_path: str | None = None) -> dict[str, Any]:
    """Draw a stratified random sample of a class raster and write it for interpretation.

    Args:
        path: The map.
        out: The GeoPackage to write.
        settings: How it is drawn.
        strata_path: A class raster on the same grid whose classes are the strata; the map's by default.

    Returns:
        What was drawn, as a JSON object.

    Raises:
        ConfigError: The settings don't fit the map.
        SceneError: It can't be read.
    """
    image = open_map(path)
    basis = image if strata_path is None else open_map(strata_path)
    _same_grid(image.raster, basis.raster)
    by_name = {name: code for code, name in basis.names.items()}
    for name in settings.around:
        if name not in by_name:
            raise ConfigError(f"around: {name!r} is none of the classes {', '.join(by_name)}")
    if bool(settings.around) != bool(settings.buffer_m) and settings.block == 1:
        raise ConfigError("buffer: give both --around, the classes, and --buffer, how far the stratum reaches around them")
    codes = [*basis.names, *([BUFFER] if settings.around and settings.block == 1 else [])]
    wanted = tuple(by_name[name] for name in settings.around)
    place = image.raster.georeference
    if settings.block > 1:
        shape = tuple(-(-extent // settings.block) for extent in image.raster.shape)
        codes = [0, 1] if wanted else [0]
        titles = {
            0: "blocks without " + " or ".join(settings.around) if wanted else "blocks",
            1: "blocks with " + " or ".join(settings.around),
        }
        strata = _block_strata(basis.raster, settings.block, wanted)
    else:
        shape, titles = image.raster.shape, {**basis.names, BUFFER: f"around {' and '.join(settings.around)}"}
        strata = _pixel_strata(basis.raster, codes, wanted, settings.buffer_m)
    counted = count_units((shape[0], shape[1]), strata, len(codes))
    there = np.flatnonzero(counted.sizes)
    if not len(there):
        raise ConfigError(f"{path}: holds no analysed pixel to draw from")
    sizes = counted.sizes[there]
    weight = sizes / sizes.sum()
    expected = settings.expected or {}
    for name, value in expected.items():
        if name not in titles.values():
            raise ConfigError(f"expected_accuracy: {name!r} is no stratum: {', '.join(titles[codes[k]] for k in there)}")
        if not 0 < value < 1:
            raise ConfigError(f"expected_accuracy: {value:g} of {name} is not between 0 and 1")
    users = np.array([expected.get(titles[codes[k]], DEFAULT_ACCURACY) for k in there])
    deviation = np.sqrt(users * (1 - users))
    total = settings.size or size_for(weight, deviation, settings.target_se, float(sizes.sum()))
    least = int(min(settings.least, sizes.max()))
    total = min(max(total, 0 if settings.size else int(np.minimum(least, sizes).sum())), int(sizes.sum()))
    units_by_stratum = np.zeros(len(codes), np.int64)
    units_by_stratum[there] = allocate(total, weight, sizes, settings.allocation, deviation=deviation, least=least)
    generator = np.random.default_rng(settings.seed)
    drawn = draw_units(counted, strata, units_by_stratum, generator)
    # Numbered at random: the order in which people meet them says nothing of what is expected there.
    order = generator.permutation(len(drawn.row))
    position = np.full(len(codes), -1)
    position[there] = np.arange(len(there))
    units = Units(position[drawn.stratum][order], drawn.row[order] * settings.block, drawn.col[order] * settings.block)
    areas = _unit_areas(image.raster, units, settings.block)
    facts = {
        "map": image.path.name, "map_sha256": file_hash(image.path), "strata_of": basis.path.name,
        "strata_sha256": file_hash(basis.path), "crs": place.crs, "transform": list(place.transform), "shape": list(image.raster.shape),
        "pixel": float(abs(place.determinant)) ** 0.5, "block": settings.block, "seed": settings.seed,
        "allocation": settings.allocation, "classes": [[code, name] for code, name in image.names.items()],
        "around": list(settings.around), "buffer_m": settings.buffer_m,
        "strata": [
            {"name": titles[codes[k]], "size": int(counted.sizes[k]), "units": int(units_by_stratum[k])} for k in there
        ],
        "area_m2": areas_of(image.raster),
    }  # fmt: skip
    geometries = _shapes(place, units, settings.block, image.raster.shape)
    write_sample(
        out, Design(facts, units.stratum, units.row, units.col, areas), geometries, place.crs, list(image.names.values()),
        "; ".join(settings.images),
    )  # fmt: skip
    return {key: facts[key] for key in ("map", "strata", "allocation", "seed", "block", "area_m2")} | {"units": len(units.row)}


def _same_grid(one: RasterFile, other: RasterFile) -> None:
    if one.shape != other.shape or one.georeference != other.georeference:
        raise ConfigError(
            f"{other.scene.path}: {other.shape[0]} x {other.shape[1]} px, and {one.scene.path} has {one.shape[0]} x {one.shape[1]}, or "
            "they lie elsewhere; both are to have one grid"
        )


def _pixel_strata(
    raster: RasterFile, codes: Sequence[int], around: tuple[int, ...], buffer_m: float
) -> Callable[[Window], NDArray[np.int16]]:
    table = np.full(256, OUTSIDE, np.int16)
    table[[code for code in codes if code <= MAX_CLASS]] = np.arange(sum(code <= MAX_CLASS for code in codes))

    def read(window: Window) -> NDArray[np.int16]:
        found = table[raster.classes(window)]
        if around:
            near = _near(raster, window, around, buffer_m)
            found[near & (found != OUTSIDE)] = len(codes) - 1
        return found

    return read


def _near(raster: RasterFile, window: Window, around: tuple[int, ...], buffer_m: float) -> NDArray[np.bool_]:
    """Pixels of other classes within a distance of some classes."""
    from scipy import ndimage

    middle = Window(raster.shape[0] // 2, raster.shape[1] // 2, 1, 1)
    row_m, col_m = raster.georeference.pixel_sides(middle) or (1.0, 1.0)
    rows, cols = int(np.ceil(buffer_m / row_m)) + 1, int(np.ceil(buffer_m / col_m)) + 1
    wide = Window(window.row_off - rows, window.col_off - cols, window.height + 2 * rows, window.width + 2 * cols)
    inside = wide & Window(0, 0, *raster.shape)
    assert inside is not None
    classes = raster.classes(inside)
    own = np.isin(classes, around)
    if not own.any():
        return np.zeros(window.shape, np.bool_)
    near = ndimage.distance_transform_edt(~own, sampling=(row_m, col_m)) <= buffer_m
    return np.asarray((near & ~own)[window.slices_in(inside)])


def _block_strata(raster: RasterFile, block: int, around: tuple[int, ...]) -> Callable[[Window], NDArray[np.int16]]:
    """Blocks with some classes, and without; those without an analysed pixel are outside."""
    height, width = raster.shape

    def read(window: Window) -> NDArray[np.int16]:
        found = np.full(window.shape, OUTSIDE, np.int16)
        for row in range(window.height):
            top = (window.row_off + row) * block
            strip = Window(
                top, window.col_off * block, min(block, height - top), min(window.width * block, width - window.col_off * block)
            )
            classes = raster.classes(strip)
            padded = np.pad(classes, [(0, 0), (0, -classes.shape[1] % block)], constant_values=255)
            cells = padded.reshape(classes.shape[0], -1, block)
            known: NDArray[np.bool_] = np.asarray((cells <= MAX_CLASS).any(axis=(0, 2)))
            with_them = np.isin(cells, around).any(axis=(0, 2)) if around else np.zeros(len(known), np.bool_)
            found[row] = np.where(known, with_them.astype(np.int16), OUTSIDE)
        return found

    return read


def _unit_areas(raster: RasterFile, units: Units, block: int) -> NDArray[np.float64]:
    """Analysed area of each unit in square metres; in pixels without a CRS."""
    place = raster.georeference
    if block == 1:
        if place.crs is None:
            return np.ones(len(units.row))
        metric = [place.metric(Window(int(r), int(c), 1, 1), spacing=1) for r, c in zip(units.row, units.col, strict=True)]
        return np.array([float(m.area.mean()) for m in metric if m is not None])
    found = []
    for row, col in zip(units.row.tolist(), units.col.tolist(), strict=True):
        window = Window(row, col, block, block) & Window(0, 0, *raster.shape)
        assert window is not None
        pixels, area = measure_codes(raster.classes(window), window, place)
        found.append(sum(value for code, value in (area or pixels).items() if int(code) <= MAX_CLASS))
    return np.array(found, np.float64)


def areas_of(raster: RasterFile) -> dict[str, float]:
    """Square metres (pixels without a CRS) of each code of a raster."""
    total: dict[str, float] = {}
    for window in Window(0, 0, *raster.shape).parts(1024):
        pixels, area = measure_codes(raster.classes(window), window, raster.georeference)
        for code, value in (area or pixels).items():
            total[code] = total.get(code, 0.0) + value
    return total


def _shapes(place: Georeference, units: Units, block: int, shape: tuple[int, int]) -> NDArray[Any]:
    import shapely

    rows, cols = units.row.astype(np.float64), units.col.astype(np.float64)
    if block == 1:
        xy = place.xy(rows + 0.5, cols + 0.5)
        return np.asarray(shapely.points(xy[..., 0], xy[..., 1]))
    bottom, right = np.minimum(rows + block, shape[0]), np.minimum(cols + block, shape[1])
    ring = [place.xy(r, c) for r, c in ((rows, cols), (rows, right), (bottom, right), (bottom, cols), (rows, cols))]
    return np.asarray(shapely.polygons(np.stack(ring, axis=1)))
