"""Samples of maps and of buildings: drawn and estimated by what their file says."""

from __future__ import annotations

from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.files.maps import CLASSES, one_result
from pipeline.sample.allocation import Drawn
from pipeline.sample.areas_file import AreaDocument, write_areas
from pipeline.sample.building_numbers import NumberDocument, estimate_numbers, write_numbers
from pipeline.sample.building_sample import draw_buildings, is_of_buildings
from pipeline.sample.buildings_frame import buildings_of, open_buildings
from pipeline.sample.draw import draw_sample
from pipeline.sample.estimate import estimate_areas
from pipeline.sample.response import Reference
from pipeline.sample.settings import SampleSettings

__all__ = ["draw", "estimate", "write_estimates"]


def draw(path: str, out: Path, settings: SampleSettings, *, strata_path: str | None = None) -> Drawn:
    """Draw a sample of a class raster, or of the buildings of a result, and write it for labelling.

    Args:
        path: The class raster, or the folder of a scene with it; or the output folder of ``damage``, or its file of buildings.
        out: The GeoPackage to write.
        settings: How it is drawn.
        strata_path: Of a class raster, another one on the same grid whose classes are the strata.

    Raises:
        ConfigError: The settings don't fit.
        SceneError: The map can't be read.
    """
    path = _result_of(path)
    buildings = buildings_of(path)
    if buildings is None:
        return draw_sample(_raster_of(path), out, settings, strata_path=strata_path)
    if strata_path is not None:
        raise ConfigError("--strata: is for class rasters; buildings have strata of grade and confidence")
    return draw_buildings(open_buildings(buildings), out, settings)


def estimate(
    path: str,
    sample_path: Path,
    *,
    reference: Reference | None = None,
    zones: Path | None = None,
    drop: bool = False,
    correction: bool = True,
) -> AreaDocument | NumberDocument:
    """Estimate areas of classes, or numbers of buildings, from a labelled sample.

    Args:
        path: The map, as ``draw`` takes it.
        sample_path: The sample, as ``draw`` wrote it, labelled.
        reference: Of a class raster, what lies where in the units; by default, what is filled in.
        zones: Of buildings, polygons that numbers are estimated by, too.
        drop: Leave out units without a label instead of refusing.
        correction: Whether the finite population correction is applied.

    Raises:
        ConfigError: It is no probability sample of this map, or is not labelled.
        SceneError: The map or the reference can't be read.
    """
    path = _result_of(path)
    if not is_of_buildings(sample_path):
        if zones is not None:
            raise ConfigError(f"--zones: {sample_path} is no sample of buildings; areas of classes are estimated in all")
        return estimate_areas(_raster_of(path), sample_path, reference=reference, drop=drop, correction=correction)
    if reference is not None:
        raise ConfigError("--reference: is for samples of class rasters; buildings have the labels that are filled in")
    buildings = buildings_of(path)
    if buildings is None:
        raise ConfigError(f"--map: {sample_path} is a sample of buildings; give the output folder of geoseg damage")
    return estimate_numbers(buildings, sample_path, zones=zones, drop=drop, correction=correction)


def _result_of(path: str) -> str:
    """A file, or the folder of the one result that a folder is or holds."""
    return str(one_result(Path(path))) if Path(path).is_dir() else path


def _raster_of(path: str) -> str:
    """The class raster that a path names, itself or as the folder of a scene or a version."""
    inside = Path(path) / CLASSES
    return str(inside) if inside.is_file() else path


def write_estimates(document: AreaDocument | NumberDocument, out: Path | None, table: Path | None) -> None:
    """Write figures as JSON and a table as CSV, where they are asked for.

    Raises:
        OutputError: A file can't be written.
    """
    if document["unit"] == "buildings":
        write_numbers(document, out, table)
    else:
        write_areas(document, out, table)
