"""Polygons of a class raster in a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import rasterio

from geoseg.codes import MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, OutputError
from geoseg.formats.styles import class_styles
from geoseg.formats.vector import EXTENSIONS, check_formats
from geoseg.polygons.features import FeatureFacts
from geoseg.scenes.scene import OpenOptions, Scene, gdal_env, open_scene
from pipeline.atomic import atomic_path
from pipeline.config import Config
from pipeline.raster import RasterFile
from pipeline.vectorize import VectorOptions, cores, vectorize, wanted_codes, write_formats

__all__ = ["vectorize_file"]


def vectorize_file(
    path: str,
    out: Sequence[Path],
    config: Config,
    *,
    confidence: str | None = None,
    names: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> int:
    """Write the polygons of a class raster to files; each appears when it is whole. Returns their number.

    Class names and colours are those of the file (colour table, GDAL category names, our own tags), then ``names``.

    Raises:
        SceneError: The raster can't be read, or is no class raster.
        OutputError: A file is there already, or its folder can't be written.
        ConfigError: An extension is of no known format, or a class is not there.
    """
    formats = [_format_of(file, overwrite=overwrite) for file in out]
    options = OpenOptions(
        allow_vrt=config.scene.allow_vrt, assume_crs=config.scene.assume_crs, pixel_coords=config.scene.pixel_coords
    )
    scene = open_scene([path], Path(path).stem, options)
    if scene.files[0].palette:
        scene = _codes_instead_of_colors(scene)
    raster = RasterFile(scene, open_scene([confidence], "confidence", options) if confidence else None)
    list(check_formats(formats, raster.georeference))
    known, colors = _legend(path, scene)
    labels = {code: f"class {code}" for code in range(MAX_CLASS + 1)} | {NOT_ANALYSED: "not analysed"} | known | dict(names or {})
    asked = config.vector.classes
    wanted = wanted_codes(asked, labels) if asked is not None else tuple(range(MAX_CLASS + 1))
    tags = _tags(path, scene)
    facts = FeatureFacts(
        georeference=raster.georeference, class_names=labels, has_confidence=raster.has_confidence, scene=tags.get("geoseg_scene", scene.name),
        acquired=scene.acquired, model=tags.get("geoseg_model"), model_sha256=tags.get("geoseg_model_sha256"),
        min_area_m2=config.vector.min_area_m2,
    )  # fmt: skip
    threads = config.infer.threads or cores()
    work = Path(tempfile.mkdtemp(prefix=".geoseg-", dir=out[0].parent))
    try:
        spool = vectorize(raster, facts, VectorOptions.of(config.vector, wanted, threads), work)
        styles = class_styles((code, labels[code], colors.get(code)) for code in spool.codes() if code != NOT_ANALYSED)
        for file, name in zip(out, formats, strict=True):
            (written,) = write_formats(spool, (name,), work / "result", raster, styles, threads)
            with atomic_path(file) as temporary:
                shutil.move(written, temporary)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return spool.count


def _format_of(file: Path, *, overwrite: bool) -> str:
    by_extension = {extension: name for name, extension in EXTENSIONS.items()} | {".json": "geojson"}
    name = by_extension.get(file.suffix.lower())
    if name is None:
        raise ConfigError(f"--out: {file}: the extension is none of {', '.join(by_extension)}")
    if file.exists() and not overwrite:
        raise OutputError(f"{file}: is there already; use --overwrite")
    if not file.parent.is_dir():
        raise OutputError(f"{file.parent}: no such folder")
    return name


def _codes_instead_of_colors(scene: Scene) -> Scene:
    """The one band as it is stored: in a class raster the palette is the legend."""
    from dataclasses import replace

    with gdal_env(), rasterio.open(scene.files[0].path) as dataset:
        dtype, nodata = dataset.dtypes[0], dataset.nodata
    band = replace(scene.bands[0], index=1, name="classes", color="gray", dtype=dtype, nodata=nodata)
    return replace(scene, files=(replace(scene.files[0], palette=False),), bands=(band,))


def _tags(path: str, scene: Scene) -> dict[str, str]:
    with gdal_env(), rasterio.open(path, driver=scene.files[0].driver) as dataset:
        tags: dict[str, str] = dataset.tags()
    return tags


def _legend(path: str, scene: Scene) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours by code that the file brings along."""
    names: dict[int, str] = {}
    with gdal_env(), rasterio.open(path, driver=scene.files[0].driver) as dataset:
        for key, value in dataset.tags(1).items():
            if key.startswith("class_") and key[6:].isdigit() and int(key[6:]) < NODATA:
                names[int(key[6:])] = value
        try:
            table = dataset.colormap(1)
        except ValueError:
            table = {}
    return names, {code: "#{:02x}{:02x}{:02x}".format(*rgba[:3]) for code, rgba in table.items()}
