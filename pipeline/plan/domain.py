"""Whether a scene is like what a model was made for: asked before anything is computed, told on whatever comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.documents import Json
from geoseg.domain.facts import CELL, ImageFacts, image_facts, repeated_value
from geoseg.domain.reference import deviations, reference_of, score_of
from geoseg.domain.sampled import sampled_cells
from geoseg.errors import SceneError
from geoseg.models.card import Card
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.scene import Scene

__all__ = ["DomainCheck", "Look", "check_domain", "look_at", "refuse_far", "unknown_resolution"]

GSD_FACTOR = 1.5
REPEATED = 0.25
"""A value that fills more of a scene, and much more than of any scene of the training, is not likely to be an image."""
TIMES = 3.0
SATURATED, CONSTANT = 0.1, 0.25
"""Shares of a scene that are suspect beyond ``TIMES`` those of the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCheck:
    """Distance of a scene from the training domain of a model."""

    model: str
    score: float | None
    """Mean distance of its windows from those of the training; None where the card tells none, or no window has data."""
    limit: float | None
    """Scores above it are far."""
    measured: bool
    """Whether the card holds statistics of windows; else it told mean and deviation only."""
    pixel_m: float | None
    gsd_m: float | None
    """Side of the scene's pixels, and of those of the training."""
    saturated: float
    """Share of the pixels at an end of the model's range."""
    constant: float
    """Share of the pixels that equal their neighbour."""
    repeated: float
    """Share of the pixels with the most common value."""
    reasons: tuple[str, ...]
    """What is far, a sentence each; empty where the scene is like the training."""

    @property
    def title(self) -> str:
        """The outcome in a few words."""
        if self.score is None or self.limit is None:
            unknown = "the model's card does not tell what it was made for" if self.limit is None else "too few pixels to compare"
            return "; ".join(self.reasons) or unknown
        return f"{'far' if self.reasons else 'near'}: distance {self.score:.2f}, up to {self.limit:.2f} is usual"

    def document(self) -> dict[str, Json]:
        """For ``run.json``."""
        return {
            "model": self.model,
            "far": bool(self.reasons),
            "distance": _digits(self.score),
            "limit": self.limit,
            "measured": self.measured,
            "pixel_m": _digits(self.pixel_m),
            "gsd_m": self.gsd_m,
            "saturated": _digits(self.saturated),
            "constant": _digits(self.constant),
            "repeated": _digits(self.repeated),
            "reasons": list(self.reasons),
        }

    def tags(self) -> dict[str, str]:
        """For the metadata of products."""
        numbers = (
            {}
            if self.score is None
            else {"geoseg_domain_distance": f"{self.score:.4g}", "geoseg_domain_limit": f"{self.limit:.4g}"}
        )
        return {"geoseg_domain": "far" if self.reasons else "unknown" if self.score is None else "near", **numbers}


class Look(Protocol):
    """What measures some cells of a scene, as ``look_at`` does."""

    def __call__(self, scene: Scene, bands: Sequence[int], size: int, *, mask_bad_blocks: bool = False) -> tuple[ImageFacts, ...]:
        """Measure some cells of a scene."""
        ...


def look_at(
    scene: Scene, bands: Sequence[int], size: int, *, mask_bad_blocks: bool = False, hand_on: bool = False
) -> tuple[ImageFacts, ...]:
    """Measure some cells of a scene in its own values: of each date in turn.

    Args:
        scene: The scene.
        bands: Indices of its bands, of all dates.
        size: How many bands the model takes at once.
        mask_bad_blocks: Leave out what can't be read.
        hand_on: Leave what is decoded to the reader that comes next in this process.

    Raises:
        ReadError: A block can't be read.
    """
    cells = list(sampled_cells(scene, bands, CELL, mask_bad_blocks=mask_bad_blocks, hand_on=hand_on))
    starts = range(0, len(bands), size)
    return tuple(image_facts(((p.data[i : i + size], p.valid) for p in cells), size) for i in starts)


def check_domain(scene: Scene, looks: Sequence[ImageFacts], card: Card, values: ValueMap, bands: Sequence[int]) -> DomainCheck:
    """Hold a scene against a model's card; of several dates the one that is farthest counts.

    Args:
        scene: The scene.
        looks: What ``look_at`` has found, by date.
        card: Of the model.
        values: How pixels become what the model takes, for the bands of all dates.
        bands: Indices of the scene's bands, of all dates.
    """
    size = len(card.bands)
    every = [
        _check(
            scene, look, card, np.array(values.scale[i : i + size]), np.array(values.offset[i : i + size]), bands[i : i + size]
        )
        for look, i in zip(looks, range(0, len(bands), size), strict=True)
    ]
    return max(every, key=lambda one: (len(one.reasons), one.score or 0.0))


def refuse_far(scene: Scene, checks: Iterable[DomainCheck]) -> None:
    """Refuse a scene that is far from what a model was made for.

    Raises:
        SceneError: It is.
    """
    for check in checks:
        if check.reasons:
            raise SceneError(f"{scene.path}: {'; '.join(check.reasons)}; --strict takes that as an error")


def _check(
    scene: Scene, look: ImageFacts, card: Card, scale: NDArray[np.float64], offset: NDArray[np.float64], bands: Sequence[int]
) -> DomainCheck:
    reference, stats = reference_of(card), look.stats.mapped(scale, offset)
    score = score_of(reference.distances(stats)) if reference is not None and len(stats) else None
    value, repeated = repeated_value(look.values)
    mapped = look.values * scale[:, None] + offset[:, None]
    low, high = card.value_range if card.value_range is not None else (-np.inf, np.inf)
    saturated = float(((mapped <= low) | (mapped >= high)).any(axis=0).mean()) if mapped.size else 0.0
    facts = card.domain
    reasons = list(_resolution(scene, card))
    if repeated > max(REPEATED, TIMES * (facts.repeated if facts is not None else 0.0)):
        reasons.append(_collar(scene, value, repeated, bands))
    elif facts is not None and saturated > SATURATED + TIMES * facts.saturated:
        reasons.append(
            f"{saturated:.0%} of the pixels lie at an end of the model's range {low:g}..{high:g} or beyond it: check --rescale"
        )
    elif facts is not None and look.constant > CONSTANT + TIMES * facts.constant:
        reasons.append(f"{look.constant:.0%} of the pixels equal their neighbour: the image was enlarged, or is no image")
    if reference is not None and score is not None and score > reference.limit:
        why = deviations(reference, stats, card.bands)
        reasons.append(
            f"the image is unlike those that {card.name} was made for (distance {score:.2f}, up to {reference.limit:.2f} is usual"
            f"{': ' + ', '.join(why) if why else ''}); check --bands and --rescale, and expect a poor map"
        )
    return DomainCheck(
        model=card.name,
        score=score,
        limit=None if reference is None else reference.limit,
        measured=reference is not None and reference.measured,
        pixel_m=scene.pixel_size,
        gsd_m=card.gsd_m,
        saturated=saturated,
        constant=look.constant,
        repeated=repeated,
        reasons=tuple(reasons),
    )


def _collar(scene: Scene, value: Sequence[float], share: float, bands: Sequence[int]) -> str:
    numbers = [f"{v:g}" for v in value]
    if any(file.palette for file in scene.files):
        option = "--nodata and its index in the colour table"
    elif len(set(numbers)) == 1:
        option = f"--nodata {numbers[0]}"
    elif sorted(bands) == list(range(len(scene.bands))):
        option = "--nodata " + ",".join(numbers[list(bands).index(i)] for i in range(len(numbers)))
    else:
        option = "--nodata"
    return (
        f"one pixel value ({', '.join(dict.fromkeys(numbers))}) fills {share:.0%} of the image, as a collar does: if it stands "
        f"for no data, declare it with {option}"
    )


def _resolution(scene: Scene, card: Card) -> Iterable[str]:
    size = scene.pixel_size
    if not size or card.gsd_m is None:
        return
    ratio = size / card.gsd_m
    if not 1 / GSD_FACTOR <= ratio <= GSD_FACTOR:
        yield (
            f"pixels of {size:.3g} m, but the model was trained on {card.gsd_m:g} m: "
            f"{max(ratio, 1 / ratio):.1f} times {'coarser' if ratio > 1 else 'finer'}; results may be poor, consider --resample"
        )


def unknown_resolution(scene: Scene, card: Card) -> Iterable[str]:
    """A note where the size of pixels can't be compared."""
    if scene.pixel_size is None and card.gsd_m is not None:
        yield f"the size of its pixels is not known, so it can't be compared with the {card.gsd_m:g} m of the model's training"


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
