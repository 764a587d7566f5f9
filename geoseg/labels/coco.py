"""Labels of images without a place on Earth: COCO JSON, and masks as those of Pascal VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features

from geoseg.arrays import I32, U8, Bools
from geoseg.codes import UNLABELLED
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError, ReadError
from geoseg.labels.images import read_image
from geoseg.labels.values import Tally, ValueCodes, declared_codes

__all__ = ["Coco", "decode_counts", "decode_runs", "mask_labels"]

MAX_SIDE = 100_000
"""Most rows or columns of an image: its labels are arrays in memory."""


def mask_labels(path: str, codes: Mapping[str, int], explain: str | None = None) -> U8:
    """(h, w) class codes of a mask: a PNG with a palette as those of Pascal VOC, a grey or one-bit PNG, a plain TIFF.

    Args:
        path: The mask.
        codes: Class codes by value of the mask.
        explain: The option by which to say what other values mean, which then are refused; None to leave them UNLABELLED, such as
            the 255 of Pascal VOC, with a warning.

    Raises:
        ReadError: It can't be read.
        ConfigError: It is not one band of 8 bits, or none of its values is listed.
    """
    mask = read_image(path)
    if len(mask) != 1 or mask.dtype != np.uint8:
        raise ConfigError(f"{path}: a mask is one band of 8 bits, not {len(mask)} of {mask.dtype}")
    unlisted = {str(code): UNLABELLED for code in declared_codes(path)}
    found, odd = ValueCodes.of(unlisted | dict(codes))(mask[0], np.ones(mask.shape[1:], np.bool_))
    if explain is not None and odd.any():
        value = mask[0][odd][0]
        raise ConfigError(
            f"{path}: value {value} is no class; say what it means: {explain} {value}=CLASS, or {explain} {value}=unlabelled"
        )
    tally = Tally(path)
    tally.add(mask[0], found, odd)
    tally.tell(codes)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Coco:
    """A COCO file (Lin et al. 2014, arXiv:1405.0312): images, categories, and objects as polygons or runs."""

    path: str
    """The file, for messages."""
    images: Mapping[str, tuple[int, int, int]]
    """Number, height and width of each image by its ``file_name``."""
    categories: Mapping[int, str]
    """Names by number."""
    annotations: Mapping[int, Sequence[Mapping[str, Any]]]
    """Objects by number of the image, in the order of the file."""

    @classmethod
    def read(cls, path: str) -> Coco:
        """Read a file.

        Raises:
            ReadError: It can't be read, or is not COCO JSON.
        """
        try:
            document = read_json(Path(path), ReadError, limit=LARGE)
            images = {str(i["file_name"]): (int(i["id"]), int(i["height"]), int(i["width"])) for i in document["images"]}
            categories = {int(c["id"]): str(c["name"]) for c in document["categories"]}
            annotations: dict[int, list[Mapping[str, Any]]] = {}
            for entry in document["annotations"]:
                annotations.setdefault(int(entry["image_id"]), []).append(entry)
        except ReadError:
            raise
        except OSError as error:
            raise ReadError(f"{path}: can't be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReadError(
                f"{path}: not COCO JSON ({type(error).__name__}: {error}); it has images, annotations, categories"
            ) from error
        for name, (_, height, width) in images.items():
            if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
                raise ReadError(f"{path}: image {name!r} has {height} x {width} px; sides are 1 to {MAX_SIDE:,}")
        return cls(path, images, categories, annotations)

    def labels(self, image: str, codes: Mapping[str, int], outside: int = 0) -> tuple[U8, I32]:
        """Class codes and object numbers of an image.

        Crowds are UNLABELLED, and lie below all other objects; later objects lie over earlier ones. A pixel belongs to a
        polygon that covers its centre. Objects of a category that is not listed, or listed as UNLABELLED, are UNLABELLED.

        Args:
            image: Its path; found by the end of the path, the longest that is in the file.
            codes: Class codes by name or number of the category.
            outside: Code of what lies in no object.

        Returns:
            (h, w) uint8, and (h, w) int32: objects from 1 in the order of the file, 0 for none.

        Raises:
            ConfigError: The image is not in the file, or none of the categories is a class.
            ReadError: An object's shape can't be decoded.
        """
        number, height, width = self._image(image)
        names = {str(n) for n in self.categories} | {*self.categories.values()}
        if self.categories and not names & codes.keys():
            seen = ", ".join(list(self.categories.values())[:10])
            raise ConfigError(f"{self.path}: none of the categories is a class: {seen}; known: {', '.join(codes)}")
        labels, objects = np.full((height, width), outside, np.uint8), np.zeros((height, width), np.int32)
        entries = list(enumerate(self.annotations.get(number, ()), start=1))
        for k, entry in sorted(entries, key=lambda item: not item[1].get("iscrowd")):
            try:
                shape = _shape(entry["segmentation"], height, width)
                category = int(entry["category_id"])
            except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
                raise ReadError(f"{self.path}: object {entry.get('id', k)} of {image}: {error}") from error
            code = codes.get(self.categories.get(category, ""), codes.get(str(category), UNLABELLED))
            if entry.get("iscrowd"):
                code = UNLABELLED
            labels[shape], objects[shape] = code, 0 if code == UNLABELLED else k
        return labels, objects

    def _image(self, path: str) -> tuple[int, int, int]:
        parts = Path(path).parts
        for first in range(len(parts)):
            name = "/".join(parts[first:])
            if name in self.images:
                return self.images[name]
        raise ConfigError(f"{self.path}: no image is named {Path(path).name}; there are {', '.join(list(self.images)[:5])}")


def _shape(segmentation: Any, height: int, width: int) -> Bools:
    """(h, w): where an object is."""
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"runs for an image of {segmentation['size']}, but it has {height} x {width} px")
        counts = segmentation["counts"]
        return decode_runs(decode_counts(counts) if isinstance(counts, str) else counts, height, width)
    covered = np.zeros((height, width), np.bool_)
    for ring in segmentation:
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        if len(points) < 3:
            raise ValueError(f"a polygon of {len(points)} points")
        geometry = {"type": "Polygon", "coordinates": [[*points.tolist(), points[0].tolist()]]}
        # One at a time: parts that overlap belong to the object, too.
        covered |= rasterio.features.rasterize([geometry], out_shape=(height, width)) > 0
    return covered


def decode_runs(counts: Sequence[int], height: int, width: int) -> Bools:
    """(height, width): a mask from the lengths of its runs, down the columns, beginning with what is not in it.

    Raises:
        ValueError: The runs are not as long as the image.
    """
    lengths = np.asarray(counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"runs of {lengths.sum()} px for an image of {height} x {width} px")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, lengths).reshape(width, height).T)


def decode_counts(text: str) -> list[int]:
    """The lengths of runs from COCO's compressed form.

    Each number is written from its lowest five bits up, a character of value 48 to 111 for five bits, the sixth for "more
    follows"; the last fifth bit is the sign. From the fourth on, a number stands for the difference to the one two before.

    Raises:
        ValueError: The text is not of that form.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"runs hold the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("runs end within a number")
    return counts
