"""From a path to a scene: what its file says of bands, validity and place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors
import rasterio.warp
from rasterio.enums import ColorInterp, MaskFlags

from geoseg.crs import opens_files
from geoseg.errors import BandError, DtypeError, GeoreferenceError, SceneTooLargeError
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import acquisition_date
from geoseg.scenes.alpha import alpha_of
from geoseg.scenes.band_roles import ALPHA, Role, agree, default_colors, is_anonymous, platform_of, roles_of, tags_of_bands
from geoseg.scenes.block_sizes import block_bytes_of, blocks_of, refuse_large_block
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.gdal import check_beside, gdal_env, open_dataset
from geoseg.scenes.preflight import check_file
from geoseg.scenes.remote import is_remote, probe, shown
from geoseg.scenes.scene import Band, OpenOptions, Scene, SceneFile, Validity
from geoseg.scenes.views import georeference_of, view_of
from geoseg.tiff import GDAL_NODATA, TiffStructure

__all__ = ["open_scene"]

MAX_TAG = 200
"""Longer tags are no names of satellites."""


def open_scene(
    paths: str | os.PathLike[str] | Sequence[str],
    name: str | None = None,
    options: OpenOptions | None = None,
    *,
    band_names: Sequence[str | None] = (),
) -> Scene:
    """Open the files of one scene and refuse it where its pixels could not be read or placed.

    No pixel is read yet: ``geoseg.scenes.reader.SceneReader(scene, bands).read(window)`` gives ``data``, (bands, h, w) in the
    type of the file, and ``valid``, (h, w) bool.

    Args:
        paths: Its file, or several band files, which must share one grid: local GeoTIFFs, or addresses.
        name: Path of its output folder, under the run's output; by default the stem of the first file.
        options: What to accept; by default nothing that would have to be guessed.
        band_names: For band files, the name of each file's band.

    Returns:
        Its size in pixels, georeference, bands with their types, nodata, date, and fingerprint.

    Raises:
        SceneError: One clear sentence on what is wrong and what to do.
    """
    paths = [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else paths
    options = options or OpenOptions()
    name = Path(paths[0]).stem if name is None else name
    parts = [_part_of(path, options) for path in paths]
    first = parts[0]
    if not options.resample:
        _refuse_other_grids(paths[0], parts)
    bands = tuple(
        replace(band, file=i, name=(band_names[i] if i < len(band_names) and band_names[i] else band.name))
        for i, part in enumerate(parts)
        for band in part.bands
    )
    scene = Scene(
        name=name,
        files=tuple(part.files[0] for part in parts),
        bands=bands,
        height=first.height,
        width=first.width,
        georeference=first.georeference,
        acquired=first.acquired,
        fingerprint=fingerprint(list(paths)),
        modified=_modified(paths),
        view=first.view,
        ignore_nodata=options.ignore_nodata,
        warnings=tuple(dict.fromkeys(w for part in parts for w in part.warnings)),
    )
    _refuse_large(scene, options)
    return scene


def _part_of(path: str, options: OpenOptions) -> Scene:
    """The scene that one file alone would be, once it is safe to open."""
    structure = None
    if not is_remote(path):
        structure = check_file(Path(path), allow_vrt=options.allow_vrt, max_block_bytes=options.max_block_bytes)
    else:
        probe(path)
    driver = "VRT" if not is_remote(path) and structure is None else "GTiff"
    return _read_facts(path, driver, structure, options)


def _refuse_other_grids(path: str, parts: Sequence[Scene]) -> None:
    first = parts[0]
    for other in parts[1:]:
        if (other.height, other.width, other.georeference) != (first.height, first.width, first.georeference):
            raise GeoreferenceError(
                f"{shown(path)}: its band file {Path(other.files[0].path).name} has another grid "
                f"({other.height} x {other.width} against {first.height} x {first.width} pixels); "
                "use --resample, or choose bands of one resolution with --bands"
            )


def _refuse_large(scene: Scene, options: OpenOptions) -> None:
    if scene.height * scene.width > options.max_pixels:
        raise SceneTooLargeError(
            f"{scene.path}: {scene.height} x {scene.width} = {scene.height * scene.width:,} pixels; "
            f"the limit is {options.max_pixels:,} (--max-pixels)"
        )
    if options.memory is not None:
        for file in scene.files:
            refuse_large_block(shown(file.path), file.block_bytes, file.reading_bytes, options.memory)


def _modified(paths: Sequence[str]) -> str | None:
    times = [os.stat(path).st_mtime for path in paths if not is_remote(path)]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if times else None


def _read_facts(path: str, driver: str, structure: TiffStructure | None, options: OpenOptions) -> Scene:
    """The scene that one file alone would be."""
    notes: list[str] = []
    limit = options.max_block_bytes
    with gdal_env(remote=is_remote(path)), open_dataset(path, driver, max_block_bytes=limit) as dataset:
        if dataset.count == 0:
            raise BandError(f"{shown(path)}: no bands; a container of subdatasets is not accepted")
        if any(dtype.startswith("complex") for dtype in dataset.dtypes):
            raise DtypeError(f"{shown(path)}: complex pixels ({dataset.dtypes[0]}); convert them to amplitude or intensity first")
        if len({*dataset.dtypes}) > 1:
            notes.append(f"bands of different types ({', '.join(dict.fromkeys(dataset.dtypes))})")
        for crs in (dataset.crs, dataset.gcps[1]):
            if crs is not None and (grid := opens_files(crs.to_wkt())) is not None:
                raise GeoreferenceError(
                    f"{shown(path)}: its CRS names the file {grid}, which is not opened; give it a CRS without grids"
                )
        beside = check_beside(Path(path), limit) if driver == "GTiff" and not is_remote(path) else 0
        roles = _roles_of(dataset, path)
        file = _file_of(dataset, path, driver, structure, roles, notes)
        if options.ignore_nodata:
            # An alpha band is then a band like the others.
            file = replace(file, validity="all", alpha=None)
        view = view_of(dataset, path, options)
        file = replace(file, block_bytes=max(beside, block_bytes_of(dataset, structure, warped=view is not None)))
        crs, transform = georeference_of(dataset, path, view, options, notes)
        height, width = (view.height, view.width) if view else dataset.shape
        georeference = Georeference(transform, crs)
        if georeference.determinant == 0:
            raise GeoreferenceError(f"{shown(path)}: pixels of size zero (transform {transform}); correct its geotransform")
        outside = georeference.outside_area_of_use(height, width)
        if outside:
            notes.append(outside)
        bands = _with_nodata(_bands_of(dataset, file, roles), options, path)
        if options.nodata is not None:
            # An alpha band is left out of the bands, and says nothing.
            file = replace(file, validity="nodata", alpha=None, told_nodata=bands[0].nodata)
        acquired = acquisition_date({**dataset.tags(), **dataset.tags(ns="IMAGERY")}, Path(path).stem)
        _note_layout(dataset, structure, notes)
    return Scene(
        name="",
        files=(file,),
        bands=bands,
        height=height,
        width=width,
        georeference=georeference,
        acquired=acquired,
        fingerprint="",
        modified=None,
        view=view,
        warnings=tuple(notes),
    )


def _roles_of(dataset: rasterio.DatasetReader, path: str) -> tuple[Role, ...]:
    """What names and wavelengths say of the bands."""
    spaces = [[None, *(ns for ns in dataset.tag_namespaces(i) if ns == "IMAGERY")] for i in dataset.indexes]
    tags = [
        {k: v for ns in own for k, v in dataset.tags(i, ns=ns).items()} for i, own in zip(dataset.indexes, spaces, strict=True)
    ]
    whole = {**dataset.tags(ns="ENVI"), **dataset.tags(ns="IMAGERY"), **dataset.tags()}
    tags = [{**given, **own} for given, own in zip(tags_of_bands(whole, dataset.count), tags, strict=True)]
    texts = [Path(path).stem, *dataset.tags().values(), *dataset.tags(ns="IMAGERY").values()]
    return roles_of(dataset.descriptions, tags, platform_of(text for text in texts if len(text) < MAX_TAG))


def _file_of(
    dataset: rasterio.DatasetReader,
    path: str,
    driver: str,
    structure: TiffStructure | None,
    roles: Sequence[Role],
    notes: list[str],
) -> SceneFile:
    alpha, note = alpha_of(dataset, roles)
    if note is not None:
        notes.append(note)
    flags = set(dataset.mask_flag_enums[0])
    validity: Validity = "all"
    if alpha is not None:
        validity = "alpha"
    elif MaskFlags.nodata in flags:
        validity = "nodata"
    elif MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        validity = "mask"
    if structure is not None:
        tag = structure.main.text(GDAL_NODATA)
        if tag and all(value is None for value in dataset.nodatavals):
            notes.append(f"its nodata value {tag.strip()} does not fit {dataset.dtypes[0]}, so no pixel is taken as nodata")
    unknown = dataset.colorinterp[-1] == ColorInterp.undefined and roles[-1].name is None
    if dataset.count in (2, 4) and alpha is None and unknown:
        notes.append(f"band {dataset.count} is not declared (alpha, near infrared or other), so it is not used as a mask")
    palette = _has_colors(dataset) and all(index in (1, alpha) for index in dataset.indexes)
    _note_values(dataset, notes, palette=palette)
    interleaving = dataset.interleaving
    return SceneFile(
        path=path,
        driver=driver,
        block_shape=dataset.block_shapes[0],
        interleaved=interleaving is not None and interleaving.value == "PIXEL",
        validity=validity,
        alpha=alpha,
        palette=palette,
        blocks=blocks_of(dataset, structure),
    )


def _has_colors(dataset: rasterio.DatasetReader) -> bool:
    """Whether the values of the first band are indices into a colour table; GDAL gives one to files where 0 is white, too."""
    if dataset.colorinterp[0] == ColorInterp.palette:
        return True
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") != "YES":
        return False
    try:
        return bool(dataset.colormap(1))
    except ValueError:
        return False


def _note_values(dataset: rasterio.DatasetReader, notes: list[str], *, palette: bool) -> None:
    """Say where stored values are no brightness, or end below the type's."""
    if palette:
        return
    if ColorInterp.palette in dataset.colorinterp:
        notes.append("one of its bands has a palette, whose indices are taken as they are stored")
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        notes.append("its values grow from white to black (MINISWHITE), and are taken as they are stored")
    bits = {dataset.tags(i, ns="IMAGE_STRUCTURE").get("NBITS", "") for i in dataset.indexes}
    text = bits.pop() if len(bits) == 1 else ""
    dtype = np.dtype(dataset.dtypes[0])
    if text.isdigit() and dtype.kind == "u" and int(text) < dtype.itemsize * 8:
        most = 2 ** int(text) - 1
        notes.append(
            f"its pixels have {text} bits, so that their values end at {most}; for a model that takes others pass --rescale "
            f"0,{most}"
        )


def _bands_of(dataset: rasterio.DatasetReader, file: SceneFile, roles: Sequence[Role]) -> tuple[Band, ...]:
    if file.palette:
        return tuple(
            Band(file=0, index=i, name=color, color=color, dtype="uint8", scale=1.0, offset=0.0, nodata=None)
            for i, color in enumerate(("red", "green", "blue"), start=1)
        )
    # Each of these asks all bands, so that asking them band by band would take the square of their number.
    colors, dtypes = dataset.colorinterp, dataset.dtypes
    facts = zip(
        dataset.indexes,
        dataset.descriptions,
        colors,
        dtypes,
        dataset.scales,
        dataset.offsets,
        dataset.nodatavals,
        roles,
        strict=True,
    )
    told = not default_colors([color.name for color in colors], dtypes)
    return tuple(
        Band(
            file=0,
            index=index,
            name=_name_of(description),
            color=color.name,
            dtype=dtype,
            scale=float(scale),
            offset=float(offset),
            nodata=None if nodata is None else float(nodata),
            role=role.name,
            told_color=told,
            conflict=_conflict(role, color.name, told=told),
        )
        for index, description, color, dtype, scale, offset, nodata, role in facts
        if index != file.alpha
    )


def _name_of(description: str | None) -> str | None:
    return None if description is None or is_anonymous(description) else description.strip().lower()


def _conflict(role: Role, color: str, *, told: bool) -> str | None:
    """Where name, wavelength and a colour interpretation that somebody chose differ."""
    if role.conflict is not None or not told or role.name is None or color not in ("red", "green", "blue", ALPHA):
        return role.conflict
    return None if agree(role.name, color) else f"{role.source} says {role.name}, its colour interpretation says {color}"


def _with_nodata(bands: tuple[Band, ...], options: OpenOptions, path: str) -> tuple[Band, ...]:
    """The bands with the values that the user says stand for no data."""
    values = options.nodata
    if values is None:
        return bands
    if len(values) not in (1, len(bands)):
        raise BandError(
            f"{shown(path)}: --nodata gives {len(values)} values, but the file has {len(bands)} bands; give one, or one a band"
        )
    if (options.target_crs or options.resample or options.gcps) and len(set(values)) > 1:
        raise BandError(f"{shown(path)}: --nodata: bands with values of their own can't be warped; give one value")
    each = values * len(bands) if len(values) == 1 else values
    for band, value in zip(bands, each, strict=True):
        dtype = np.dtype(band.dtype)
        if dtype.kind in "iu" and not (float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
            raise BandError(
                f"{shown(path)}: --nodata {value:g} does not fit the {band.dtype} pixels of band {band.index}; give one of "
                "their values"
            )
    return tuple(replace(band, nodata=value) for band, value in zip(bands, each, strict=True))


def _note_layout(dataset: rasterio.DatasetReader, structure: TiffStructure | None, notes: list[str]) -> None:
    _, width = dataset.shape
    block_height, block_width = dataset.block_shapes[0]
    if block_width == width and width > 4096 and block_height < 64:
        notes.append(f"not tiled (blocks of {block_height} x {block_width} px): reading is slow; convert it to a COG")
    if structure is not None:
        planes = structure.main.planes_written()
        written = planes.any(axis=0)
        empty, partly = int(written.size - written.sum()), int((written & ~planes.all(axis=0)).sum())
        if empty:
            notes.append(f"{empty} of {written.size} blocks were never written (sparse); they are taken as nodata")
        if partly:
            notes.append(
                f"{partly} of {written.size} blocks were never written in some of the bands (sparse); those bands are read as "
                "their nodata value there, or as 0"
            )
        if not {33550, 34264, 33922} & structure.main.entries.keys() and dataset.crs is not None:
            notes.append("its georeference comes from a file beside it (.aux.xml or world file)")
