"""Opening several dates of one place: aligned, compared, corrected where that is sure, refused where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.change.radiometry import Lines, invariant, lines_of, moments
from geoseg.change.registration import Registration, register, shift_of
from geoseg.change.series import SeriesFacts
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.models.card import Card
from geoseg.scenes.bands import choose_bands
from geoseg.scenes.scene import OpenOptions, Scene, open_scene
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stack import StackReader, align, at_date, moved, stacked
from geoseg.windows import Window
from pipeline.config import DatesConfig

__all__ = ["OpenedDates", "dates_of", "facts_of", "open_dates"]

NONE = "none"
WINDOW_PX, WINDOWS = 384, 49
"""Side and number of the windows by which dates are compared."""
LEAST_SHIFT_PX = 0.1
"""Dates that lie no further off are read as they are: moving them would smooth their pixels for nothing."""
SAMPLED = 200_000
"""Pixels from which the light of two dates is compared."""


@dataclass(frozen=True, slots=True)
class OpenedDates:
    """A stack, and what was found out about it."""

    scene: Scene
    """The stack."""
    bands: tuple[int, ...]
    """Indices into its bands: those that the model takes, of each date in turn."""
    registrations: tuple[Registration, ...]
    """Of the second date and those that follow; empty where dates were not compared."""
    lines: tuple[Lines | None, ...]
    """By date, the lines that bring its values to those of the first date."""
    notes: tuple[str, ...]
    """For the report."""


def dates_of(card: Card) -> int:
    """How many dates a network takes at once: more than one where its bands are named ``red@1``, ``red@2``."""
    return len({name.rpartition("@")[2] for name in card.bands if "@" in name}) or 1


def facts_of(ref: SceneRef, card: Card, config: DatesConfig, acquired: Sequence[str | None]) -> SeriesFacts | None:
    """How a model of single dates is run over those of a scene; None where it takes all of them at once.

    Raises:
        ConfigError: The model does not fit the number of dates, or knows no such class.
    """
    count, takes = 1 + len(ref.later), dates_of(card)
    if takes == count:
        return None
    if takes > 1:
        raise ConfigError(f"model: {card.name} compares {takes} dates, and {count} were given; give {takes}")
    classes = {c.name: c.value for c in card.classes}
    code = classes.get(config.of)
    if code is None:
        raise ConfigError(
            f"dates.of: {card.name} has no class {config.of!r}; it has {', '.join(classes)}: say whose changes are mapped with --of"
        )
    names = tuple(text or f"date {number}" for number, text in enumerate(acquired, 1))
    if len(set(names)) < count:
        raise ConfigError(f"dates.acquired: two of the dates are the same ({', '.join(names)}); name them with --acquired")
    return SeriesFacts(names, code, config.change_rate)


def open_dates(ref: SceneRef, card: Card, options: OpenOptions, config: DatesConfig, chosen: Sequence[str] | None) -> OpenedDates:
    """Open all dates of a scene on the grid of the first one.

    Args:
        ref: The scene; ``later`` holds the dates after the first one.
        card: Of the model.
        options: How each date is opened.
        config: How dates are compared.
        chosen: The bands of a date that the model gets, as the user asked.

    Raises:
        SceneError: A date can't be read, they do not overlap, or lie too far off.
        ConfigError: The settings don't fit.
    """
    count, several = 1 + len(ref.later), dates_of(card) > 1
    masks = _by_date(config.masks, count, "masks")
    given = _by_date(config.acquired, count, "acquired")
    scenes = [open_scene(one.paths, ref.name, options, band_names=one.band_names) for one in (ref, *ref.later)]
    scenes = [replace(scene, acquired=date or scene.acquired) for scene, date in zip(scenes, given, strict=True)]
    _check_order(scenes)
    aligned = list(align(scenes))
    names = list(dict.fromkeys(name.rpartition("@")[0] for name in card.bands)) if several else list(card.bands)
    wanted = [(choose_bands(scene, names, chosen)) for scene in aligned]
    notes = [note for _, some in wanted for note in some]
    registrations: list[Registration] = []
    if config.coregister != "off":
        for number in range(1, count):
            found = _registration(aligned[0], aligned[number], wanted[0][0], wanted[number][0])
            registrations.append(found)
            label = aligned[number].acquired or aligned[number].path
            _refuse_far(aligned[number], found, config.max_shift)
            if found.consistent and found.distance > LEAST_SHIFT_PX and config.coregister == "auto":
                aligned[number] = moved(aligned[number], -found.rows, -found.cols)
                notes.append(
                    f"{label}: moved by {found.rows:+.2f} rows and {found.cols:+.2f} cols to lie on the first date ({_figure(found)})"
                )
            elif found.consistent and found.distance > LEAST_SHIFT_PX:
                notes.append(f"{label}: lies {found.distance:.2f} px off the first date ({_figure(found)})")
            elif not found.consistent:
                notes.append(f"{label}: how far it lies off the first date could not be measured ({_figure(found)})")
    lines: list[Lines | None] = [None] * count
    if config.radiometry != NONE:
        for number in range(1, count):
            first, second = _sampled(aligned[0], aligned[number], wanted[0][0], wanted[number][0])
            if config.radiometry == "pif":
                same = invariant(first, second)
                notes.append(f"radiometry: {same.mean():.0%} of {same.size:,} sampled pixels have not changed")
                lines[number] = lines_of(first[:, same], second[:, same])
            else:
                lines[number] = moments(first, second)
    scene = stacked(aligned, least=2 if not several else count, flags=not several and count > 2, masks=masks)
    if config.mask_values is not None:
        scene = replace(scene, mask_values=tuple(config.mask_values))
    offsets = np.cumsum([0, *(len(one.bands) for one in aligned)])
    bands = tuple(int(offsets[t]) + i for t in range(count) for i in wanted[t][0])
    if several:
        place = {at_date(name, t): bands[t * len(names) + k] for t in range(count) for k, name in enumerate(names)}
        bands = tuple(place[name] for name in card.bands)
    return OpenedDates(scene, bands, tuple(registrations), tuple(lines), tuple(notes))


def _by_date(given: Sequence[str] | None, count: int, key: str) -> list[str | None]:
    if not given:
        return [None] * count
    if len(given) != count:
        raise ConfigError(f"dates.{key}: {len(given)} entries for {count} dates; write {NONE} where a date has none")
    return [None if text.lower() == NONE else text for text in given]


def _check_order(scenes: Sequence[Scene]) -> None:
    known = [(scene.acquired, scene) for scene in scenes if scene.acquired is not None]
    for (before, one), (after, other) in itertools.pairwise(known):
        if after < before:
            raise ConfigError(
                f"{other.path} ({after}) is older than {one.path} ({before}); give the dates in their order, or say them with --acquired"
            )


def _figure(found: Registration) -> str:
    residual = "" if found.residual is None else f", within {found.residual:.2f} px"
    return f"{found.agreeing} of {found.windows} windows agree{residual}"


def _refuse_far(scene: Scene, found: Registration, limit: float) -> None:
    if found.consistent and found.distance > limit:
        raise GeoreferenceError(
            f"{scene.path}: lies {found.distance:.1f} px off the first date ({_figure(found)}); the limit is {limit:g} px: "
            "georeference one of them again, or raise --max-shift"
        )


def _pairs(
    one: Scene, other: Scene, first: Sequence[int], second: Sequence[int], side: int
) -> Iterator[tuple[Any, Any, NDArray[np.bool_]]]:
    """Windows of two dates on a lattice: their pixels, and where both hold data."""
    pair = stacked([one, other], least=2, flags=False)
    bands = [*first, *(len(one.bands) + i for i in second)]
    across = int(np.sqrt(WINDOWS))
    with StackReader(pair, bands) as reader:
        places = {
            (int(row), int(col))
            for row in np.linspace(0, max(0, one.height - side), across)
            for col in np.linspace(0, max(0, one.width - side), across)
        }
        for row, col in sorted(places):
            window = Window(row, col, min(side, one.height - row), min(side, one.width - col))
            pixels = reader.read(window)
            yield pixels.data[: len(first)], pixels.data[len(first) :], pixels.valid


def _registration(one: Scene, other: Scene, first: Sequence[int], second: Sequence[int]) -> Registration:
    side = min(WINDOW_PX, one.height, one.width)
    shifts = []
    for a, b, valid in _pairs(one, other, first, second, side):
        found = shift_of(a.astype(np.float64).mean(axis=0), b.astype(np.float64).mean(axis=0), valid)
        if found is not None:
            shifts.append(found)
    return register(shifts)


def _sampled(
    one: Scene, other: Scene, first: Sequence[int], second: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (C, N) of two dates where both hold data."""
    before, after = [], []
    for a, b, valid in _pairs(one, other, first, second, min(256, one.height, one.width)):
        before.append(a[:, valid])
        after.append(b[:, valid])
    joined = [np.concatenate(parts, axis=1).astype(np.float64) for parts in (before, after)]
    step = max(1, joined[0].shape[1] // SAMPLED)
    if joined[0].shape[1] < 2:
        raise GeoreferenceError(f"{other.path}: holds no data where {one.path} does; two dates of one place are needed")
    return joined[0][:, ::step], joined[1][:, ::step]
