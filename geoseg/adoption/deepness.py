"""What the metadata of an ONNX file say to the QGIS plugin Deepness.

Their keys are those of the plugin's documentation ("Model metadata", https://qgis-plugin-deepness.readthedocs.io); values are
JSON, and names of classes may be a literal of Python with integers as keys. The plugin divides pixels of 8 bits by 255, in the
order red, green, blue, then standardizes.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from geoseg.adoption.network_facts import EIGHT_BITS, Told
from geoseg.documents import parse_json
from geoseg.errors import GeosegError, ModelError

__all__ = ["deepness_facts"]

SEGMENTS = "segmentor"
LONGEST = 1 << 16
"""Characters of a value; names of classes take no more."""
COLOURS = ("red", "green", "blue")
CM = 100.0


def deepness_facts(where: str, metadata: Mapping[str, str], bands: int, scores: int) -> Told | None:
    """The facts; None for a file that was not made for the plugin.

    Args:
        where: The file, for messages.
        metadata: Its texts by key.
        bands: Bands that the network takes.
        scores: Scores that it gives.

    Raises:
        ModelError: It is no network that gives classes of pixels, or a value can't be read.
    """
    kind = _value(where, metadata, "model_type")
    if kind is None:
        return None
    if not isinstance(kind, str) or kind.casefold() != SEGMENTS:
        raise ModelError(f"{where}: model_type: {kind!r}; networks of the type Segmentor are adopted, which classify pixels")
    names = _names(where, metadata)
    resolution = _number(where, metadata, "resolution")
    if resolution is not None and resolution < 0:
        raise ModelError(f"{where}: metadata resolution: {resolution:g} cm; it is above 0, or 0 for pixels of any size")
    threshold = _number(where, metadata, "seg_thresh")
    return Told(
        bands=COLOURS if bands == len(COLOURS) else None,
        classes=names if names is None or len(names) == max(2, scores) else None,
        gsd=None if resolution is None else resolution / CM,
        scale=EIGHT_BITS,
        mean=_numbers(where, metadata, "standardization_mean"),
        std=_numbers(where, metadata, "standardization_std"),
        data_type="uint8",
        threshold=threshold if threshold is not None and 0 < threshold < 1 else None,
    )


def _value(where: str, metadata: Mapping[str, str], key: str) -> Any:
    text = metadata.get(key)
    if text is None:
        return None
    if len(text) > LONGEST:
        raise ModelError(f"{where}: metadata {key}: {len(text):,} characters, more than {LONGEST:,}")
    try:
        return parse_json(text.encode(), f"{where}: metadata {key}")
    except (GeosegError, ValueError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        # Some exporters write texts without quotes.
        return text


def _names(where: str, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Names of classes, by their numbers from 0 without a gap."""
    found = _value(where, metadata, "class_names")
    if found is None:
        found = _value(where, metadata, "names")
    if found is None:
        return None
    try:
        by_number = {int(key): str(value).strip() for key, value in found.items()}
        if any(value is None or isinstance(value, list | dict | bool) for value in found.values()):
            raise TypeError  # noqa: TRY301 - told below, as what has no items
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f'{where}: metadata class_names: {found!r:.80} is no object such as {{"0": "background"}}') from error
    if sorted(by_number) != list(range(len(by_number))):
        raise ModelError(
            f"{where}: metadata class_names: the numbers are {sorted(by_number)}; they are to run from 0 without a gap"
        )
    return tuple(by_number[k] for k in range(len(by_number)))


def _number(where: str, metadata: Mapping[str, str], key: str) -> float | None:
    value = _value(where, metadata, key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{where}: metadata {key}: {value!r:.80} is no number")
    return float(value)


def _numbers(where: str, metadata: Mapping[str, str], key: str) -> tuple[float, ...] | None:
    value = _value(where, metadata, key)
    if value is None:
        return None
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise ModelError(f"{where}: metadata {key}: {value!r:.80} is no list of numbers")
    return tuple(map(float, items))
