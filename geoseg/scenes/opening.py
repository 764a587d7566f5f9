"""Opening of scenes: a path becomes a scene, with what its file says of bands, validity and place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from geoseg.crs import opens_files
from geoseg.dialect import setting
from geoseg.errors import BandError, DtypeError, GeoreferenceError, SceneTooLargeError
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import acquisition_date
from geoseg.scenes.block_sizes import block_bytes_of, refuse_large_block
from geoseg.scenes.file_facts import bands_of, file_of, note_layout, roles_in, with_nodata
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.gdal import check_beside, gdal_env, open_dataset
from geoseg.scenes.preflight import check_file
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.stac.applied import with_told
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed, signed
from geoseg.scenes.stac.told import Told
from geoseg.scenes.views import georeference_of, view_of
from geoseg.tiff import TiffStructure

__all__ = ["open_scene"]


def open_scene(
    paths: str | os.PathLike[str] | Sequence[str],
    name: str | None = None,
    options: OpenOptions | None = None,
    *,
    band_names: Sequence[str | None] = (),
    told: Told | None = None,
) -> Scene:
    """Open the files of one scene and refuse it where its pixels could not be read or placed.

    No pixel is read yet: ``geoseg.scenes.reader.SceneReader(scene, bands).read(window)`` gives ``data``, (bands, h, w) in the
    type of the file, and ``valid``, (h, w) bool.

    Args:
        paths: Its file, or several band files, which must share one grid: local GeoTIFFs, or addresses.
        name: Path of its output folder, under the run's output; by default the stem of the first file.
        options: What to accept; by default nothing that would have to be guessed.
        band_names: For band files, the name of each file's band.
        told: What its catalogue says of it, taken where the files say nothing.

    Returns:
        Its size in pixels, georeference, bands with their types, nodata, date, and fingerprint.

    Raises:
        SceneError: One clear sentence on what is wrong and what to do.
    """
    paths = [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else paths
    options = options or OpenOptions()
    name = Path(paths[0]).stem if name is None else name
    signer = Signer.of(options.sign, told)
    parts = [_part_of(path, options, signer if is_remote(path) else None) for path in paths]
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
        fingerprint=fingerprint(list(paths), signers=dict.fromkeys(paths, signer)),
        modified=_modified(paths),
        view=first.view,
        ignore_nodata=options.ignore_nodata,
        warnings=tuple(dict.fromkeys(w for part in parts for w in part.warnings)),
    )
    _refuse_large(scene, options)
    return with_told(scene, told)


def _part_of(path: str, options: OpenOptions, signer: Signer | None) -> Scene:
    """The scene that one file alone would be, once it is safe to open."""
    structure = None
    if not is_remote(path):
        structure = check_file(Path(path), allow_vrt=options.allow_vrt, max_block_bytes=options.max_block_bytes)
    else:
        probe_signed(path, signer)
    driver = "VRT" if not is_remote(path) and structure is None else "GTiff"
    return _read_facts(path, driver, structure, options, signer)


def _refuse_other_grids(path: str, parts: Sequence[Scene]) -> None:
    first = parts[0]
    for other in parts[1:]:
        if (other.height, other.width, other.georeference) != (first.height, first.width, first.georeference):
            raise GeoreferenceError(
                f"{shown(path)}: its band file {Path(other.files[0].path).name} has another grid "
                f"({other.height} x {other.width} against {first.height} x {first.width} pixels); "
                f"use {setting('resample')}, or choose bands of one resolution with {setting('bands')}"
            )


def _refuse_large(scene: Scene, options: OpenOptions) -> None:
    if scene.height * scene.width > options.max_pixels:
        raise SceneTooLargeError(
            f"{scene.path}: {scene.height} x {scene.width} = {scene.height * scene.width:,} pixels; "
            f"the limit is {options.max_pixels:,} ({setting('max_pixels')})"
        )
    if options.memory is not None:
        for file in scene.files:
            refuse_large_block(shown(file.path), file.block_bytes, file.reading_bytes, options.memory)


def _modified(paths: Sequence[str]) -> str | None:
    times = [os.stat(path).st_mtime for path in paths if not is_remote(path)]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if times else None


def _read_facts(path: str, driver: str, structure: TiffStructure | None, options: OpenOptions, signer: Signer | None) -> Scene:
    """The scene that one file alone would be."""
    notes: list[str] = []
    limit, address = options.max_block_bytes, signed(path, signer)
    with gdal_env(remote=is_remote(path)), open_dataset(address, driver, max_block_bytes=limit) as dataset:
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
        roles = roles_in(dataset, path)
        file = replace(file_of(dataset, path, driver, structure, roles, notes), signer=signer)
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
        bands = with_nodata(bands_of(dataset, file, roles), options, path)
        if options.nodata is not None:
            # An alpha band is left out of the bands, and says nothing.
            file = replace(file, validity="nodata", alpha=None, told_nodata=bands[0].nodata)
        acquired = acquisition_date({**dataset.tags(), **dataset.tags(ns="IMAGERY")}, Path(path).stem)
        note_layout(dataset, structure, notes)
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
