"""Opening several dates of one place: aligned, compared, corrected where that is sure, refused where it is not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.addresses import split_layer
from geoseg.dates.date_masks import notes_of_masks
from geoseg.dates.radiometry import Lines
from geoseg.dates.registration import Registration
from geoseg.dates.series import SeriesFacts
from geoseg.dates.stack import align, at_date, moved, stacked
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.models.card import Card
from geoseg.polygons.features import Change
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.opening import open_scene
from geoseg.scenes.overlap import common_window
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stac.signer import Signer
from geoseg.windows import Window
from pipeline.config.sections import Config, DatesConfig
from pipeline.plan.cloud_source import NAME, name_of_date, with_clouds
from pipeline.plan.coregister import figure_of, light_of, refuse_far, registration_of

__all__ = [
    "OpenedDates",
    "by_date",
    "changes_of",
    "check_order",
    "check_twice",
    "dates_of",
    "facts_of",
    "names_of",
    "open_dates",
    "same_bytes",
]

NONE = "none"
LEAST_SHIFT_PX = 0.1
"""Dates that lie no further off are read as they are: moving them would smooth their pixels for nothing."""


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
    """Number of dates that a network takes at once: more than one where its bands are named ``red@1``, ``red@2``."""
    return len({name.rpartition("@")[2] for name in card.bands if "@" in name}) or 1


def facts_of(ref: SceneRef, card: Card, config: DatesConfig, acquired: Sequence[str | None]) -> SeriesFacts | None:
    """Facts for running a model of single dates over those of a scene; None where it takes all of them at once.

    Raises:
        ConfigError: The model does not fit the number of dates, or knows no such class.
    """
    count, takes = 1 + len(ref.later), dates_of(card)
    if takes == count:
        for key, value in (("least_area", config.least_area), ("least_width", config.least_width)):
            if value:
                raise ConfigError(
                    f"dates.{key}: {card.name} compares dates itself and does not say what is {config.of}; leave it out, or "
                    "use a model of single dates"
                )
        return None
    _check_count(card, count)
    classes = {c.name: c.value for c in card.classes}
    code = classes.get(config.of)
    if code is None:
        raise ConfigError(
            f"dates.of: {card.name} has no class {config.of!r}; it has {', '.join(classes)}: say whose changes are mapped with "
            "--of"
        )
    names = names_of(acquired)
    if len(set(names)) < count:
        raise ConfigError(f"dates.acquired: two of the dates are the same ({', '.join(names)}); name them with --acquired")
    return SeriesFacts(names, code, config.change_rate)


def changes_of(card: Card, acquired: Sequence[str | None]) -> dict[int, Change]:
    """Changes that the classes of a network of several dates stand for: all but the background, from first to last."""
    since, until = names_of(acquired)[0], names_of(acquired)[-1]
    return {c.value: Change(since, until, c.before, c.after) for c in card.classes if not c.background}


def names_of(acquired: Sequence[str | None]) -> tuple[str, ...]:
    """Names of dates: ISO 8601, or their number."""
    return tuple(text or f"date {number}" for number, text in enumerate(acquired, 1))


def undated(paths_and_days: Sequence[tuple[str, str | None]]) -> list[str]:
    """A sentence where dates of acquisition are not known: of each, its path and its day."""
    lacking = [shown(path) for path, day in paths_and_days if day is None]
    if not lacking:
        return []
    days = ",".join(NONE if day is None else day for _, day in paths_and_days)
    what = "says no date of acquisition" if len(lacking) == 1 else "say no date of acquisition"
    cure = setting("acquired", "DATE," * (len(paths_and_days) - 1) + "DATE")
    return [f"{' and '.join(lacking)} {what}, so that the order of the images is taken as given ({days}); say them with {cure}"]


def open_dates(ref: SceneRef, card: Card, options: OpenOptions, settings: Config) -> OpenedDates:
    """Open all dates of a scene on the grid of the first one.

    Args:
        ref: The scene; ``later`` holds the dates after the first one.
        card: Of the model.
        options: How each date is opened.
        settings: How dates are compared, and what else was asked of scenes.

    Raises:
        SceneError: A date can't be read, they do not overlap, or lie too far off.
        ConfigError: The settings don't fit.
    """
    config, count, takes = settings.dates, 1 + len(ref.later), dates_of(card)
    _check_count(card, count)
    several = takes > 1
    masks = by_date(config.masks, count, "masks")
    _check_masks(masks)
    given = by_date(config.acquired, count, "acquired")
    scenes = [open_scene(one.paths, ref.name, options, band_names=one.band_names, told=one.told) for one in (ref, *ref.later)]
    scenes = [replace(scene, acquired=date or scene.acquired) for scene, date in zip(scenes, given, strict=True)]
    check_order([(scene.path, scene.acquired) for scene in scenes])
    names = list(dict.fromkeys(name.rpartition("@")[0] for name in card.bands)) if several else list(card.bands)
    wanted = [choose_bands(scene, names, settings.scene.bands) for scene in scenes]
    clouded, hiding = _with_clouds(ref, align(scenes), settings, [dict(zip(names, some, strict=True)) for some, _ in wanted])
    hides = tuple(config.mask_values or ())
    aligned = [
        replace(scene, masks=(mask,), mask_values=hides, mask_band=config.mask_band)
        for scene, mask in zip(clouded, masks, strict=True)
    ]
    said = [note for scene in aligned for note in notes_of_masks(scene)]
    copies = same_bytes([(one.paths[0], _mark(one, options.sign)) for one in (ref, *ref.later)])
    notes = [note for _, some in wanted for note in some] + said + hiding + copies
    registrations: list[Registration] = []
    lines: list[Lines | None] = [None] * count
    for number in range(1, count):
        bands = (wanted[0][0], wanted[number][0])
        area = common_window(*_grid_of(scenes[0]), *_grid_of(scenes[number]))
        if config.coregister != "off":
            aligned[number], found, note = _registered(aligned[0], aligned[number], bands, area, config)
            registrations.append(found)
            notes += note
        if config.radiometry != "none":
            lines[number], note = light_of(aligned[0], aligned[number], bands, area, config.radiometry)
            notes += note
    aligned = [replace(one, masks=(), mask_values=(), mask_band=None) for one in aligned]
    scene = stacked(aligned, least=2 if not several else count, flags=not several and count > 2, masks=masks)
    scene = replace(scene, mask_values=hides, mask_band=config.mask_band)
    offsets = np.cumsum([0, *(len(one.bands) for one in aligned)])
    places = tuple(int(offsets[t]) + i for t in range(count) for i in wanted[t][0])
    if several:
        place = {at_date(name, t): places[t * len(names) + k] for t in range(count) for k, name in enumerate(names)}
        places = tuple(place[name] for name in card.bands)
    return OpenedDates(scene, places, tuple(registrations), tuple(lines), tuple(notes))


def _with_clouds(
    ref: SceneRef, scenes: Sequence[Scene], settings: Config, known: Sequence[Mapping[str, int]]
) -> tuple[list[Scene], list[str]]:
    """Dates that know what hides each, and what is to be said about it."""
    file = settings.scene.cloud_file
    if file is not None and NAME not in file:
        raise ConfigError(
            f"scene.clouds: {file}: one file for {len(scenes)} dates; write {NAME} for the name of each, or give one by date "
            "with --masks"
        )
    found = [
        with_clouds(scene, name_of_date(one), settings, bands)
        for one, scene, bands in zip((ref, *ref.later), scenes, known, strict=True)
    ]
    return [scene for scene, _ in found], [note for _, notes in found for note in notes]


def _grid_of(scene: Scene) -> tuple[Georeference, tuple[int, int]]:
    return scene.georeference, (scene.height, scene.width)


def _check_count(card: Card, count: int) -> None:
    takes = dates_of(card)
    if takes not in (1, count):
        raise ConfigError(f"model: {card.name} compares {takes} dates, and {count} were given; give {takes}")


def _check_masks(masks: Sequence[str | None]) -> None:
    for path in masks:
        if path is not None and not is_remote(path) and not split_layer(path)[0].is_file():
            raise ConfigError(f"dates.masks: {path}: no such file; write {NONE} where a date has none")


def _registered(
    first: Scene, scene: Scene, bands: tuple[tuple[int, ...], tuple[int, ...]], area: Window, config: DatesConfig
) -> tuple[Scene, Registration, tuple[str, ...]]:
    """A date on its place, how far it lay off, and what is to be said about it."""
    found, label = registration_of(first, scene, bands, area), scene.acquired or scene.path
    refuse_far(scene, found, config.max_shift)
    figure = figure_of(found)
    if not found.consistent:
        return scene, found, (f"{label}: how far it lies off the first date could not be measured ({figure})",)
    if found.distance <= LEAST_SHIFT_PX:
        return scene, found, ()
    if config.coregister == "auto" and scene.georeference.crs is not None:
        text = f"{label}: moved by {found.rows:+.2f} rows and {found.cols:+.2f} cols to lie on the first date ({figure})"
        return moved(scene, -found.rows, -found.cols), found, (text,)
    why = ", and was not moved, because it has no CRS" if config.coregister == "auto" else ""
    return scene, found, (f"{label}: lies {found.distance:.2f} px off the first date ({figure}){why}",)


def _mark(ref: SceneRef, sign: str | None) -> str:
    return fingerprint(ref.paths, times=False, signers=dict.fromkeys(ref.paths, Signer.of(sign, ref.told)))


def same_bytes(dates: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence where a date is a copy of another one, which is no other date: of each, its path and its fingerprint."""
    known: dict[str, str] = {}
    for path, mark in dates:
        if mark in known:
            return [f"{shown(path)}: holds the same bytes as {shown(known[mark])}, so that nothing can have changed"]
        known[mark] = path
    return []


def check_twice(inputs: Sequence[str], places: Sequence[Sequence[str]]) -> None:
    """Refuse dates that are the same files: of each, what was given, and its files.

    Raises:
        ConfigError: Two are.
    """
    real = [tuple(path if is_remote(path) else os.path.realpath(path) for path in paths) for paths in places]
    for number, place in enumerate(real):
        if place in real[:number]:
            raise ConfigError(f"inputs: {inputs[number]} is given twice; two dates are two files")


def by_date(given: Sequence[str] | None, count: int, key: str) -> list[str | None]:
    """Entries of a setting by date, None where it says none.

    Raises:
        ConfigError: There are more or fewer than dates.
    """
    if not given:
        return [None] * count
    if len(given) != count:
        raise ConfigError(f"dates.{key}: {len(given)} entries for {count} dates; write {NONE} where a date has none")
    return [None if text.lower() == NONE else text for text in given]


def check_order(dates: Sequence[tuple[str, str | None]]) -> None:
    """Refuse dates of which one is older than the one before: of each, its path and its day.

    Raises:
        ConfigError: One is.
    """
    known = [(path, day) for path, day in dates if day is not None]
    for (one, before), (other, after) in itertools.pairwise(known):
        # A day without a time is compared by day.
        length = min(len(before), len(after))
        if after[:length] < before[:length]:
            raise ConfigError(
                f"{shown(other)} ({after}) is older than {shown(one)} ({before}); give the dates in their order, or say them "
                f"with {setting('acquired')}"
            )
