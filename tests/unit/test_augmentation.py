"""Augmentation: labels move with their image exactly, and the same key gives the same chip."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoseg.training.augmentation import Geometry, warp  # noqa: E402 - needs torch
from geoseg.training.chips import UNLABELLED, Batch, Chip  # noqa: E402
from geoseg.training.radiometry import CutMix, Radiometry  # noqa: E402

WILD = Geometry(scale=0.3, rotate=180, shift=5, elastic=6)


def coordinates(side: int) -> Chip:
    """A chip whose two bands are its rows and cols, and whose objects number its pixels."""
    rows, cols = np.mgrid[:side, :side].astype(np.float32)
    codes = (np.arange(side * side).reshape(side, side) % 7).astype(np.uint8)
    return Chip(
        np.stack([rows, cols]), np.ones((side, side), bool), codes, np.arange(1, side * side + 1, dtype=np.int32).reshape(side, side),
        np.stack([rows * 2]),
    )  # fmt: skip


def inner(mask: np.ndarray, by: int = 3) -> np.ndarray:
    from scipy import ndimage

    return ndimage.binary_erosion(mask, iterations=by, border_value=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_warped_grid_shows_where_it_came_from(seed: int) -> None:
    size = 64
    margin = WILD.required_margin(size)
    chip = coordinates(size + 2 * margin)
    rng = np.random.default_rng(seed)
    field = WILD.field(chip.valid.shape, size, rng)
    moved = warp(chip, field)
    # All that is asked for was read.
    assert moved.valid.all()
    # The cubic of torch (a = -0.75) follows a ramp to a twentieth of a pixel.
    np.testing.assert_allclose(moved.image, field.transpose(2, 0, 1), atol=0.06)
    np.testing.assert_allclose(moved.rasters[0], 2 * field[..., 0], atol=0.12)
    row, col = np.rint(field[..., 0]).astype(int), np.rint(field[..., 1]).astype(int)
    np.testing.assert_array_equal(moved.objects, row * chip.valid.shape[1] + col + 1)
    np.testing.assert_array_equal(moved.labels, chip.labels[row, col])


def test_dots_land_at_the_same_place_in_image_and_labels() -> None:
    side = 128
    labels = np.zeros((side, side), np.uint8)
    labels[8::16, 8::16] = 1
    # Dots of 3 x 3 pixels, so that their brightness has a middle.
    from scipy import ndimage

    bright = ndimage.uniform_filter(labels.astype(np.float32), 3) * 9
    thick = (bright > 0.5).astype(np.uint8)
    chip = Chip(bright[None] * 100, np.ones((side, side), bool), thick)
    moved = warp(chip, Geometry(rotate=30, elastic=4).field((side, side), 64, np.random.default_rng(1)))
    found, count = ndimage.label(moved.labels == 1)
    assert count > 10
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(moved.labels == 1, found, numbers)
    whole = numbers[sizes >= 8]
    a = np.array(ndimage.center_of_mass(moved.labels == 1, found, whole))
    b = np.array(
        ndimage.center_of_mass(
            np.clip(moved.image[0], 0, None) * ndimage.binary_dilation(found > 0), ndimage.grey_dilation(found, size=3), whole
        )
    )
    assert np.abs(a - b).mean() < 0.15


def test_quarter_turns_and_mirrors_do_not_interpolate() -> None:
    chip = coordinates(16)
    seen = set()
    change = Geometry().sized(16)
    for seed in range(60):
        moved = change(chip, np.random.default_rng(seed))
        place = moved.objects.ravel().tolist()
        np.testing.assert_array_equal(np.sort(place), np.arange(1, 257))
        at = moved.objects - 1
        np.testing.assert_array_equal(moved.image, chip.image.reshape(2, -1)[:, at])
        np.testing.assert_array_equal(moved.labels, chip.labels.ravel()[at])
        seen.add(tuple(place))
    assert len(seen) == 8


def test_what_has_no_data_does_not_shine_in() -> None:
    chip = coordinates(96)
    chip.valid[:, :40] = False
    chip.image[:, :, :40] = 0
    chip.image[:, chip.valid] = 100
    chip.labels[~chip.valid] = UNLABELLED
    moved = Geometry(rotate=45, elastic=3).sized(64)(chip, np.random.default_rng(0))
    assert moved.valid.any()
    assert (~moved.valid).any()
    np.testing.assert_allclose(moved.image[:, moved.valid], 100, atol=1e-3)
    assert (moved.image[:, ~moved.valid] == 0).all()
    assert (moved.labels[~moved.valid] == UNLABELLED).all()


def test_the_same_key_gives_the_same_chip_also_in_another_process() -> None:
    change = pickle.loads(pickle.dumps(WILD.sized(32)))
    light = pickle.loads(pickle.dumps(Radiometry(stddev=(5.0, 5.0), gain=0.1, haze=0.3, noise=0.1)))
    chip = coordinates(32 + 2 * WILD.required_margin(32))
    a, b = (light(change(chip, r), r) for r in (np.random.default_rng(5), np.random.default_rng(5)))
    np.testing.assert_array_equal(a.image, b.image)
    assert not np.array_equal(a.image, light(change(chip, np.random.default_rng(6)), np.random.default_rng(6)).image)


def test_radiometry_stays_in_range_and_spares_labels_and_gaps() -> None:
    rng = np.random.default_rng(0)
    chip = Chip(rng.uniform(0, 255, (3, 40, 40)).astype(np.float32), rng.random((40, 40)) > 0.2, np.zeros((40, 40), np.uint8))
    chip.image[:, ~chip.valid] = 0
    strong = Radiometry(
        stddev=(30.0, 30.0, 30.0), gain=0.5, band_gain=0.2, offset=1, band_offset=0.5, haze=0.5, noise=0.5, value_range=(0, 255)
    )  # fmt: skip
    for seed in range(20):
        changed = strong(chip, np.random.default_rng(seed))
        assert changed.image.min() >= 0
        assert changed.image.max() <= 255
        assert (changed.image[:, ~chip.valid] == 0).all()
        assert changed.labels is chip.labels
        assert not np.array_equal(changed.image, chip.image)
    never = Radiometry(stddev=(1.0,) * 3, gain=1.0, probability=0.0)
    assert never(chip, np.random.default_rng(0)) is chip


def test_gain_has_the_spread_that_is_asked_for() -> None:
    chip = Chip(np.full((2, 4, 4), 100, np.float32), np.ones((4, 4), bool), np.zeros((4, 4), np.uint8))
    gain = Radiometry(stddev=(1.0, 1.0), gain=0.2)
    logs = np.log([gain(chip, np.random.default_rng(k)).image[0, 0, 0] / 100 for k in range(2000)])
    assert np.std(logs) == pytest.approx(0.2, rel=0.1)
    assert np.mean(logs) == pytest.approx(0, abs=0.02)


def test_cutmix_moves_rectangles_with_all_that_belongs_to_them() -> None:
    number = torch.arange(4).view(4, 1, 1)
    batch = Batch(
        number[:, None].expand(4, 2, 32, 32).float().clone(), number.expand(4, 32, 32).clone(), number.expand(4, 32, 32).float().clone()
    )  # fmt: skip
    areas = []
    for seed in range(200):
        mixed = CutMix(1.0)(batch, np.random.default_rng(seed))
        assert torch.equal(mixed.image[:, 0].long(), mixed.labels)
        assert torch.equal(mixed.weights.long(), mixed.labels)
        assert torch.equal(mixed.labels.sum(0), batch.labels.sum(0))
        areas.append((mixed.labels != number).float().mean().item())
    assert np.mean(areas) == pytest.approx(0.5, abs=0.07)
    assert CutMix(0.0)(batch, np.random.default_rng(0)) is batch
