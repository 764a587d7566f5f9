"""A scene: what is known of one source image before its pixels are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors
import rasterio.warp
from rasterio.enums import ColorInterp, MaskFlags

from geoseg.addresses import unsigned
from geoseg.crs import check_crs, not_a_map, opens_files
from geoseg.errors import BandError, DtypeError, GeoreferenceError, ReadError, SceneChangedError, SceneTooLargeError
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import acquisition_date
from geoseg.scenes.alpha import alpha_of
from geoseg.scenes.band_roles import ALPHA, Role, agree, default_colors, is_anonymous, platform_of, roles_of, tags_of_bands
from geoseg.scenes.blocks import MemoryLimit, block_bytes_of, blocks_of, refuse_large_block
from geoseg.scenes.gdal import check_beside, gdal_env, open_dataset
from geoseg.scenes.preflight import MAX_BLOCK_BYTES, check_file
from geoseg.scenes.remote import is_remote, probe, shown
from geoseg.tiff import GDAL_NODATA, TiffStructure
from geoseg.vectors.source import split_layer

__all__ = [
    "Band",
    "MemoryLimit",
    "OpenOptions",
    "Scene",
    "SceneFile",
    "View",
    "fingerprint",
    "gdal_env",
    "open_dataset",
    "open_scene",
]

Validity = Literal["all", "nodata", "mask", "alpha"]
MAX_TAG = 200
"""Longer tags are no names of satellites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How scenes are opened; the defaults refuse whatever would have to be guessed."""

    allow_vrt: bool = False
    """Open GDAL virtual rasters, which can name any other file."""
    assume_crs: str | None = None
    """The CRS of files that have none."""
    pixel_coords: bool = False
    """Accept images without a place on Earth; their outputs are in pixels."""
    gcps: bool = False
    """Warp images that have ground control points only."""
    target_crs: str | None = None
    """Warp the scene to this CRS."""
    resample: float | None = None
    """Warp the scene to this pixel size in metres."""
    ignore_nodata: bool = False
    """Take all pixels as data, whatever nodata value, mask or alpha band say."""
    nodata: tuple[float, ...] | None = None
    """The value of all bands, or of each, that stands for no data, whatever the file says."""
    max_pixels: int = 10**12
    """Scenes with more pixels are refused."""
    max_block_bytes: int = MAX_BLOCK_BYTES
    """Files with blocks that decode to more bytes are refused."""
    memory: MemoryLimit | None = None
    """What reading may take; None where only ``max_block_bytes`` limits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFile:
    """One file of a scene."""

    path: str
    """A local path or an address."""
    driver: str
    """The only GDAL driver that may open it."""
    block_shape: tuple[int, int]
    """Rows and columns of a block."""
    interleaved: bool
    """Whether the bands of a block are stored together."""
    validity: Validity
    """What says which pixels are data, beside NaN and infinity."""
    alpha: int | None = None
    """Band number of the alpha band."""
    palette: bool = False
    """Whether its only band holds indices into a colour table."""
    block_bytes: int = 0
    """Bytes of its largest decoded block, all bands that are stored together, masks and overviews included."""
    blocks: tuple[int, int] = (1, 1)
    """Rows and columns of blocks."""

    @property
    def reading_bytes(self) -> int:
        """Memory that reading a window smaller than a block takes at most.

        GDAL decodes a block and copies its bands, and up to four blocks that the window touches are kept until it is read.
        """
        return (2 + min(2, self.blocks[0]) * min(2, self.blocks[1])) * self.block_bytes

    told_nodata: float | None = None
    """The value that stands for no data in its first band, where the user has said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of a scene."""

    file: int
    """Which file."""
    index: int
    """Band number in the file, from 1; for a palette, 1..3 are the red, green and blue that it stands for."""
    name: str | None
    """Its name in lower case, from the file's name or the band's description."""
    color: str
    """Its colour interpretation."""
    dtype: str
    """Data type of the pixels."""
    scale: float
    """Physical value = pixel * scale + offset."""
    offset: float
    """Physical value = pixel * scale + offset."""
    nodata: float | None
    """The value that stands for no data."""
    role: str | None = None
    """What its name or its wavelength says it is: ``red``, ``nir``; None where they say nothing."""
    told_color: bool = True
    """Whether somebody chose its colour interpretation; else it is the one that GDAL gives any file of this kind."""
    conflict: str | None = None
    """Where what is written about it differs: both in words."""

    @property
    def label(self) -> str:
        """How the band is named in messages."""
        return self.name or self.color


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A grid that the scene is warped to while it is read."""

    crs: str
    """WKT of the grid's CRS."""
    transform: tuple[float, float, float, float, float, float]
    """Affine transform of the grid."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    resampling: str
    """Name of the resampling method."""
    source_crs: str | None
    """CRS of the source where the file does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One source image: its files, bands, grid and identity. Pixels are read by ``SceneReader``."""

    name: str
    """Path of its output folder under the run's output, without extension."""
    files: tuple[SceneFile, ...]
    """Its files; band files of one scene have the same grid."""
    bands: tuple[Band, ...]
    """Its bands, alpha left out."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    georeference: Georeference
    """Where its pixels lie."""
    acquired: str | None
    """Acquisition date as ISO 8601; None where neither tags nor name say it."""
    fingerprint: str
    """sha256 of what identifies its content."""
    modified: str | None
    """Time of the last change of its newest file, ISO 8601, a bound for the acquisition; None where it is not known."""
    view: View | None = None
    """The grid that it is warped to, if any."""
    ignore_nodata: bool = False
    """Whether all pixels are data, whatever nodata value, mask or alpha band say."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What the user should know."""
    dates: tuple[Scene, ...] = ()
    """Of a stack, the scene of each date on the common grid; see ``geoseg.scenes.stack``."""
    least_dates: int = 1
    """Of a stack, how many dates must hold data where anything is analysed."""
    date_flags: bool = False
    """Of a stack, whether a band for each date that says where it holds data follows those asked for."""
    masks: tuple[str | None, ...] = ()
    """Of a stack, by date, the file of what hides the ground: a raster, or polygons."""
    mask_values: tuple[int, ...] = ()
    """Values of such rasters that hide the ground; all but 0 where there are none."""
    mask_band: str | None = None
    """Of such rasters, the number or the name of the band that says it; None where they have one, or their names tell."""

    @property
    def dtype(self) -> str:
        """Data type of the first band."""
        return self.bands[0].dtype

    @property
    def path(self) -> str:
        """The first file, as it may be shown."""
        return shown(self.files[0].path)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in metres; None without a CRS."""
        return self.georeference.pixel_size(self.height, self.width)

    def verify_unchanged(self) -> None:
        """Check that the files are still those that were opened.

        Raises:
            SceneChangedError: One of them was written to since.
        """
        paths = [file.path for file in self.files] + [path for path in self.masks if path is not None]
        if fingerprint(paths) != self.fingerprint:
            raise SceneChangedError(
                f"{self.path}: the file changed while it was read, so the result would mix two images; run again when it is complete"
            )


def fingerprint(paths: Sequence[str], *, times: bool = True) -> str:
    """sha256 over the identity of a scene's files: size, time of change, first and last 64 KiB; ETag for servers.

    Args:
        paths: The files.
        times: Also their times of change: any touch makes another scene. Without, a copy of a file is the same.

    Raises:
        ReadError: A file has gone.
    """
    facts: list[object] = []
    for path in paths:
        if is_remote(path):
            found = probe(path)
            facts.append([unsigned(path), [found.size, found.version] if found else None])
            continue
        given, layer = split_layer(path)
        if layer is not None:
            facts.append(layer)
        for local in [given, *(Path(f"{given}{suffix}") for suffix in (".msk", ".ovr", ".aux.xml"))]:
            try:
                stat = local.stat()
                with local.open("rb") as file:
                    head = file.read(65536)
                    file.seek(max(0, stat.st_size - 65536))
                    tail = file.read(65536)
            except FileNotFoundError as error:
                if local == given:
                    raise ReadError(f"{path}: the file has gone") from error
                continue
            except OSError as error:
                raise ReadError(f"{path}: {error.strerror}") from error
            facts.append([stat.st_size, stat.st_mtime_ns if times else None, hashlib.sha256(head + tail).hexdigest()])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def open_scene(paths: Sequence[str], name: str, options: OpenOptions, *, band_names: Sequence[str | None] = ()) -> Scene:
    """Open the files of one scene and refuse it where its pixels could not be read or placed.

    Args:
        paths: Its files; more than one for band files, which must share one grid.
        name: Path of its output folder, under the run's output.
        options: What to accept.
        band_names: For band files, the name of each file's band.

    Raises:
        SceneError: One clear sentence on what is wrong and what to do.
    """
    parts = []
    for path in paths:
        structure = None
        if not is_remote(path):
            structure = check_file(Path(path), allow_vrt=options.allow_vrt, max_block_bytes=options.max_block_bytes)
        else:
            probe(path)
        driver = "VRT" if not is_remote(path) and structure is None else "GTiff"
        parts.append(_read_facts(path, driver, structure, options))
    first = parts[0]
    for other in parts[1:]:
        if not options.resample and (other.height, other.width, other.georeference) != (
            first.height, first.width, first.georeference,
        ):  # fmt: skip
            raise GeoreferenceError(
                f"{shown(paths[0])}: its band file {Path(other.files[0].path).name} has another grid "
                f"({other.height} x {other.width} against {first.height} x {first.width} pixels); "
                "use --resample, or choose bands of one resolution with --bands"
            )
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
    if scene.height * scene.width > options.max_pixels:
        raise SceneTooLargeError(
            f"{scene.path}: {scene.height} x {scene.width} = {scene.height * scene.width:,} pixels; "
            f"the limit is {options.max_pixels:,} (--max-pixels)"
        )
    if options.memory is not None:
        for file in scene.files:
            refuse_large_block(shown(file.path), file.block_bytes, file.reading_bytes, options.memory)
    return scene


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
        view = _view_of(dataset, path, options)
        file = replace(file, block_bytes=max(beside, block_bytes_of(dataset, structure, warped=view is not None)))
        crs, transform = _georeference_of(dataset, path, view, options, notes)
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
            f"its pixels have {text} bits, so that their values end at {most}; for a model that takes others pass --rescale 0,{most}"
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
                f"{shown(path)}: --nodata {value:g} does not fit the {band.dtype} pixels of band {band.index}; give one of their values"
            )
    return tuple(replace(band, nodata=value) for band, value in zip(bands, each, strict=True))


def _georeference_of(
    dataset: rasterio.DatasetReader, path: str, view: View | None, options: OpenOptions, notes: list[str]
) -> tuple[str | None, tuple[float, float, float, float, float, float]]:
    """CRS (WKT) and transform of the grid that is read."""
    crs, transform = (view.crs, view.transform) if view is not None else _own_georeference(dataset, path, options, notes)
    if crs is not None and (why := not_a_map(crs)) is not None:
        raise GeoreferenceError(f"{shown(path)}: {why}")
    return crs, transform


def _own_georeference(
    dataset: rasterio.DatasetReader, path: str, options: OpenOptions, notes: list[str]
) -> tuple[str | None, tuple[float, float, float, float, float, float]]:
    """Of the grid of the file."""
    transform = _six(dataset.transform)
    crs = dataset.crs.to_wkt() if dataset.crs else None
    placed = not dataset.transform.is_identity
    if dataset.gcps[0] and not placed:
        raise GeoreferenceError(
            f"{shown(path)}: placed by {len(dataset.gcps[0])} ground control points only; use --gcps to warp it while reading, "
            "or gdalwarp -tps (or -order 1) beforehand"
        )
    if dataset.rpcs is not None and not placed:
        raise GeoreferenceError(
            f"{shown(path)}: placed by RPCs only, which need terrain heights; run gdalwarp -rpc -to RPC_DEM=... first"
        )
    if options.pixel_coords:
        if not placed or crs is None:
            return None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        notes.append("--pixel-coords has no effect: the file is georeferenced")
    if not placed:
        raise GeoreferenceError(
            f"{shown(path)}: no geotransform, so its pixels have no place on Earth; use --pixel-coords for outputs in pixels "
            "(to evaluate, --plain)"
        )
    if crs is None:
        if options.assume_crs is None:
            raise GeoreferenceError(
                f"{shown(path)}: no CRS, so its outputs could not be placed; pass --assume-crs EPSG:xxxx if you know it"
            )
        crs = _parse_crs(options.assume_crs, "--assume-crs").to_wkt()
        notes.append(f"no CRS in the file; {options.assume_crs} was assumed as told")
    return crs, transform


def _parse_crs(text: str, option: str) -> rasterio.crs.CRS:
    from geoseg.errors import ConfigError

    try:
        return rasterio.crs.CRS.from_user_input(check_crs(text))
    except rasterio.errors.CRSError as error:
        raise ConfigError(f"{option}: {text!r} is not a CRS that PROJ knows; write for example EPSG:32721") from error
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _six(transform: Any) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    return a, b, c, d, e, f


def _view_of(dataset: rasterio.DatasetReader, path: str, options: OpenOptions) -> View | None:
    """The grid to warp to, where an option asks for one."""
    points, gcp_crs = dataset.gcps
    use_gcps = options.gcps and bool(points) and dataset.transform.is_identity
    if not (options.target_crs or options.resample or use_gcps):
        return None
    source_crs = gcp_crs if use_gcps else dataset.crs
    assumed = None
    if source_crs is None:
        if options.assume_crs is None:
            raise GeoreferenceError(f"{shown(path)}: no CRS, so it can't be warped; pass --assume-crs EPSG:xxxx if you know it")
        source_crs = _parse_crs(options.assume_crs, "--assume-crs")
        assumed = source_crs.to_wkt()
    target_crs = _parse_crs(options.target_crs, "--target-crs") if options.target_crs else source_crs
    height, width = dataset.shape
    transform = _six(dataset.transform)
    try:
        if use_gcps or target_crs != source_crs:
            where: dict[str, Any] = (
                {"gcps": points} if use_gcps else dict(zip(("left", "bottom", "right", "top"), dataset.bounds, strict=True))
            )
            affine, new_width, new_height = rasterio.warp.calculate_default_transform(
                source_crs, target_crs, width, height, **where
            )
            transform, width, height = _six(affine), int(new_width), int(new_height)
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise GeoreferenceError(f"{shown(path)}: can't be warped to {target_crs.to_string()}: {error}") from error
    resampling = "bilinear"
    if options.resample:
        transform, height, width, factor = _to_pixel_size(transform, target_crs.to_wkt(), height, width, options.resample)
        resampling = "average" if factor > 1.5 else "bilinear"
    return View(
        crs=target_crs.to_wkt(), transform=transform, height=height, width=width, resampling=resampling,
        source_crs=(source_crs.to_wkt() if use_gcps else assumed),
    )  # fmt: skip


def _to_pixel_size(
    transform: tuple[float, float, float, float, float, float], crs: str, height: int, width: int, metres: float
) -> tuple[tuple[float, float, float, float, float, float], int, int, float]:
    """The same area in pixels of a given size: transform, height, width, and the growth of a pixel's side."""
    from geoseg.windows import Window

    metric = Georeference(transform, crs).metric(Window(0, 0, height, width), spacing=max(height, width))
    assert metric is not None
    jacobian = metric.jacobian.mean(axis=(2, 3))
    row_m, col_m = (jacobian[0] ** 2 + jacobian[1] ** 2) ** 0.5
    new_height, new_width = max(1, round(height * row_m / metres)), max(1, round(width * col_m / metres))
    per_row, per_col = height / new_height, width / new_width
    a, b, c, d, e, f = transform
    return (a * per_col, b * per_row, c, d * per_col, e * per_row, f), new_height, new_width, float(max(per_row, per_col))


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
                f"{partly} of {written.size} blocks were never written in some of the bands (sparse); those bands are read as their "
                "nodata value there, or as 0"
            )
        if not {33550, 34264, 33922} & structure.main.entries.keys() and dataset.crs is not None:
            notes.append("its georeference comes from a file beside it (.aux.xml or world file)")
