"""Rescaling of pixel values to those of a model: ranges given or measured, and dates brought to the light of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.dates.radiometry import Lines
from geoseg.domain.facts import ImageFacts
from geoseg.domain.matching import match_values
from geoseg.domain.reference import Reference, reference_of, score_of
from geoseg.errors import ConfigError, SceneError
from geoseg.inference.reading import is_wholly_hidden
from geoseg.models.card import Card
from geoseg.scenes.bands.value_map import ValueMap, value_map
from geoseg.scenes.scene import Scene

__all__ = ["Rescaling", "rescale_of", "values_of"]


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Pixel values that stand for the ends of a model's range."""

    ranges: tuple[tuple[float, float], ...] | None
    """By band, the low and the high one; None where values are passed on as they are."""
    notes: tuple[str, ...] = ()
    """For the report."""


def rescale_of(scene: Scene, bands: Sequence[int], text: str | None, card: Card, looks: Sequence[ImageFacts]) -> Rescaling:
    """Choose the pixel values that are mapped to the ends of a model's range.

    Args:
        scene: The scene.
        bands: Indices of its bands; of each date in turn.
        text: ``LOW,HIGH``; or ``auto`` for those under which the image looks most like what the model has learned from.
        card: Of the model.
        looks: What was measured of the scene, by date; used for ``auto`` only.

    Raises:
        SceneError: There is no data to measure, or it is constant.
        ConfigError: The model has no range to map to.
    """
    if text is None:
        return Rescaling(None)
    if text != "auto":
        low, high = (float(part) for part in text.split(","))
        return Rescaling(((low, high),) * len(bands))
    if card.value_range is None:
        raise ConfigError("--rescale: the model's card gives no value_range to map to")
    reference, size = reference_of(card), len(card.bands)
    ranges: list[tuple[float, float]] = []
    notes: list[str] = []
    same = True
    for look, start in zip(looks, range(0, len(bands), size), strict=True):
        own = bands[start : start + size]
        if look.values.shape[1] == 0 and is_wholly_hidden(scene, bands):
            # Nothing of it will be analysed, so that no value matters.
            return Rescaling((card.value_range,) * len(bands))
        if look.values.shape[1] == 0:
            raise SceneError(
                f"{scene.path}: --rescale auto: none of the sampled pixels holds data that shows the ground; pass --rescale "
                "LOW,HIGH"
            )
        if reference is None or not len(look.stats):
            ranges += _percentiles(scene, own, look)
            same = False
            continue
        usual = {scene.bands[i].dtype for i in own} == {card.data_type}
        if usual and (score := score_of(reference.distances(look.stats))) <= reference.limit:
            notes.append(
                f"--rescale auto: values look like those of the model's training (distance {score:.2f}) and stay as they are"
            )
            ranges += [card.value_range] * size
            continue
        same = False
        found, note = _matched(scene, own, look, reference, card.value_range)
        ranges += found
        notes.append(note)
    return Rescaling(None if same else tuple(ranges), tuple(dict.fromkeys(notes)))


def _matched(
    scene: Scene, bands: Sequence[int], look: ImageFacts, reference: Reference, to: tuple[float, float]
) -> tuple[list[tuple[float, float]], str]:
    """The ends of the range under which a date looks most like the training."""
    if not (np.diagonal(look.stats.moments[:, 0], axis1=1, axis2=2) > 0).any(axis=0).all():
        _percentiles(scene, bands, look)
    match = match_values(look.stats, reference)
    ends = [
        (float(f"{(to[0] - b) / a:.6g}"), float(f"{(to[1] - b) / a:.6g}")) for a, b in zip(match.scale, match.offset, strict=True)
    ]
    again = (
        "" if len(set(ends)) > 1 else f"; --rescale={ends[0][0]:g},{ends[0][1]:g} does the same to other scenes of this product"
    )
    return ends, (
        f"--rescale auto: mapped{' band by band' if match.by_band else ''} to look most like the model's training (distance "
        f"{match.score:.2f}, up to {reference.limit:.2f} is usual){again}"
    )


def _percentiles(scene: Scene, bands: Sequence[int], look: ImageFacts) -> list[tuple[float, float]]:
    """The 2nd and the 98th percentile of each band, where nothing is known of what a model has learned from."""
    found = []
    for values, i in zip(look.values, bands, strict=True):
        low, high = (float(v) for v in np.percentile(values, (2, 98)))
        if low >= high:
            raise SceneError(
                f"{scene.path}: --rescale auto: band {scene.bands[i].label} is constant ({low:g}); pass --rescale LOW,HIGH"
            )
        found.append((low, high))
    return found


def values_of(
    scene: Scene,
    bands: Sequence[int],
    card: Card,
    rescale: Sequence[tuple[float, float]] | None,
    lines: Sequence[Lines | None] = (),
) -> ValueMap:
    """The mapping from pixels to what a model takes.

    Args:
        scene: The scene.
        bands: Indices of its bands; of each date in turn.
        card: Of the model.
        rescale: By band, the ranges that ``rescale_of`` gave.
        lines: By date, those that bring its values to those of the first date.

    Raises:
        DtypeError: The values are not what the model takes, and nothing says how to convert them.
        ConfigError: The model has no range to map to.
    """
    values = value_map(
        scene,
        [scene.bands[i] for i in bands],
        dtype=card.data_type,
        value_range=card.value_range,
        physical=card.physical,
        rescale=rescale,
    )
    size = len(bands) // max(1, len(lines))
    for t, of_date in enumerate(lines):
        if of_date is None:
            continue
        # Pixels are first brought to those of the first date, whose values the model then gets.
        scale, offset = list(values.scale), list(values.offset)
        for k, (gain, shift) in enumerate(of_date):
            place = t * size + k
            scale[place] = values.scale[k] * gain
            offset[place] = values.scale[k] * shift + values.offset[k]
        values = replace(values, scale=tuple(scale), offset=tuple(offset))
    return values
