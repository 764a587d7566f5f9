"""Division into training and held-out scenes, or blocks of scenes with a margin; and the check that nothing leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.crs import between
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.windows import Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = ["LeakError", "Without", "check_leaks", "held_out_blocks", "held_out_scenes"]

STEPS = 64
"""Parts of a scene's longer side between the points of outlines that are brought to another CRS."""
HAIR_PX = 0.25
"""Overlaps nowhere wider than twice this are those of neighbours: outlines are that exact."""


class LeakError(ConfigError):
    """The same ground, or the same image, is in training and in validation."""


def held_out_scenes(names: Sequence[str], wanted: float | Sequence[str], seed: int) -> frozenset[int]:
    """Scenes that are held out, by number: a share of them at random, at least one, or those that names or patterns match.

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
        self.source = source
        self.held = tuple(windows)
        self.hidden = tuple(w.grown(margin) for w in windows)

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        chip = self.source.read(window)
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
    pixels. Of scenes divided into blocks, what counts is the blocks that are held out, and what ``Without`` leaves to see;
    a divided image without a place may have no copy in training.

    Args:
        training: Scenes to train on.
        validation: Scenes to validate on.
        divided: Scenes that are in both, by name.

    Raises:
        LeakError: What is in both, and how much of it.
        ConfigError: Two scenes can't be compared.
    """
    apart = divided or {}
    balls = {id(source): _ball(source) for source in (*training, *validation)}
    contents = {id(s): _content(s) for s in (*training, *validation) if s.georeference is None}
    for held in validation:
        own = apart.get(held.name)
        for seen in training:
            if seen is own or (held.georeference is None) != (seen.georeference is None):
                continue
            if held.georeference is None:
                if contents[id(held)] == contents[id(seen)]:
                    raise LeakError(
                        f"{held.name}, which is validated on, is the same image as {seen.name}, which is trained on "
                        f"({held.height * held.width:,} px); remove one of them"
                    )
            elif _near(balls[id(held)], balls[id(seen)]):
                _check_ground(held, own.held if own is not None else (_whole(held),), seen)


def _whole(source: ChipSource) -> Window:
    return Window.of((source.height, source.width))


def _check_ground(held: ChipSource, windows: Sequence[Window], seen: ChipSource) -> None:
    """Refuse an overlap on the ground, found in the pixels of the scene that is trained on."""
    import shapely

    visible = _outline([_whole(seen)])
    if isinstance(seen, Without):
        visible = shapely.difference(visible, _outline(seen.hidden))
    there = _moved(_outline(windows, max(held.height, held.width) / STEPS), held, seen)
    common = shapely.intersection(there, visible)
    if shapely.buffer(common, -HAIR_PX).is_empty:
        return
    assert seen.georeference is not None
    side = seen.georeference.pixel_size(seen.height, seen.width)
    ground = f", {common.area * side**2:,.0f} m2" if side else ""
    raise LeakError(
        f"{held.name}, which is validated on, overlaps {seen.name}, which is trained on, by {common.area:,.0f} px of the "
        f"latter{ground}; put both on one side of the split, or crop one of them"
    )


def _outline(windows: Sequence[Window], step: float | None = None) -> BaseGeometry:
    """The area of windows, in pixels (col, row)."""
    import shapely

    area = shapely.union_all([shapely.box(w.col_off, w.row_off, w.col_stop, w.row_stop) for w in windows])
    return area if step is None else shapely.segmentize(area, step)


def _moved(area: BaseGeometry, held: ChipSource, seen: ChipSource) -> BaseGeometry:
    """An area in the pixels of one scene, in those of another."""
    import shapely

    there, here = held.georeference, seen.georeference
    assert there is not None
    assert here is not None
    if there.crs is None or here.crs is None:
        raise ConfigError(f"{held.name}, {seen.name}: one of them has no CRS, so that they can't be checked for leaks")
    transformer = between(there.crs, here.crs)
    middle = float(here.corners(seen.height, seen.width)[:, 0].mean())
    inverse, around = here.inverse, here.is_geographic

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        xy = there.xy(points[:, 1], points[:, 0])
        x, y = transformer.transform(xy[:, 0], xy[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ConfigError(f"{held.name}: has no place in the CRS of {seen.name}, so that they can't be checked for leaks")
        if around:
            # Across the antimeridian longitudes go on.
            x = x - 360 * np.rint((x - middle) / 360)
        cols, rows = inverse @ (x, y)
        return np.stack([cols, rows], axis=1)

    return shapely.make_valid(shapely.transform(area, move))


_Ball = tuple[NDArray[np.float64], float]


def _ball(source: ChipSource) -> _Ball | None:
    """A direction from the Earth's centre and an angle around it that hold a scene; None where that is not known."""
    place = source.georeference
    if place is None:
        return None
    along = np.linspace(0, 1, 9)
    rows, cols = (grid.ravel() for grid in np.meshgrid(along * source.height, along * source.width))
    try:
        lon, lat = np.radians(place.lonlat(rows, cols)).T
    except GeoreferenceError:
        return None
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    middle = points.mean(axis=0)
    length = float(np.linalg.norm(middle))
    if length < 0.5:
        return None
    middle = middle / length
    # Half as much again, for what lies between the points.
    return middle, 1.5 * float(np.arccos(np.clip(points @ middle, -1, 1)).max()) + 1e-6


def _near(one: _Ball | None, other: _Ball | None) -> bool:
    """Whether two scenes may overlap."""
    if one is None or other is None:
        return True
    return float(np.arccos(np.clip(one[0] @ other[0], -1, 1))) <= one[1] + other[1]


def _content(source: ChipSource) -> str:
    """sha256 of the pixels of an image."""
    whole = source.source if isinstance(source, Without) else source
    image = whole.read(_whole(whole)).image
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
