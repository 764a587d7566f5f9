"""What is held out of training: whole scenes, or blocks of scenes with a margin; and the check that nothing leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import numpy as np

from geoseg.errors import ConfigError, SceneError
from geoseg.georeference import Georeference
from geoseg.training.chips import UNLABELLED, Chip, ChipSource
from geoseg.windows import Window

__all__ = ["LeakError", "Without", "check_leaks", "held_out_blocks", "held_out_scenes"]

CORNER_STEPS = 8
"""Points along each side of a scene's outline on the ground."""


class LeakError(ConfigError):
    """The same ground, or the same image, is in training and in validation."""


def held_out_scenes(names: Sequence[str], wanted: float | Sequence[str], seed: int) -> frozenset[int]:
    """Which of some scenes are held out: a share of them at random, at least one, or those that names or patterns match.

    Raises:
        ConfigError: A name matches nothing, or nothing is left to train on.
    """
    if isinstance(wanted, float | int):
        if wanted == 0:
            return frozenset()
        if len(names) < 2:
            raise ConfigError(f'split.val: {len(names)} scene can\'t be divided by scene; use by = "block"')
        count = min(len(names) - 1, max(1, round(wanted * len(names))))
        order = np.random.default_rng(seed).permutation(len(names))
        return frozenset(int(k) for k in order[:count])
    found = set()
    for pattern in wanted:
        hits = {k for k, name in enumerate(names) if name == pattern or fnmatch(name, pattern)}
        if not hits:
            raise ConfigError(f"split.val: no scene is named {pattern!r}; there are {', '.join(list(names)[:10])}")
        found |= hits
    if len(found) == len(names):
        raise ConfigError(f"split.val: all {len(names)} scenes are held out; nothing is left to train on")
    return frozenset(found)


def held_out_blocks(height: int, width: int, share: float, side: int, seed: int) -> list[Window]:
    """Blocks of a regular grid over a scene that are held out: a share of them at random, at least one.

    Raises:
        ConfigError: The scene is one block.
    """
    blocks = [
        Window.between(row, min(row + side, height), col, min(col + side, width))
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]
    if len(blocks) < 2:
        raise ConfigError(f"split.block: a scene of {height} x {width} px is a single block of {side} px; take smaller blocks")
    count = min(len(blocks) - 1, max(1, round(share * len(blocks))))
    order = np.random.default_rng(seed).permutation(len(blocks))[:count]
    return [blocks[k] for k in sorted(order)]


class Without:
    """A source in which some windows are as if they had no data: what is held out can't be seen, whatever is read.

    Args:
        source: The scene.
        windows: What is held out.
        margin: Pixels around each that can't be seen, either.
    """

    def __init__(self, source: ChipSource, windows: Sequence[Window], margin: int) -> None:
        self.name, self.height, self.width = source.name, source.height, source.width
        self.georeference: Georeference | None = source.georeference
        self._source = source
        self.hidden = tuple(
            Window.between(w.row_off - margin, w.row_stop + margin, w.col_off - margin, w.col_stop + margin) for w in windows
        )

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        chip = self._source.read(window)
        for hidden in self.hidden:
            common = hidden & window
            if common is None:
                continue
            rows, cols = common.slices_in(window)
            chip = replace(chip, image=chip.image.copy(), valid=chip.valid.copy(), labels=chip.labels.copy())
            chip.image[:, rows, cols] = 0
            chip.valid[rows, cols] = False
            chip.labels[rows, cols] = UNLABELLED
            if chip.objects is not None:
                objects = chip.objects.copy()
                objects[rows, cols] = 0
                chip = replace(chip, objects=objects)
            if chip.rasters is not None:
                rasters = chip.rasters.copy()
                rasters[:, rows, cols] = np.nan
                chip = replace(chip, rasters=rasters)
        return chip


def check_leaks(
    training: Sequence[ChipSource], validation: Sequence[ChipSource], divided: Mapping[str, Without] | None = None
) -> None:
    """Refuse a split in which what is validated on was seen in training.

    Scenes with a place on Earth may not overlap on the ground, in whatever CRS; images without one may not have the same
    pixels. Scenes divided into blocks are compared with themselves by their blocks: ``Without`` hides what is held out.

    Args:
        training: Scenes to train on.
        validation: Scenes to validate on.
        divided: Scenes that are in both, by name.

    Raises:
        LeakError: What is in both, and how much of it.
    """
    import shapely

    apart = divided or {}
    grounds = {id(s): _ground(s) for s in (*training, *validation) if s.georeference is not None}
    contents = {_content(s): s for s in training if s.georeference is None and s.name not in apart}
    for held in validation:
        if held.name in apart:
            continue
        if held.georeference is None:
            same = contents.get(_content(held))
            if same is not None:
                raise LeakError(f"{held.name}: the same image as {same.name}, which is trained on; remove one of them")
            continue
        for seen in training:
            if seen.georeference is None:
                continue
            common = shapely.intersection(grounds[id(seen)], grounds[id(held)]).area
            share = common / max(grounds[id(held)].area, 1e-30)
            # Neighbours that share an edge touch, and rounding may let them overlap by a hair.
            if share > 1e-6:
                raise LeakError(
                    f"{held.name}: {share:.1%} of it lies on {seen.name}, which is trained on; "
                    "put both on one side of the split, or crop one of them"
                )


def _ground(source: ChipSource) -> Any:
    """Outline of a scene in degrees."""
    import shapely

    place = source.georeference
    assert place is not None
    along = np.linspace(0, 1, CORNER_STEPS, endpoint=False)
    rows = np.concatenate([0 * along, along, 0 * along + 1, 1 - along]) * source.height
    cols = np.concatenate([along, 0 * along + 1, 1 - along, 0 * along]) * source.width
    try:
        return shapely.make_valid(shapely.Polygon(place.lonlat(rows, cols)))
    except SceneError as error:
        raise ConfigError(f"{source.name}: can't be placed, so that it can't be checked for leaks: {error}") from error


def _content(source: ChipSource) -> str:
    """sha256 of the pixels of an image."""
    chip = source.read(Window(0, 0, source.height, source.width))
    return hashlib.sha256(chip.image.tobytes()).hexdigest()
