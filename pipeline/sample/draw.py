"""Drawing a reference sample of a map, for people to label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.models.model_folder import file_hash
from geoseg.sampling.draw import Units, count_units, draw_units
from geoseg.windows import Window
from pipeline.files.areas import areas_at, pixel_areas
from pipeline.files.class_rasters import RasterFile
from pipeline.files.outputs import check_new_file
from pipeline.sample.allocation import Drawn, Stratum, allocation_of
from pipeline.sample.file import Design, DesignFacts, write_sample
from pipeline.sample.sampling_frame import (
    LARGEST_BLOCK,
    ClassMap,
    Strata,
    block_strata,
    check_buffer,
    open_map,
    pixel_strata,
    same_place,
)
from pipeline.sample.settings import SampleSettings

__all__ = ["check_target", "draw_sample"]


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that can't become a sample, before the work that would make it.

    Raises:
        ConfigError: It is no GeoPackage.
        OutputError: It is there already.
    """
    if out.suffix.lower() != ".gpkg":
        raise ConfigError(f"--out: {out} does not end in .gpkg")
    check_new_file(out, overwrite=overwrite)


def draw_sample(path: str, out: Path, settings: SampleSettings, *, strata_path: str | None = None) -> Drawn:
    """Draw a stratified random sample of a class raster and write it for labelling.

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
    _check(image, basis, settings)
    titles, strata = _strata(image, basis, settings)
    height, width = (-(-extent // settings.block) for extent in image.raster.shape)
    counted = count_units((height, width), strata, len(titles))
    there = np.flatnonzero(counted.sizes)
    if not len(there):
        raise ConfigError(f"{path}: holds no analysed pixel to draw from")
    if settings.block == 1 and counted.sizes.sum() != image.analysed:
        raise ConfigError(
            f"{strata_path}: {image.analysed - counted.sizes.sum():,} of {image.analysed:,} analysed pixels of {path} are in "
            "no stratum, so that they could not be drawn; give them one, or make them no data in the map"
        )
    wanted = np.zeros(len(titles), np.int64)
    wanted[there], error = allocation_of(counted.sizes[there], [titles[k] for k in there], settings)
    generator = np.random.default_rng(settings.seed)
    drawn = draw_units(counted, strata, wanted, generator)
    # Numbered at random: the order in which people meet them says nothing of what is expected there.
    order = generator.permutation(len(drawn.row))
    position = np.full(len(titles), -1)
    position[there] = np.arange(len(there))
    units = Units(position[drawn.stratum][order], drawn.row[order] * settings.block, drawn.col[order] * settings.block)
    by_stratum: list[Stratum] = [{"name": titles[k], "size": int(counted.sizes[k]), "units": int(wanted[k])} for k in there]
    facts = _facts(image, basis, settings, error, by_stratum)
    design = Design(facts, units.stratum, units.row, units.col, _unit_areas(image.raster, units, settings.block))
    write_sample(out, design, list(image.names.values()), settings.images)
    return {
        "map": facts["map"],
        "strata": facts["strata"],
        "allocation": facts["allocation"],
        "seed": facts["seed"],
        "block": facts["block"],
        "area_m2": facts["area_m2"],
        "expected_se": facts["expected_se"],
        "units": len(units.row),
    }


def _facts(image: ClassMap, basis: ClassMap, settings: SampleSettings, error: float, by_stratum: list[Stratum]) -> DesignFacts:
    """The sampling frame, and how units were drawn."""
    place = image.raster.georeference
    return {
        "map": image.path.name,
        "map_sha256": file_hash(image.path),
        "mask_sha256": image.mask_sha256,
        "strata_of": basis.path.name,
        "strata_sha256": file_hash(basis.path),
        "crs": place.crs,
        "transform": list(place.transform),
        "shape": list(image.raster.shape),
        "block": settings.block,
        "seed": settings.seed,
        "allocation": settings.allocation,
        "expected_se": error,
        "classes": [(code, name) for code, name in image.names.items()],
        "around": list(settings.around),
        "buffer_m": settings.buffer_m,
        "strata": by_stratum,
        "area_m2": dict(image.area),
    }


def _check(image: ClassMap, basis: ClassMap, settings: SampleSettings) -> None:
    one, other = image.raster, basis.raster
    if (
        one.shape != other.shape
        or one.georeference.crs != other.georeference.crs
        or not same_place(one.georeference, other.georeference.transform, one.shape)
    ):
        raise ConfigError(
            f"{other.scene.path}: {other.shape[0]} x {other.shape[1]} px, and {one.scene.path} has {one.shape[0]} x "
            f"{one.shape[1]}, or they lie elsewhere; both are to have one grid"
        )
    for name in settings.around:
        if name not in basis.names.values():
            raise ConfigError(f"--around: {name!r} is none of the classes {', '.join(basis.names.values())}")
    if settings.block > 1:
        if settings.block > LARGEST_BLOCK:
            raise ConfigError(f"--blocks: {settings.block} pixels a side; blocks are read at once, up to {LARGEST_BLOCK}")
        if settings.buffer_m:
            raise ConfigError("--buffer: is for single pixels; blocks are drawn apart by whether they hold classes of --around")
        if basis is not image and not settings.around:
            raise ConfigError("--strata: strata of blocks are those with and without classes of it; name these by --around")
    elif bool(settings.around) != bool(settings.buffer_m):
        raise ConfigError("--buffer: give both --around, the classes, and --buffer, how far the stratum reaches around them")
    elif settings.around:
        check_buffer(basis.raster, settings.buffer_m)


def _strata(image: ClassMap, basis: ClassMap, settings: SampleSettings) -> tuple[list[str], Strata]:
    """Names of the strata, and what reads them."""
    around = tuple(code for code, name in basis.names.items() if name in settings.around)
    if settings.block > 1:
        listed = " or ".join(settings.around)
        titles = [f"blocks without {listed}", f"blocks with {listed}"] if around else ["blocks"]
        return titles, block_strata(image.raster, basis.raster, settings.block, around)
    titles = [*basis.names.values(), *([f"around {' and '.join(settings.around)}"] if around else [])]
    return titles, pixel_strata(image.raster, basis.raster, tuple(basis.names), around, settings.buffer_m)


def _unit_areas(raster: RasterFile, units: Units, block: int) -> NDArray[np.float64]:
    """Analysed area of each unit in square metres; in pixels without a CRS."""
    place = raster.georeference
    if block == 1:
        return (
            np.ones(len(units.row))
            if place.crs is None
            else areas_at(place, *(at.astype(np.float64) + 0.5 for at in (units.row, units.col)))
        )
    found = []
    for row, col in zip(units.row.tolist(), units.col.tolist(), strict=True):
        window = Window.at((row, col), (block, block)) & Window.of(raster.shape)
        assert window is not None
        found.append(pixel_areas(place, window)[raster.classes(window) <= MAX_CLASS].sum())
    return np.array(found, np.float64)
