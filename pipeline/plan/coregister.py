"""Coregistration and radiometry of dates of one place. Both are measured in windows on a lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.dates.radiometry import Lines, invariant, lines_of, moments
from geoseg.dates.registration import LEAST_WINDOWS, Registration, register, shift_of
from geoseg.dates.stack import stacked
from geoseg.errors import GeoreferenceError, SceneError
from geoseg.inference.reading import open_reader
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["figure_of", "light_of", "refuse_far", "registration_of"]

WINDOW_PX, LIGHT_PX, WINDOWS = 384, 256, 49
"""Sides of the windows in which places and light are compared, and their number."""
SAMPLED = 200_000
"""Pixels from which the light of two dates is compared."""
LEAST_SAMPLED = 2
FAR_PX, FAR_WINDOWS, FAR_BANDS, COARSE = 2048, 9, 3, 4
"""Dates that lie further apart than half of those windows are sought in larger ones, of pixels so many times as large."""

Floats = NDArray[np.float64]


def _windows(
    one: Scene, other: Scene, bands: Sequence[Sequence[int]], area: Window, side: int, count: int = WINDOWS
) -> Iterator[tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.bool_]]]:
    """Windows of two dates: their pixels, and where both show the ground."""
    pair = replace(
        stacked([one, other], least=2, flags=False, masks=(*(one.masks or (None,)), *(other.masks or (None,)))),
        mask_values=one.mask_values,
        mask_band=one.mask_band,
    )
    first, second = bands
    side = min(side, *area.shape)
    across = int(np.sqrt(count))
    places = {
        (int(row), int(col))
        for row in np.linspace(area.row_off, area.row_stop - side, across)
        for col in np.linspace(area.col_off, area.col_stop - side, across)
    }
    with open_reader(pair, [*first, *(len(one.bands) + i for i in second)]) as reader:
        for row, col in sorted(places):
            pixels = reader.read(Window.at((row, col), (side, side)))
            yield pixels.data[: len(first)], pixels.data[len(first) :], pixels.valid


def registration_of(one: Scene, other: Scene, bands: Sequence[Sequence[int]], area: Window) -> Registration:
    """Measure the shift of a date against the first one, which is on the same grid; what ``masks`` hide is left out.

    Args:
        one: The first date.
        other: The other one.
        bands: Of both, those that are compared.
        area: Where both lie.
    """
    shifts = []
    for a, b, valid in _windows(one, other, bands, area, WINDOW_PX):
        found = shift_of(a.astype(np.float64).mean(axis=0), b.astype(np.float64).mean(axis=0), valid)
        if found is not None:
            shifts.append(found)
    near = register(shifts)
    return near if near.windows >= LEAST_WINDOWS else _far_off(one, other, bands, area) or near


def _far_off(one: Scene, other: Scene, bands: Sequence[Sequence[int]], area: Window) -> Registration | None:
    """Measure a shift that is too large for small windows; None where large ones do not say that surely."""
    some, shifts = [chosen[:FAR_BANDS] for chosen in bands], []
    # Three windows a side that differ, where the dates are no larger than one of them.
    side = min(FAR_PX, *(size * 2 // 3 for size in area.shape)) // COARSE * COARSE
    if side < COARSE * COARSE:
        return None
    for a, b, valid in _windows(one, other, some, area, side, FAR_WINDOWS):
        found = shift_of(
            _coarse(a.astype(np.float32).mean(axis=0)), _coarse(b.astype(np.float32).mean(axis=0)), _coarse(valid) == 1
        )
        if found is not None:
            shifts.append((found[0] * COARSE, found[1] * COARSE))
    far = register(shifts, agree_px=float(COARSE))
    return far if far.consistent and far.distance > COARSE else None


def _coarse(image: NDArray[np.generic]) -> Floats:
    height, width = image.shape
    return np.asarray(image.reshape(height // COARSE, COARSE, width // COARSE, COARSE).mean(axis=(1, 3), dtype=np.float64))


def figure_of(found: Registration) -> str:
    """Describe how sure a registration is."""
    residual = "" if found.residual is None else f", within {found.residual:.2f} px"
    return f"{found.agreeing} of {found.windows} windows agree{residual}"


def refuse_far(scene: Scene, found: Registration, limit: float) -> None:
    """Refuse a date that surely lies too far off.

    Raises:
        GeoreferenceError: It does.
    """
    if found.consistent and found.distance > limit:
        raise GeoreferenceError(
            f"{scene.path}: lies {found.distance:.1f} px off the first date ({figure_of(found)}); the limit is {limit:g} px: "
            "georeference one of them again, or raise --max-shift"
        )


def light_of(
    one: Scene, other: Scene, bands: Sequence[Sequence[int]], area: Window, method: Literal["moments", "pif"]
) -> tuple[Lines, tuple[str, ...]]:
    """Lines that bring the values of a date to those of the first one, and what is to be said about them.

    Args:
        one: The first date.
        other: The other one.
        bands: Of both, those that are compared.
        area: Where both lie.
        method: By mean and deviation, or by pixels that have not changed.

    Raises:
        SceneError: They have too little in common.
    """
    first, second = _sampled(one, other, bands, area)
    for scene, values in ((one, first), (other, second)):
        if not values.std(axis=1).all():
            raise SceneError(
                f"{scene.path}: a band is constant where both dates show the ground, so that its light can't be compared; "
                "use --radiometry none"
            )
    if method == "moments":
        return moments(first, second), ()
    same = invariant(first, second)
    return lines_of(first[:, same], second[:, same]), (
        f"radiometry: {same.mean():.0%} of {same.size:,} sampled pixels have not changed",
    )


def _sampled(one: Scene, other: Scene, bands: Sequence[Sequence[int]], area: Window) -> tuple[Floats, Floats]:
    """Pixels (C, N) of two dates where both show the ground; some of each window, so that few are held."""
    step = max(1, WINDOWS * min(LIGHT_PX, *area.shape) ** 2 // SAMPLED)
    before, after = [], []
    for a, b, valid in _windows(one, other, bands, area, LIGHT_PX):
        before.append(a[:, valid][:, ::step].astype(np.float64))
        after.append(b[:, valid][:, ::step].astype(np.float64))
    first, second = np.concatenate(before, axis=1), np.concatenate(after, axis=1)
    if first.shape[1] < LEAST_SAMPLED:
        raise GeoreferenceError(
            f"{other.path}: shows the ground at {first.shape[1]} sampled pixels where {one.path} does, too; light is compared at "
            f"{LEAST_SAMPLED} at least: use --radiometry none"
        )
    return first, second
