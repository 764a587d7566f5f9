"""Polygons of a class raster in a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from geoseg.codes import MAX_CLASS, NOT_ANALYSED
from geoseg.errors import ConfigError, OutsideAreaError
from geoseg.formats.styles import class_styles
from geoseg.formats.vector import check_formats
from geoseg.parallel import cores
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import FeatureFacts
from geoseg.scenes.legend import Legend
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.area_of_interest import AreaOfInterest
from pipeline.config.sections import Config
from pipeline.files.class_rasters import RasterFile, open_class_raster
from pipeline.files.outputs import check_new_file, output_file
from pipeline.files.spool import FeatureSpool
from pipeline.plan.memory import memory_limit
from pipeline.plan.within import RasterWithin, area_of, refs_in
from pipeline.vectorize.exact import RasterGrown, cut_exactly
from pipeline.vectorize.joined_rasters import JoinedRaster, open_joined
from pipeline.vectorize.run import ENDINGS, vectorize, write_formats
from pipeline.vectorize.scene import wanted_codes
from pipeline.vectorize.traced import VectorOptions

__all__ = ["Written", "vectorize_by_area", "vectorize_file"]

PLACE = "polygons"
"""Stands for the files of a feature where folders are named."""


def vectorize_file(
    path: str | Sequence[str],
    out: Sequence[Path],
    config: Config,
    *,
    confidence: str | Sequence[str] | None = None,
    names: Mapping[int, str] | None = None,
    overwrite: bool = False,
    feature: str | None = None,
) -> int:
    """Write the polygons of a class raster to files; each appears when it is whole. Returns their number.

    Several rasters of one lattice are joined: their polygons go on over their borders. ``confidence`` then names that of each.

    Class names and colours are those of the file (colour table, GDAL category names, our own tags), then ``names``. ``feature``
    is the value of the one feature of the file of areas that is taken, see ``vectorize_by_area``.

    Raises:
        SceneError: A raster can't be read, or is no class raster; or several share no lattice.
        OutputError: A file is there already, or its folder can't be written.
        ConfigError: An extension is of no known format, or a class is not there.
    """
    formats = [_format_of(file, overwrite=overwrite) for file in out]
    options = OpenOptions(
        allow_vrt=config.scene.allow_vrt,
        assume_crs=config.scene.assume_crs,
        pixel_coords=config.scene.pixel_coords,
        memory=memory_limit(config),
    )
    raster, legend = _opened(path, options, confidence, names or {})
    scene, tags = raster.scene, legend.tags
    area = area_of(scene, config, feature)
    list(check_formats(formats, raster.georeference))
    named = _Named.of(raster, dict(legend.names) | dict(names or {}))
    wanted = named.wanted(config.vector.classes)
    facts = FeatureFacts(
        georeference=raster.georeference,
        class_names=named.by_code,
        has_confidence=raster.has_confidence,
        scene=tags.get("geoseg_scene", scene.name if isinstance(path, str) else out[0].stem),
        acquired=scene.acquired,
        model=tags.get("geoseg_model"),
        model_sha256=tags.get("geoseg_model_sha256"),
        min_area_m2=config.vector.min_area_m2,
        written=raster.written,
    )
    threads = config.infer.threads or cores()
    work = Path(tempfile.mkdtemp(prefix=".geoseg-", dir=out[0].parent))
    try:
        how = VectorOptions.of(config.vector, wanted, threads)
        spool = _traced(raster, area, facts, how, work, exact=config.area.aoi_cut == "exact")
        coded = (code for code in spool.codes() if code in raster.written.values() or code != NOT_ANALYSED)
        styles = class_styles((code, named.by_value[code], legend.colors.get(code)) for code in coded)
        for file, name in zip(out, formats, strict=True):
            (written,) = write_formats(spool, (name,), work / "result", raster, styles, threads, config.vector)
            with output_file(file) as temporary:
                shutil.move(written, temporary)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return spool.count


@dataclass(frozen=True, slots=True)
class Written:
    """Files of polygons of a raster, or of what lies in a feature of a file of areas."""

    feature: str | None
    """Its value; None without a column of features."""
    files: tuple[Path, ...]
    count: int
    """Of the polygons."""
    skipped: str | None = None
    """Why there are none: nothing of the raster lies in the feature."""


def vectorize_by_area(
    path: str | Sequence[str],
    out: Sequence[Path],
    config: Config,
    *,
    confidence: str | Sequence[str] | None = None,
    names: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> Iterator[Written]:
    """Write polygons as ``vectorize_file``, of each feature of the file of areas into a folder of its name beside ``out``.

    Without a column of features (``area.aoi_column``) there is one set of files, ``out``.

    Raises:
        ConfigError: Names of features are missing, or are the same.
        OutsideAreaError: Nothing of the raster lies in any.
    """
    refs = refs_in([SceneRef(PLACE, ())], config)
    outside = 0
    for ref in refs:
        files = list(out) if ref.area is None else [file.parent / os.path.dirname(ref.name) / file.name for file in out]
        made = [folder for folder in {file.parent for file in files} if ref.area is not None and not folder.exists()]
        for folder in made:
            folder.mkdir()
        try:
            count = vectorize_file(path, files, config, confidence=confidence, names=names, overwrite=overwrite, feature=ref.area)
        except OutsideAreaError as error:
            outside += 1
            if outside == len(refs):
                raise
            yield Written(ref.area, (), 0, str(error))
        else:
            yield Written(ref.area, tuple(files), count)
        finally:
            for folder in made:
                with suppress(OSError):  # of a feature without polygons it is empty
                    folder.rmdir()


def _opened(
    path: str | Sequence[str], options: OpenOptions, confidence: str | Sequence[str] | None, names: Mapping[int, str]
) -> tuple[RasterFile | JoinedRaster, Legend]:
    """A class raster, or several as one, with all of their values as classes."""
    if isinstance(path, str):
        if confidence is not None and not isinstance(confidence, str):
            raise ConfigError(f"confidence: {len(confidence)} rasters of confidence for one class raster; give one")
        raster, legend = open_class_raster(path, options, confidence=confidence)
        return raster.all_values(), legend
    sure = [confidence] if isinstance(confidence, str) else confidence or ()
    return open_joined(path, options, confidence=sure, named=names)


def _traced(
    raster: ClassRaster, area: AreaOfInterest | None, facts: FeatureFacts, options: VectorOptions, work: Path, *, exact: bool
) -> FeatureSpool:
    """The polygons of what lies in an area, up to the pixels along it, or to its exact line."""
    if area is None:
        return vectorize(raster, facts, options, work)
    within = RasterWithin(raster, area)
    if not exact:
        return vectorize(within, facts, options, work)
    return cut_exactly(vectorize(RasterGrown(within, area), facts, options, work), area, raster.georeference)


@dataclass(frozen=True, slots=True)
class _Named:
    """Names of the classes of a raster, whose values may stand for other codes here."""

    by_value: Mapping[int, str]
    """By what the file holds."""
    by_code: Mapping[int, str]
    """By what stands for it here."""
    codes: Mapping[int, int]
    """By value, where it is another."""

    @classmethod
    def of(cls, raster: RasterFile | JoinedRaster, given: Mapping[int, str]) -> _Named:
        """The names that are given, and those of classes without one."""
        labels = {code: f"class {code}" for code in range(MAX_CLASS + 1)} | {NOT_ANALYSED: "not analysed"} | dict(given)
        values = {value: given.get(value, f"class {value}") for value in raster.written.values()}
        shown = labels | values
        by_code = labels | {code: shown[value] for code, value in raster.written.items()}
        return cls(shown, by_code, {value: code for code, value in raster.written.items()})

    def wanted(self, asked: Sequence[str] | None) -> tuple[int, ...]:
        """The codes of classes; all without any."""
        if asked is None:
            return tuple(range(MAX_CLASS + 1))
        return tuple(self.codes.get(k, k) for k in wanted_codes(asked, self.by_value))


def _format_of(file: Path, *, overwrite: bool) -> str:
    by_extension = {extension: name for name, extension in ENDINGS.items()} | {".json": "geojson"}
    name = by_extension.get(file.suffix.lower())
    if name is None:
        raise ConfigError(f"--out: {file}: the extension is none of {', '.join(by_extension)}")
    check_new_file(file, overwrite=overwrite)
    return name
