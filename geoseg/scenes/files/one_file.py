"""One file as a scene: what it says of bands, validity and place, once it is safe to open."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import rasterio
from rasterio.enums import MaskFlags

from geoseg.crs import opens_files
from geoseg.dialect import setting
from geoseg.errors import BandError, DtypeError, GeoreferenceError, ReadError, SceneTooLargeError
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import acquisition_date
from geoseg.scenes.block_sizes import block_bytes_of, refuse_large_block
from geoseg.scenes.files.file_facts import bands_of, file_of, note_layout, roles_in, with_nodata
from geoseg.scenes.gdal import check_beside, gdal_env, open_dataset, open_skeleton, open_sought
from geoseg.scenes.pixels.jp2 import STARTS, Jp2Structure
from geoseg.scenes.preflight import check_file, check_jp2, check_jp2_stream, check_structure
from geoseg.scenes.ranges.excerpt import skeleton
from geoseg.scenes.ranges.range_file import RangeFile
from geoseg.scenes.ranges.remote_tiff import remote_tiff
from geoseg.scenes.ranges.served_file import ServedFile
from geoseg.scenes.remote import RemoteFacts, is_remote, shown
from geoseg.scenes.scene import OpenOptions, Scene, View
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import signed
from geoseg.scenes.views import georeference_of, view_of
from geoseg.tiff import TiffStructure
from geoseg.transient import passing

__all__ = ["DRIVERS", "Structure", "modified_of", "read_facts", "refuse_large", "scene_of_address", "scene_of_file"]

Structure = TiffStructure | Jp2Structure
DRIVERS = {TiffStructure: "GTiff", Jp2Structure: "JP2OpenJPEG"}


def scene_of_file(path: str, options: OpenOptions) -> Scene:
    """The scene that one file alone would be, once it is safe to open."""
    structure: Structure | None
    if path.lower().endswith(".jp2"):
        structure = check_jp2(Path(path), max_block_bytes=options.max_block_bytes)
    else:
        structure = check_file(Path(path), allow_vrt=options.allow_vrt, max_block_bytes=options.max_block_bytes)
    return read_facts(path, "VRT" if structure is None else DRIVERS[type(structure)], structure, options)


def scene_of_address(path: str, options: OpenOptions, signer: Signer | None, facts: RemoteFacts | None) -> Scene:
    """The scene that one file on a server would be, of which the server has told these facts."""
    address = signed(path, signer)
    if facts is not None and facts.head.startswith(STARTS):
        return _scene_of_served(path, address, options, signer, facts)
    remote = None if facts is None else remote_tiff(address, facts)
    if remote is None:
        return read_facts(path, "GTiff", None, options, signer)
    remote.close()
    check_structure(remote.structure, shown(path), options.max_block_bytes)
    return read_facts(path, "GTiff", remote.structure, options, signer, directories=skeleton(remote.structure))


def _scene_of_served(path: str, address: str, options: OpenOptions, signer: Signer | None, facts: RemoteFacts) -> Scene:
    """The scene that one JPEG 2000 file on a server would be."""
    file = ServedFile(address, facts)
    try:
        # Its tiles are not followed to its end: each would be a request.
        with file.stream() as stream:
            structure = check_jp2_stream(stream, facts.size, Path(shown(path)), options.max_block_bytes, walk=False)
        opened = partial(open_sought, partial(RangeFile, file.pieces()), path, "JP2OpenJPEG")
        return read_facts(path, "JP2OpenJPEG", structure, options, signer, opened=opened)
    finally:
        file.close()


def refuse_large(scene: Scene, options: OpenOptions) -> None:
    """Refuse a scene of more pixels or larger blocks than the options let pass.

    Raises:
        SceneTooLargeError: It is.
    """
    if scene.height * scene.width > options.max_pixels:
        raise SceneTooLargeError(
            f"{scene.path}: {scene.height} x {scene.width} = {scene.height * scene.width:,} pixels; "
            f"the limit is {options.max_pixels:,} ({setting('max_pixels')})"
        )
    if options.memory is not None:
        for file in scene.files:
            refuse_large_block(shown(file.path), file.block_bytes, file.reading_bytes, options.memory)


def modified_of(paths: Sequence[str]) -> str | None:
    """When the newest of some local files was changed, ISO 8601; None for addresses."""
    times = [os.stat(path).st_mtime for path in paths if not is_remote(path)]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if times else None


def _refuse_odd(dataset: rasterio.DatasetReader, path: str, notes: list[str]) -> None:
    """Refuse a data set without bands, of complex numbers, or whose CRS names a file; note where types of bands differ."""
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


def _refuse_lost_mask(dataset: rasterio.DatasetReader, path: str, structure: TiffStructure | None) -> None:
    """Refuse a file whose mask GDAL did not get from its server: it says then that all pixels are data.

    Raises:
        ReadError: It did not.
    """
    mask = structure.mask if structure is not None and is_remote(path) else None
    if mask is not None and mask.shape == dataset.shape and MaskFlags.per_dataset not in dataset.mask_flag_enums[0]:
        raise passing(ReadError(f"{shown(path)}: its mask can't be read; try again later"))


def _placed(
    dataset: rasterio.DatasetReader, path: str, view: View | None, options: OpenOptions, notes: list[str]
) -> Georeference:
    """Where the pixels lie; noted where that is outside of what the CRS is made for."""
    crs, transform = georeference_of(dataset, path, view, options, notes)
    found = Georeference(transform, crs)
    if found.determinant == 0:
        raise GeoreferenceError(f"{shown(path)}: pixels of size zero (transform {transform}); correct its geotransform")
    if outside := found.outside_area_of_use(*((view.height, view.width) if view else dataset.shape)):
        notes.append(outside)
    return found


def read_facts(
    path: str,
    driver: str,
    structure: Structure | None,
    options: OpenOptions,
    signer: Signer | None = None,
    *,
    directories: bytes | None = None,
    opened: Callable[[], rasterio.DatasetReader] | None = None,
) -> Scene:
    """The scene that one file alone would be, which was checked, and is opened by this driver.

    Args:
        path: The file.
        driver: GDAL's name of its format.
        structure: Its directories, where they were read.
        options: What to accept.
        signer: How its address is signed.
        directories: A GeoTIFF that says the same of itself, without pixels, to be opened in its place.
        opened: Opens it, where that is not done by its path.
    """
    notes: list[str] = []
    tiff = structure if isinstance(structure, TiffStructure) else None
    limit = options.max_block_bytes
    if directories is not None:
        opened = partial(open_skeleton, directories, path)
    elif opened is None:
        opened = partial(open_dataset, signed(path, signer), driver, max_block_bytes=limit)
    with gdal_env(remote=is_remote(path)), opened() as dataset:
        _refuse_odd(dataset, path, notes)
        _refuse_lost_mask(dataset, path, tiff)
        beside = check_beside(Path(path), limit) if driver != "VRT" and not is_remote(path) else 0
        roles = roles_in(dataset, path)
        file = replace(file_of(dataset, path, driver, tiff, roles, notes), signer=signer)
        if options.ignore_nodata:
            # An alpha band is then a band like the others.
            file = replace(file, validity="all", alpha=None)
        view = view_of(dataset, path, options)
        file = replace(file, block_bytes=max(beside, block_bytes_of(dataset, structure, warped=view is not None)))
        height, width = (view.height, view.width) if view else dataset.shape
        georeference = _placed(dataset, path, view, options, notes)
        bands = with_nodata(bands_of(dataset, file, roles), options, path)
        if options.nodata is not None:
            # An alpha band is left out of the bands, and says nothing.
            file = replace(file, validity="nodata", alpha=None, told_nodata=bands[0].nodata)
        acquired = acquisition_date({**dataset.tags(), **dataset.tags(ns="IMAGERY")}, Path(path).stem)
        note_layout(dataset, tiff, notes)
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
