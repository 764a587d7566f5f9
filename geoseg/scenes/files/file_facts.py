"""Facts of one file of a scene: validity, bands, layout of its blocks, and notes on what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from geoseg.dialect import setting
from geoseg.errors import BandError
from geoseg.scenes.bands.alpha import alpha_of
from geoseg.scenes.bands.platforms import platform_of
from geoseg.scenes.bands.roles import ALPHA, Role, default_colors, is_anonymous, roles_of, tags_of_bands
from geoseg.scenes.bands.wavelengths import agree
from geoseg.scenes.block_sizes import blocks_of
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Band, OpenOptions, SceneFile, Validity
from geoseg.tiff import GDAL_NODATA, TiffStructure

__all__ = ["bands_of", "file_of", "note_layout", "roles_in", "with_nodata"]

MAX_TAG = 200
"""Longer tags are no names of satellites."""


def roles_in(dataset: rasterio.DatasetReader, path: str) -> tuple[Role, ...]:
    """Roles of the bands by what names and wavelengths say."""
    spaces = [[None, *(ns for ns in dataset.tag_namespaces(i) if ns == "IMAGERY")] for i in dataset.indexes]
    tags = [
        {k: v for ns in own for k, v in dataset.tags(i, ns=ns).items()} for i, own in zip(dataset.indexes, spaces, strict=True)
    ]
    whole = {**dataset.tags(ns="ENVI"), **dataset.tags(ns="IMAGERY"), **dataset.tags()}
    tags = [{**given, **own} for given, own in zip(tags_of_bands(whole, dataset.count), tags, strict=True)]
    texts = [Path(path).stem, *dataset.tags().values(), *dataset.tags(ns="IMAGERY").values()]
    return roles_of(dataset.descriptions, tags, platform_of(text for text in texts if len(text) < MAX_TAG))


def file_of(
    dataset: rasterio.DatasetReader,
    path: str,
    driver: str,
    structure: TiffStructure | None,
    roles: Sequence[Role],
    notes: list[str],
) -> SceneFile:
    """The facts of an open file: validity, alpha band, palette, blocks; what is odd is added to ``notes``."""
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
    if text.isdecimal() and dtype.kind == "u" and int(text) < dtype.itemsize * 8:
        most = 2 ** int(text) - 1
        notes.append(
            f"its pixels have {text} bits, so that their values end at {most}; for a model that takes others pass "
            f"{setting('rescale', f'0,{most}')}"
        )


def bands_of(dataset: rasterio.DatasetReader, file: SceneFile, roles: Sequence[Role]) -> tuple[Band, ...]:
    """The bands of an open file, its alpha band left out; of a palette, the three colours."""
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


def with_nodata(bands: tuple[Band, ...], options: OpenOptions, path: str) -> tuple[Band, ...]:
    """The bands with the values that the user says stand for no data."""
    values = options.nodata
    if values is None:
        return bands
    if len(values) not in (1, len(bands)):
        raise BandError(
            f"{shown(path)}: {setting('nodata')} gives {len(values)} values, but the file has {len(bands)} bands; give one, or "
            "one a band"
        )
    if (options.target_crs or options.resample or options.gcps) and len(set(values)) > 1:
        raise BandError(f"{shown(path)}: {setting('nodata')}: bands with values of their own can't be warped; give one value")
    each = values * len(bands) if len(values) == 1 else values
    for band, value in zip(bands, each, strict=True):
        dtype = np.dtype(band.dtype)
        if dtype.kind in "iu" and not (float(value).is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
            raise BandError(
                f"{shown(path)}: {setting('nodata', f'{value:g}')} does not fit the {band.dtype} pixels of band {band.index}; "
                "give one of their values"
            )
    return tuple(replace(band, nodata=value) for band, value in zip(bands, each, strict=True))


def note_layout(dataset: rasterio.DatasetReader, structure: TiffStructure | None, notes: list[str]) -> None:
    """Add to ``notes`` where reading will be slow, blocks were never written, or the georeference lies beside the file."""
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
