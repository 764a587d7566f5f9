"""What people look at of composites: a picture of each image, and a page over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.arrays import U8
from geoseg.formats.page.amounts import percent
from geoseg.formats.page.elements import Entry, Link, Links, Minded, Notes, Page, Picture, Pictures, Row, Section, Table, Words
from geoseg.formats.page.embedding import drawing, photo
from geoseg.formats.page.rendering import render
from geoseg.formats.preview import stretched
from geoseg.grid import ceil_div
from geoseg.scenes.gdal import gdal_env, open_written
from pipeline.files.version import code_version

__all__ = ["ImageFacts", "write_page_of_images", "write_picture"]

PREVIEW_PX = 1024
PAGE_PX, PAGE_BYTES = 700, 200_000
MOST_PICTURES = 24
"""Images of which the page has a picture; the table has all."""
FEW, MANY = (222, 235, 247), (8, 48, 107)
"""Colours of one observation, and of the most there are."""
ABOUT = {
    "image": "the image",
    "item": "its STAC item",
    "observations": "how many clear observations each pixel has",
    "dates": "the date of each pixel",
    "preview": "a picture of it",
}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image that was made, as the page tells of it."""

    name: str
    files: Mapping[str, str]
    """Its files by what they are, below the folder of the page."""
    scenes: int
    times: tuple[str, str] | None
    """When its first and its last scene were acquired, where that is known."""
    clear: int
    pixels: int
    mean: float
    """Observations of a pixel that has any."""
    most: int


def write_picture(image: Path, names: Sequence[str], path: Path) -> None:
    """Write a picture of an image: its red, green and blue where it has them, each between its 2nd and 98th percentile.

    Args:
        image: The GeoTIFF.
        names: Of its bands.
        path: The PNG file.
    """
    from PIL import Image

    Image.fromarray(_pixels(image, names, PREVIEW_PX)).save(path, "PNG", compress_level=9)


def _pixels(image: Path, names: Sequence[str], side: int) -> U8:
    """(h, w, 3) of an image, no more than so many pixels a side; white where there is no data."""
    colors = [names.index(name) for name in ("red", "green", "blue") if name in names]
    bands = colors if len(colors) == 3 else list(range(3 if len(names) >= 3 else 1))
    data = _small(image, [band + 1 for band in bands], side)
    return stretched(data.filled(0), np.asarray(~np.ma.getmaskarray(data).any(axis=0)))


def _small(path: Path, bands: Sequence[int], side: int) -> np.ma.MaskedArray[tuple[int, ...], np.dtype[np.generic]]:
    """(bands, h, w) of a raster at every so manieth pixel, masked where there is no data."""
    with gdal_env(), open_written(path) as dataset:
        stride = max(1, ceil_div(max(dataset.shape), side))
        height, width = (ceil_div(length, stride) for length in dataset.shape)
        data: np.ma.MaskedArray[tuple[int, ...], np.dtype[np.generic]] = dataset.read(
            list(bands), out_shape=(len(bands), height, width), masked=True
        )
    return data


def _counted(path: Path, most: int) -> U8:
    """(h, w, 3) of the numbers of observations: darker where there are more, white where there is none."""
    count = _small(path, [1], PAGE_PX).filled(0)[0].astype(np.float64)
    share = (np.clip(count, 1, None) - 1) / max(1, most - 1)
    colors = np.array(FEW) + share[..., None] * (np.array(MANY) - np.array(FEW))
    return np.where((count > 0)[..., None], np.rint(colors), 255).astype(np.uint8)


def write_page_of_images(
    path: Path, images: Sequence[ImageFacts], names: Sequence[str], method: str, warnings: Sequence[str]
) -> None:
    """Write the page over all images of a run, whose files are there.

    Args:
        path: The HTML file, in the folder that the files of images are told from.
        images: They, in their order.
        names: Of their bands.
        method: How they were made, in a word or two.
        warnings: What is to be minded.
    """
    rows: list[Row] = [
        [
            image.name,
            f"{image.scenes:,}",
            "-" if image.times is None else " to ".join(dict.fromkeys(text[:10] for text in image.times)),
            percent(image.clear / image.pixels),
            f"{image.mean:.1f}",
            f"{image.most:,}",
        ]
        for image in images
    ]
    heads = ("Image", "#Scenes", "From their first to their last", "#With data", "#Clear observations, mean", "#Most")
    shown = [Pictures(_pictures(path.parent, image, names)) for image in images[:MOST_PICTURES]]
    if len(images) > MOST_PICTURES:
        shown_of = Words(f"The first {MOST_PICTURES} of {len(images):,} are shown; each has its picture beside it.")
    else:
        shown_of = Words("Right of each image: how many clear observations a pixel has; white is none, the darkest the most.")
    links = tuple(Link(file, f"{image.name}: {ABOUT[kind]}") for image in images for kind, file in image.files.items())
    sections = [
        *([Section("What to mind", (Notes(tuple(map(Minded, warnings))),))] if warnings else []),
        Section("Images", (Table.of("What they are made of", heads, rows), shown_of, *shown)),
        Section("Files", (Links(links),)),
    ]
    lead = (
        Entry("Images", f"{len(images):,}"),
        Entry("Method", method),
        Entry("Scenes", f"{sum(image.scenes for image in images):,}"),
        Entry("With data", percent(sum(image.clear for image in images) / sum(image.pixels for image in images))),
    )
    title = images[0].name if len(images) == 1 else f"{images[0].name} to {images[-1].name}"
    page = Page(title, "Composite", lead, tuple(sections), footer=f"Made by geoseg {code_version()}.")
    path.write_text(render(page), encoding="utf-8")


def _pictures(folder: Path, image: ImageFacts, names: Sequence[str]) -> tuple[Picture, Picture]:
    whole = _pixels(folder / image.files["image"], names, PAGE_PX)
    counted = _counted(folder / image.files["observations"], image.most)
    return (
        photo(whole, f"The image {image.name}", image.name, side=PAGE_PX, most=PAGE_BYTES),
        drawing(counted, f"Clear observations of {image.name}", f"1 to {image.most}", side=PAGE_PX, most=PAGE_BYTES),
    )
