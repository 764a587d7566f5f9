"""Verbs that map: scenes, arrays, dates, buildings, and polygons of class rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

from geoseg.errors import ConfigError, SceneError
from pipeline.api.given import call, check_use, config_of, paths, progress_of, text
from pipeline.api.keywords import DeforestationSettings, GradeDamageSettings, SegmentSettings, VectorizeSettings
from pipeline.api.scene_map import Maps, SceneMap, read_polygons

if TYPE_CHECKING:
    from typing import Unpack

    import geopandas
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.config.compositing import Method
    from pipeline.config.sections import Config
    from pipeline.publish.report import SceneReport
    from pipeline.segment.progress import Progress

    type_of_path = str | PathLike[str]

__all__ = ["Vectorized", "deforestation", "grade_damage", "segment", "vectorize"]

MAPPED = ("scene", "area", "stac", "grid", "infer", "vector", "mosaic", "run")


@dataclass(frozen=True, slots=True)
class Vectorized:
    """Files of polygons."""

    count: int
    """Number of polygons."""
    files: tuple[Path, ...]

    def polygons(self) -> geopandas.GeoDataFrame:
        """Them, of the first file.

        Raises:
            ConfigError: geopandas is not installed.
        """
        return read_polygons(self.files[0], self.files[0].name)


@overload
def segment(
    scenes: type_of_path | Sequence[type_of_path],
    *,
    model: type_of_path | Sequence[type_of_path],
    out: type_of_path,
    progress: Progress | bool | None = None,
    **settings: Unpack[SegmentSettings],
) -> Maps: ...


@overload
def segment(
    scenes: NDArray[np.generic],
    *,
    model: type_of_path | Sequence[type_of_path],
    transform: Sequence[float] | None = None,
    crs: object | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[SegmentSettings],
) -> SceneMap: ...


def segment(
    scenes: type_of_path | Sequence[type_of_path] | NDArray[np.generic],
    *,
    model: type_of_path | Sequence[type_of_path],
    out: type_of_path | None = None,
    transform: Sequence[float] | None = None,
    crs: object | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[SegmentSettings],
) -> Maps | SceneMap:
    """Map scenes into folders, or one array in memory.

    Called again after an interruption, it goes on where it was; what is finished is not done again.

    Args:
        scenes: Files, folders, globs, list files (.txt), addresses, STAC items and searches; or an array, (bands, h, w) or
            (h, w), of any type of numbers. Where a masked array is masked in any band, there is no data.
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub; several decide together.
        out: The output folder, in which each scene gets one. Not for arrays.
        transform: Of an array, the affine transform, as rasterio's or ``(a, b, c, d, e, f)``, in units of the CRS.
        crs: Of an array, anything that rasterio takes; without one, say ``pixel_coords=True``.
        progress: True for bars or lines on standard error, or an object that is told; nothing is said by default.
        settings: Those of ``geoseg segment --help``, by the same names, units and defaults.

    Returns:
        A map for each scene, in order, failed ones with their reason; one of all with ``mosaic=True``, one a period with
        ``composite="median"``; of an array its map, which is in memory.

    Raises:
        SceneError: All scenes have failed.
        ConfigError: A setting is unknown or can't work.
        ModelError: The model can't be used.
        OutputError: The folder can't be used, or holds other results.
    """
    config, method = config_of(SegmentSettings, settings, (*MAPPED, "composite")), settings.get("composite")
    of_array, together = hasattr(scenes, "__array__"), settings.get("mosaic", False)
    check_use(settings, config, [] if of_array else paths(scenes), mosaic=together, composite=method)
    if of_array:
        from pipeline.api.in_memory import map_array, written

        if method is not None:
            raise ConfigError("composite: is of many scenes, and an array is one; leave it out")
        if out is not None:
            raise ConfigError("out: an array is mapped in memory; leave out= away, or write the array to a file and map that")
        if config.area.aoi_column is not None:
            raise ConfigError("aoi_column: an array gives one map; give one area as aoi")
        with written(scenes, transform, crs) as (file, folder):
            return map_array(_segment([str(file)], paths(model), folder, config, progress)[0], file)
    if out is None:
        raise ConfigError("out: is missing; name the folder in which each scene gets one")
    if transform is not None or crs is not None:
        raise ConfigError("transform, crs: are those of an array; a file has its own (assume_crs is for files that have none)")
    return Maps(_segment(paths(scenes), paths(model), Path(out), config, progress, together=together, method=method))


def _segment(
    inputs: list[str],
    models: list[str],
    out: Path,
    config: Config,
    asked: Progress | bool | None,
    *,
    together: bool = False,
    method: Method | None = None,
) -> list[SceneMap]:
    from geoseg.models.ensemble import load_models
    from pipeline.composite.mapped import clear_earlier, composites_of
    from pipeline.infer.choose import workers_for
    from pipeline.mosaic.run import map_mosaic
    from pipeline.plan.inputs import scenes_to_map
    from pipeline.segment.folder import segment_folder

    loaded = load_models(models)
    if method is not None:
        inputs, config = composites_of(inputs, config, method, out, mosaic=together)
    found, refused = scenes_to_map(inputs, config, loaded.card.bands, out, together=together)
    progress = progress_of(asked)
    try:
        with workers_for(config) as open_workers:
            run = map_mosaic if together else segment_folder
            reports = run(found, refused, loaded, config, out, open_workers, progress)
    finally:
        progress.close()
    failed = [report for report in reports if report.status == "failed" or report.left_out]
    if failed and len(failed) == len(reports):
        more = f"; {len(failed) - 1} more have failed, as {out / 'index.json'} says" if len(failed) > 1 else ""
        raise SceneError(f"{failed[0].reason}{more}")
    if method is not None and config.run.overwrite and not any(report.status in ("failed", "partial") for report in reports):
        clear_earlier(inputs, out)
    return [_map_of(report, out / report.scene) for report in reports]


def _map_of(report: SceneReport, folder: Path) -> SceneMap:
    return SceneMap(report.scene, report.status, report.reason, folder)


def vectorize(
    raster: type_of_path | Sequence[type_of_path],
    *,
    out: type_of_path | Sequence[type_of_path],
    **settings: Unpack[VectorizeSettings],
) -> Vectorized:
    """Make polygons of a class raster: codes from 0 to 253, one band, of this or any other program.

    Args:
        raster: The class raster; or several of one lattice, whose polygons are joined over their borders.
        out: A file to write, or several: .geojson, .gpkg, .fgb or .parquet.
        settings: Those of ``geoseg vectorize --help``; ``names`` maps codes to names; ``aoi_column`` gives files for each
            feature of the file of areas, in a folder of its name beside ``out``.

    Raises:
        SceneError: The raster can't be read, or is no class raster.
        OutputError: A file is there already, or can't be written.
        ConfigError: A setting is unknown or can't work.
    """
    from pipeline.vectorize.file import vectorize_by_area

    config = config_of(VectorizeSettings, settings, ("vector", "scene", "area", "infer"))
    files = tuple(map(Path, paths(out)))
    own = {key: settings.get(key) for key in ("confidence", "names", "overwrite")}
    several = isinstance(raster, Sequence) and not isinstance(raster, str)
    if own["confidence"] is not None:
        sure = paths(own["confidence"])
        own["confidence"] = sure[0] if len(sure) == 1 and not several else sure
    written = list(call(vectorize_by_area, paths(raster) if several else text(raster), files, config, **own))
    return Vectorized(sum(one.count for one in written), tuple(file for one in written for file in one.files))


def deforestation(
    dates: Sequence[type_of_path],
    *,
    model: type_of_path | Sequence[type_of_path] | None = None,
    out: type_of_path,
    progress: Progress | bool | None = None,
    **settings: Unpack[DeforestationSettings],
) -> SceneMap | Maps:
    """Map loss and gain of forest between dates of one place, the oldest first; ``changes.json`` sums them up.

    Args:
        dates: A scene a date; they may differ in CRS, extent and pixels. With ``mosaic=True`` a folder or a
            glob of scenes a date.
        model: A model of single dates, or one that compares dates; several decide together. None for ready class maps.
        out: The output folder; a folder is made in it.
        progress: As of ``segment``.
        settings: Those of ``geoseg deforestation --help``, by the same names, units and defaults.

    Returns:
        The map; with ``aoi_column`` one for each feature of the file of areas, in order, failed ones with their reason.

    Raises:
        SceneError: A date can't be read, or they can't be laid over each other.
        ConfigError: A setting is unknown or can't work.
        OutputError: The folder can't be used, or holds other results.
    """
    from pipeline.api.changes_map import map_dates

    config = config_of(DeforestationSettings, settings, (*MAPPED, "dates"))
    if (model is None) != bool(settings.get("from_classes")):
        raise ConfigError("model: give either a model, or ready class maps with from_classes=True")
    if model is not None:
        check_use(settings, config, paths(dates), mosaic=settings.get("mosaic", False))
    models = None if model is None else paths(model)
    return map_dates(paths(dates), models, Path(out), config, progress_of(progress), settings)


def grade_damage(
    pre: type_of_path,
    post: type_of_path,
    *,
    model: type_of_path | None = None,
    out: type_of_path,
    progress: Progress | bool | None = None,
    **settings: Unpack[GradeDamageSettings],
) -> SceneMap | Maps:
    """Grade the damage of buildings between two images, one by one; ``damage.json`` sums it up.

    Args:
        pre: The image before the event.
        post: The image after it.
        model: A model of ``geoseg train-damage``, or one that maps the classes of damage by pixels; may be left
            out with ``labels``.
        out: The output folder; a folder is made in it.
        progress: As of ``segment``.
        settings: Those of ``geoseg damage --help``; ``cell`` and ``tolerance`` are in metres.

    Returns:
        The buildings; with ``aoi_column`` those of each feature of the file of areas, in order, failed ones with their reason.

    Raises:
        SceneError: An image can't be read, or they can't be laid over each other.
        ConfigError: A setting is unknown or can't work.
        OutputError: The folder can't be used, or holds other results.
    """
    from pipeline.api.damage_map import grade

    config = config_of(GradeDamageSettings, settings, ("scene", "area", "stac", "dates", "infer", "run"))
    return grade(
        (text(pre), text(post)), None if model is None else text(model), Path(out), config, progress_of(progress), settings
    )
