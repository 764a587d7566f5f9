"""Opening of scenes: a path becomes a scene, with what its file says of bands, validity and place."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from geoseg.deadline import Attempt
from geoseg.dialect import setting
from geoseg.errors import GeoreferenceError
from geoseg.scenes.files.one_file import modified_of, refuse_large, scene_of_address, scene_of_file
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.products.assembling import open_product
from geoseg.scenes.products.recognizing import product_at
from geoseg.scenes.products.served import product_name
from geoseg.scenes.ranges.first_file import be_ready
from geoseg.scenes.remote import RemoteFacts, is_remote, shown
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.stac.applied import with_told
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed
from geoseg.scenes.stac.told import Told

__all__ = ["open_scene"]

ASKED_AT_ONCE = 16
"""Files of a scene whose servers are asked at once: a Landsat or Sentinel-2 scene has about as many."""


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
        paths: Its file, or several band files, which must share one grid: local GeoTIFFs and JPEG 2000 files, or addresses of
            GeoTIFFs; or a product of an archive (a SAFE folder, say), whose bands may have several grids.
        name: Path of its output folder, under the run's output; by default the product's name, or the stem of the first file.
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
    if len(paths) == 1 and not is_remote(paths[0]) and (product := product_at(paths[0])) is not None:
        return open_product(product, name, options)
    signer = Signer.of(options.sign, told)
    if len(paths) == 1 and product_name(paths[0]) is not None:
        return open_product(paths[0], name, options, signer)
    name = Path(paths[0]).stem if name is None else name
    parts, facts = _parts(paths, options, signer)
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
        fingerprint=fingerprint(list(paths), signers=dict.fromkeys(paths, signer), known=facts),
        modified=modified_of(paths),
        view=first.view,
        ignore_nodata=options.ignore_nodata,
        warnings=tuple(dict.fromkeys(w for part in parts for w in part.warnings)),
    )
    refuse_large(scene, options)
    return with_told(scene, told)


def _parts(
    paths: Sequence[str], options: OpenOptions, signer: Signer | None
) -> tuple[list[Scene], dict[str, RemoteFacts | None]]:
    """The scene that each file alone would be, and what servers have told of addresses among them."""
    facts = _told_of([path for path in paths if is_remote(path)], signer)
    parts = [
        scene_of_address(path, options, signer, facts[path]) if is_remote(path) else scene_of_file(path, options)
        for path in paths
    ]
    return parts, facts


def _told_of(addresses: Sequence[str], signer: Signer | None) -> dict[str, RemoteFacts | None]:
    """What servers tell of files, several of which are asked for at once; the first failure in their order is raised."""
    facts = dict[str, RemoteFacts | None]()
    for start in range(0, len(addresses), ASKED_AT_ONCE):
        some = addresses[start : start + ASKED_AT_ONCE]
        asked = [Attempt(partial(probe_signed, address, signer), "geoseg-ask") for address in some]
        be_ready()
        # Each ends by itself.
        facts |= {address: attempt.result(math.inf) for address, attempt in zip(some, asked, strict=True)}
    return facts


def _refuse_other_grids(path: str, parts: Sequence[Scene]) -> None:
    first = parts[0]
    for other in parts[1:]:
        if (other.height, other.width, other.georeference) != (first.height, first.width, first.georeference):
            raise GeoreferenceError(
                f"{shown(path)}: its band file {Path(other.files[0].path).name} has another grid "
                f"({other.height} x {other.width} against {first.height} x {first.width} pixels); "
                f"use {setting('resample')}, or choose bands of one resolution with {setting('bands')}"
            )
