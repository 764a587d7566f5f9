"""Products as scenes: their bands, whose pixels may differ in size, on one grid."""

from __future__ import annotations

from dataclasses import replace

from geoseg.errors import NotARasterError, ReadError, SceneError, TruncatedError
from geoseg.scenes.files.one_file import DRIVERS, Structure, modified_of, read_facts, refuse_large, scene_of_address
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.names import folder_name
from geoseg.scenes.products.container import Container
from geoseg.scenes.products.image_checks import check_image
from geoseg.scenes.products.metadata_files import read_product
from geoseg.scenes.products.product import Product, ProductBand
from geoseg.scenes.products.product_facts import AbsentBand
from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.products.recognizing import files_of, name_of
from geoseg.scenes.products.served import is_not_there, read_served
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import Band, OpenOptions, Scene, SceneFile
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed

__all__ = ["open_product"]

COARSER = 1.5
"""Pixels that grow by more than this are averages of those that they cover; others are interpolated between the nearest four."""
SLACK = 1.01
"""Metres of a map projection differ a little from those on the ground."""
GONE = (NotARasterError, TruncatedError, ReadError)
"""What a band raises whose file is not there or not whole."""


def open_product(path: str, name: str | None, options: OpenOptions, signer: Signer | None = None) -> Scene:
    """Open a product as one scene.

    Its grid is that of the bands whose pixels are nearest to ``options.pixel_size``, or the finest. Bands of this grid are read
    as they are stored; coarser ones are interpolated bilinearly between the centres of their pixels, finer ones averaged.

    Args:
        path: The product, or the address of its metadata.
        name: Path of its output folder, under the run's output; by default that of the product.
        options: What to accept.
        signer: How its addresses are signed.

    Raises:
        SceneError: One clear sentence on what is wrong and what to do.
    """
    served = is_remote(path)
    product = read_served(path, signer) if served else read_product(path)
    parts, absent = _parts(product, options, signer)
    quality, unread = _quality(product, options, signer)
    if not parts:
        raise SceneError(f"{absent[0].reason}; nor is any other band of it there")
    size = product.size_for(options.pixel_size)
    finest = min(parts, key=lambda band: (abs(band.pixel_size - size), band.pixel_size))
    first = parts[finest]
    target = first.pixel_size or finest.pixel_size
    files: list[SceneFile] = []
    bands: list[Band] = []
    by_file: dict[str, int] = {}
    for band, part in parts.items():
        if part.files[0].path not in by_file:
            by_file[part.files[0].path] = len(files)
            files.append(_placed(part, first, band, target, options))
        bands.append(_described(band, part, by_file[part.files[0].path], options))
    sources = (path, *(file.path for file in files)) if served else (path,)
    scene = Scene(
        name=name if name is not None else (folder_name(product.facts.name) if served else name_of(path)),
        files=tuple(files),
        bands=tuple(bands),
        height=first.height,
        width=first.width,
        georeference=first.georeference,
        acquired=product.facts.acquired or first.acquired,
        fingerprint=fingerprint(sources, signers=dict.fromkeys(sources, signer)),
        modified=None if served else modified_of(files_of(path)),
        view=first.view,
        ignore_nodata=options.ignore_nodata,
        quality=quality,
        product=replace(product.facts, absent=(*absent, *unread)),
        sources=sources,
        warnings=tuple(dict.fromkeys(note for part in parts.values() for note in part.warnings)),
    )
    refuse_large(scene, options)
    return scene


def _parts(
    product: Product, options: OpenOptions, signer: Signer | None
) -> tuple[dict[ProductBand, Scene], tuple[AbsentBand, ...]]:
    """The scene that each band alone would be, and the bands that can't be used."""
    parts: dict[ProductBand, Scene] = {}
    absent: list[AbsentBand] = []
    opened: dict[str, Scene] = {}
    for band in product.bands:
        try:
            if band.file not in opened:
                opened[band.file] = _open(product.container, band, options, signer)
            parts[band] = opened[band.file]
        except GONE as error:
            _refuse_failing(product.container, error)
            absent.append(AbsentBand(band.name, band.role, str(error)))
    return parts, tuple(absent)


def _refuse_failing(container: Container, error: SceneError) -> None:
    """Raise what a server fails at or denies: it does not say that a file is not there."""
    if container.form == "server" and isinstance(error, ReadError) and not is_not_there(error):
        raise error


def _quality(
    product: Product, options: OpenOptions, signer: Signer | None
) -> tuple[tuple[QualityLayer, ...], tuple[AbsentBand, ...]]:
    """The quality layers, and those that can't be used."""
    layers: list[QualityLayer] = []
    absent: list[AbsentBand] = []
    for kind, file in product.quality:
        try:
            if product.container.form == "server":
                address = product.container.gdal_path(product.container.find(file) or file)
                probe_signed(address, signer)
                driver = "JP2OpenJPEG" if file.lower().endswith(".jp2") else "GTiff"
                layers.append(QualityLayer(kind=kind, path=address, driver=driver, signer=signer))
                continue
            name, structure = _checked(product.container, file, options)
            layers.append(QualityLayer(kind=kind, path=product.container.gdal_path(name), driver=DRIVERS[type(structure)]))
        except GONE as error:
            _refuse_failing(product.container, error)
            absent.append(AbsentBand(kind, None, str(error)))
    return tuple(layers), tuple(absent)


def _checked(container: Container, file: str, options: OpenOptions) -> tuple[str, Structure]:
    """The name of an image of a product, which is whole, and its structure."""
    name = container.find(file)
    if name is None:
        raise ReadError(f"{container.shown(file)}: is not there; download the product again")
    return name, check_image(container, name, options.max_block_bytes)


def _open(container: Container, band: ProductBand, options: OpenOptions, signer: Signer | None) -> Scene:
    """The scene that the file of a band would be, which says nothing of its values itself."""
    if container.form == "server":
        address = container.gdal_path(container.find(band.file) or band.file)
        part = scene_of_address(address, options, signer, probe_signed(address, signer))
    else:
        name, structure = _checked(container, band.file, options)
        part = read_facts(container.gdal_path(name), DRIVERS[type(structure)], structure, options)
    # How many bits are used and who has written the place beside is known of a product.
    return replace(part, warnings=tuple(note for note in part.warnings if "never written" in note))


def _placed(part: Scene, first: Scene, band: ProductBand, target: float, options: OpenOptions) -> SceneFile:
    """The file of a band, and how it is brought to the grid of the scene."""
    file = part.files[0]
    same = (part.height, part.width, part.georeference) == (first.height, first.width, first.georeference)
    if first.view is not None or not same:
        file = replace(file, resampling="average" if target > COARSER * SLACK * band.pixel_size else "bilinear")
    if band.nodata is not None and file.validity in ("all", "nodata") and not _told_by_user(options):
        file = replace(file, validity="nodata", told_nodata=band.nodata)
    return file


def _told_by_user(options: OpenOptions) -> bool:
    return options.ignore_nodata or options.nodata is not None


def _described(band: ProductBand, part: Scene, file: int, options: OpenOptions) -> Band:
    """A band as the product describes it."""
    own = next((one for one in part.bands if one.index == band.index), None)
    if own is None:
        raise SceneError(
            f"{shown(part.files[0].path)}: has {len(part.bands)} bands, and {band.name} should be its band {band.index}"
        )
    return replace(
        own,
        file=file,
        name=band.name,
        role=band.role,
        color="undefined",
        told_color=True,
        conflict=None,
        scale=band.scale,
        offset=band.offset,
        nodata=own.nodata if _told_by_user(options) or band.nodata is None else band.nodata,
        wavelength=band.wavelength,
        quantity=band.quantity,
    )
