"""Augmentation: labels move with their image exactly, and the same key gives the same chip."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

torch = pytest.importorskip("torch")

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.errors import ConfigError  # noqa: E402
from geoseg.training.augment.geometry import Geometry, warp  # noqa: E402 - needs torch
from geoseg.training.augment.intensity import CutMix, Radiometry  # noqa: E402
from geoseg.training.data.chips import Batch, Chip  # noqa: E402

WILD = Geometry(scale=0.3, rotate=180, shift=5, elastic=6)


def coordinates(side: int) -> Chip:
    """A chip whose two bands are its rows and cols, and whose objects number its pixels."""
    rows, cols = np.mgrid[:side, :side].astype(np.float32)
    codes = (np.arange(side * side).reshape(side, side) % 7).astype(np.uint8)
    return Chip(
        np.stack([rows, cols]),
        np.ones((side, side), bool),
        codes,
        np.arange(1, side * side + 1, dtype=np.int32).reshape(side, side),
        np.stack([rows * 2]),
    )


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
    np.testing.assert_allclose(moved.rasters[0], 2 * field[..., 0], atol=1e-3)
    row, col = np.rint(field[..., 0]).astype(int), np.rint(field[..., 1]).astype(int)
    np.testing.assert_array_equal(moved.objects, row * chip.valid.shape[1] + col + 1)
    np.testing.assert_array_equal(moved.labels, chip.labels[row, col])


@pytest.mark.parametrize("seed", range(3))
def test_sampling_is_that_of_torchvision_and_scipy(seed: int) -> None:
    from torchvision.transforms.v2 import functional

    rng = np.random.default_rng(seed)
    rows, cols = 50, 70
    chip = Chip(
        rng.random((3, rows, cols), np.float32),
        np.ones((rows, cols), bool),
        rng.integers(0, 5, (rows, cols)).astype(np.uint8),
        rng.integers(0, 9, (rows, cols)).astype(np.int32),
        rng.random((2, rows, cols), np.float32),
    )
    # Within the chip; of another shape than it.
    field = (np.clip(WILD.field((rows, cols), 40, rng), 2, 47)).astype(np.float32)
    moved = warp(chip, field)
    places = field.transpose(2, 0, 1)
    for raster, was in zip(moved.rasters, chip.rasters, strict=True):
        np.testing.assert_allclose(raster, ndimage.map_coordinates(was, places, order=1), atol=1e-4)
    np.testing.assert_array_equal(moved.labels, ndimage.map_coordinates(chip.labels, places, order=0))
    np.testing.assert_array_equal(moved.objects, ndimage.map_coordinates(chip.objects, places, order=0))
    shift = np.zeros((1, rows, cols, 2), np.float32)
    here = np.stack(np.mgrid[:40, :40], -1)
    shift[0, :40, :40] = (2 * (field - here) / (rows, cols))[..., ::-1]
    wanted = functional.elastic(
        torch.from_numpy(chip.image), torch.from_numpy(shift), functional.InterpolationMode.BICUBIC
    ).numpy()[:, :40, :40]
    least, largest = chip.image.min((1, 2), keepdims=True), chip.image.max((1, 2), keepdims=True)
    np.testing.assert_allclose(moved.image, np.clip(wanted, least, largest), atol=1e-4)
    assert (wanted > largest).any()


@pytest.mark.parametrize("seed", range(3))
def test_dots_of_one_pixel_land_at_the_same_place_in_image_and_labels(seed: int) -> None:
    side = 128
    labels = np.zeros((side, side), np.uint8)
    labels[4::8, 4::8] = 1
    chip = Chip(labels[None].astype(np.float32), np.ones((side, side), bool), labels)
    wild = Geometry(scale=0.3, rotate=180, shift=5, elastic=4)
    moved = warp(chip, wild.field((side, side), 64, np.random.default_rng(seed)))
    there, known = moved.labels == 1, moved.labels != UNLABELLED
    assert there.sum() > 20
    # Half a pixel away, the cubic has 19/32 along an axis: less is certainly further, more certainly nearer.
    half = 19 / 32
    assert (moved.image[0][there] > half**2 - 1e-3).all()
    assert (moved.image[0][known & ~there] < half + 1e-3).all()


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Geometry,
        turn=st.booleans(),
        scale=st.floats(0, 0.7),
        rotate=st.floats(0, 180),
        shift=st.floats(0, 20),
        elastic=st.floats(0, 15),
    ),
    st.integers(16, 40),
    st.integers(0, 2**32),
)
def test_the_margin_is_enough_and_not_much_more(geometry: Geometry, size: int, seed: int) -> None:
    margin = geometry.required_margin(size)
    chip = coordinates(size + 2 * margin)
    moved = geometry.sized(size)(chip, np.random.default_rng(seed))
    assert moved.image.shape == (2, size, size)
    assert moved.valid.all()
    assert (moved.labels != UNLABELLED).all()
    reach = size / 2 * (np.sqrt(2) * np.exp(geometry.scale) - 1)
    assert margin <= reach + geometry.shift + 2.5 * geometry.elastic + 3


def test_elastic_displacements_have_the_spread_and_the_form_of_the_paper() -> None:
    bent = Geometry(elastic=10.0)
    size = 33
    still = coordinates(size).image.transpose(1, 2, 0)
    moves = np.stack([bent.field((size, size), size, np.random.default_rng(k)) - still for k in range(400)])
    nodes = moves[:, ::16, ::16]
    # Cut off at 2.5 standard deviations, what is left has 0.99 of one.
    assert nodes.std(axis=0) == pytest.approx(np.full((3, 3, 2), 9.9), rel=0.2)
    assert nodes.std() == pytest.approx(9.9, rel=0.03)
    assert np.abs(moves).max() <= 25
    corners = np.corrcoef(nodes.reshape(400, -1), rowvar=False) - np.eye(18)
    assert np.abs(corners).max() < 0.25
    mild = moves[np.abs(moves).max(axis=(1, 2, 3)) < 25]
    given_nodes = torch.from_numpy(mild[:, ::16, ::16]).movedim(-1, 1)
    between = torch.nn.functional.interpolate(given_nodes, size=(size, size), mode="bicubic", align_corners=True)
    np.testing.assert_allclose(between.movedim(1, -1).numpy(), mild, atol=1e-3)


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
    image = torch.from_numpy(chip.image)
    eight = [torch.rot90(image, k, (1, 2)).flip(axes) for k in range(4) for axes in ((), (2,))]
    for seed in range(20):
        moved = torch.from_numpy(change(chip, np.random.default_rng(seed)).image)
        assert sum(torch.equal(moved, one) for one in eight) == 1


def test_turning_and_bending_at_once_is_bending_and_then_turning() -> None:
    chip = coordinates(60)
    together = Geometry(turn=True, scale=0.2, rotate=20, elastic=2)
    alone = Geometry(turn=False, scale=0.2, rotate=20, elastic=2)
    for seed in range(8):
        moved = together.sized(24)(chip, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        turns, mirror = int(rng.integers(4)), rng.random() < 0.5
        bent = alone.sized(24)(chip, rng)
        for now, was in ((moved.image, bent.image), (moved.labels, bent.labels), (moved.rasters, bent.rasters)):
            turned = np.rot90(was, turns, (-2, -1))
            np.testing.assert_array_equal(now, turned[..., ::-1] if mirror else turned)


def test_a_field_that_moves_nothing_changes_nothing() -> None:
    chip = coordinates(20)
    chip.image[:] = np.random.default_rng(0).random(chip.image.shape)
    chip.valid[3:5, 7:9] = False
    chip.image[:, ~chip.valid] = 0
    chip.labels[~chip.valid] = UNLABELLED
    chip.rasters[0, 12, 12] = np.nan
    moved = warp(chip, np.stack(np.mgrid[:20, :20], -1).astype(np.float32))
    np.testing.assert_array_equal(moved.valid, chip.valid)
    np.testing.assert_array_equal(moved.labels, chip.labels)
    np.testing.assert_allclose(moved.image, chip.image, atol=1e-4)
    np.testing.assert_allclose(moved.rasters, chip.rasters, atol=1e-4)


def test_outside_the_chip_nothing_is_known() -> None:
    chip = coordinates(24)
    field = Geometry(rotate=180, shift=10).field((24, 24), 30, np.random.default_rng(2))
    moved = warp(chip, field)
    outside = ((field < 0) | (field > 23)).any(axis=-1)
    assert 0.1 < outside.mean() < 0.9
    np.testing.assert_array_equal(moved.valid, ~outside)
    assert (moved.labels[outside] == UNLABELLED).all()
    assert (moved.objects[outside] == 0).all()
    assert (moved.image[:, outside] == 0).all()
    assert np.isnan(moved.rasters[:, outside]).all()
    assert np.isfinite(moved.rasters[:, ~outside]).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_has_no_data_does_not_shine_in(seed: int) -> None:
    rng = np.random.default_rng(seed)
    side = 96
    valid = ndimage.gaussian_filter(rng.random((side, side)), 3) > 0.49
    known = ndimage.gaussian_filter(rng.random((side, side)), 3) > 0.49
    values = rng.uniform(50, 100, (2, side, side)).astype(np.float32)
    field = Geometry(rotate=180, elastic=3).field((side, side), 64, rng)
    moved = []
    for filling in (0, 5000):
        labels = np.where(valid, 1, UNLABELLED).astype(np.uint8)
        raster = np.where(known, 500, np.nan).astype(np.float32)[None]
        moved.append(warp(Chip(np.where(valid, values, np.float32(filling)), valid, labels, None, raster), field))
    first, second = moved
    assert 0.1 < first.valid.mean() < 0.9
    np.testing.assert_allclose(first.image, second.image, rtol=1e-4)
    assert (first.image[:, ~first.valid] == 0).all()
    assert first.image[:, first.valid].min() >= 50 - 1e-3
    assert first.image[:, first.valid].max() <= 100 + 1e-3
    assert (first.labels[~first.valid] == UNLABELLED).all()
    np.testing.assert_allclose(first.rasters[np.isfinite(first.rasters)], 500, rtol=1e-5)
    assert 0.1 < np.isfinite(first.rasters).mean() < 0.9
    # A pixel is lost only where bilinear interpolation would have used one without data.
    weights = ndimage.map_coordinates(valid.astype(np.float64), field.transpose(2, 0, 1).astype(np.float64), order=1)
    np.testing.assert_array_equal(first.valid, weights > 1 - 1e-9)


def test_the_same_key_gives_the_same_chip_also_in_another_process() -> None:
    change = pickle.loads(pickle.dumps(WILD.sized(32)))
    light = pickle.loads(pickle.dumps(Radiometry(stddev=(5.0, 5.0), gain=0.1, haze=0.3, noise=0.1, probability=1.0)))
    chip = coordinates(32 + 2 * WILD.required_margin(32))
    a, b = (light(change(chip, r), r) for r in (np.random.default_rng(5), np.random.default_rng(5)))
    np.testing.assert_array_equal(a.image, b.image)
    assert not np.array_equal(a.image, light(change(chip, np.random.default_rng(6)), np.random.default_rng(6)).image)


def test_radiometry_stays_in_range_and_spares_labels_and_gaps() -> None:
    rng = np.random.default_rng(0)
    chip = Chip(rng.uniform(0, 255, (3, 40, 40)).astype(np.float32), rng.random((40, 40)) > 0.2, np.zeros((40, 40), np.uint8))
    chip.image[:, ~chip.valid] = 0
    strong = Radiometry(
        stddev=(30.0, 30.0, 30.0),
        gain=0.5,
        band_gain=0.2,
        offset=1,
        band_offset=0.5,
        haze=0.5,
        noise=0.5,
        probability=1.0,
        value_range=(0, 255),
    )
    for seed in range(20):
        changed = strong(chip, np.random.default_rng(seed))
        assert changed.image.min() >= 0
        assert changed.image.max() <= 255
        assert (changed.image[:, ~chip.valid] == 0).all()
        assert changed.labels is chip.labels
        assert not np.array_equal(changed.image, chip.image)
    never = Radiometry(stddev=(1.0,) * 3, gain=1.0, probability=0.0)
    assert never(chip, np.random.default_rng(0)) is chip


def flat(value: float = 100.0) -> Chip:
    return Chip(np.full((2, 4, 4), value, np.float32), np.ones((4, 4), bool), np.zeros((4, 4), np.uint8))


def draws(change: Radiometry, count: int = 3000) -> np.ndarray:
    return np.stack([change(flat(), np.random.default_rng(k)).image for k in range(count)])


def test_gain_and_offset_have_the_spreads_that_are_asked_for() -> None:
    logs = np.log(draws(Radiometry(stddev=(1.0, 1.0), gain=0.24, band_gain=0.1, probability=1.0))[:, :, 0, 0] / 100)
    assert logs.std(axis=0) == pytest.approx(np.full(2, np.hypot(0.24, 0.1)), rel=0.06)
    assert np.std(logs[:, 0] - logs[:, 1]) == pytest.approx(0.1 * np.sqrt(2), rel=0.06)
    assert logs.mean() == pytest.approx(0, abs=0.02)
    moves = draws(Radiometry(stddev=(10.0, 40.0), offset=0.2, band_offset=0.1, probability=1.0))[:, :, 0, 0] - 100
    units = moves / (10, 40)
    assert units.std(axis=0) == pytest.approx(np.full(2, np.hypot(0.2, 0.1)), rel=0.06)
    assert np.std(units[:, 0] - units[:, 1]) == pytest.approx(0.1 * np.sqrt(2), rel=0.06)


def test_gamma_bends_the_values_between_the_ends_of_the_range() -> None:
    """At a tenth, half and nine tenths of the range all give the same power; its logarithm is spread as asked for."""
    change = Radiometry(stddev=(1.0,), gamma=0.2, probability=1.0, value_range=(10, 210))
    given = np.array([[[-5, 10, 30, 110, 190, 210, 300]]], np.float32)
    chip = Chip(given, np.ones((1, 7), bool), np.zeros((1, 7), np.uint8))
    found = np.stack([change(chip, np.random.default_rng(k)).image[0, 0] for k in range(2000)]).astype(np.float64)
    assert (found[:, :2] == 10).all()
    assert (found[:, 5:] == 210).all()
    powers = np.log((found[:, 2:5] - 10) / 200) / np.log([0.1, 0.5, 0.9])
    np.testing.assert_allclose(powers, powers[:, :1].repeat(3, 1), rtol=1e-3)
    assert np.log(powers[:, 0]).std() == pytest.approx(0.2, rel=0.06)
    assert np.log(powers[:, 0]).mean() == pytest.approx(0, abs=0.02)
    with pytest.raises(ConfigError, match="value_range"):
        Radiometry(stddev=(1.0,), gamma=0.2)


def test_haze_draws_towards_the_colour_of_the_air() -> None:
    hazy = draws(Radiometry(stddev=(1e-6, 1e-6), haze=0.35, air=(200.0, 60.0), probability=1.0))[:, :, 0, 0]
    share = (hazy - 100) / (100, -40)
    np.testing.assert_allclose(share[:, 0], share[:, 1], atol=1e-4)
    changed = share[:, 0] > 1e-5
    assert changed.mean() == pytest.approx(0.5, abs=0.04)
    assert share[changed].mean() == pytest.approx(0.175, rel=0.05)
    assert 0.34 < share.max() <= 0.35 + 1e-4
    assert share.min() > -1e-4
    # By default, the air is as bright as the bright pixels of the chip.
    chip = flat()
    chip.image[:, 0] = 180
    hazy = Radiometry(stddev=(1e-6,) * 2, haze=1.0, probability=1.0)
    assert max(hazy(chip, np.random.default_rng(k)).image.max() for k in range(9)) < 180.1


def test_noise_is_of_every_pixel_and_some_chips_stay_as_they_are() -> None:
    noisy = draws(Radiometry(stddev=(10.0, 40.0), noise=0.2, probability=1.0), 1000) - 100
    spread = noisy.std(axis=(2, 3))
    assert (spread[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.06)
    # Even between 0 and the largest: the mean square is a third of its square, halved by the chips without noise.
    assert np.sqrt((noisy**2).mean(axis=(0, 2, 3))) == pytest.approx(np.sqrt(1 / 6) * np.array([2, 8]), rel=0.08)
    rarely = Radiometry(stddev=(1.0, 1.0), gain=0.2, probability=0.8)
    assert np.mean(draws(rarely, 1000)[:, 0, 0, 0] != 100) == pytest.approx(0.8, abs=0.05)


def test_cutmix_moves_rectangles_with_all_that_belongs_to_them() -> None:
    number = torch.arange(4).view(4, 1, 1)
    batch = Batch(
        number[:, None].expand(4, 2, 32, 32).float().clone(),
        number.expand(4, 32, 32).clone(),
        number.expand(4, 32, 32).float().clone(),
    )
    areas = []
    for seed in range(200):
        mixed = CutMix(1.0)(batch, np.random.default_rng(seed))
        assert torch.equal(mixed.image[:, 0].long(), mixed.labels)
        assert torch.equal(mixed.weights.long(), mixed.labels)
        assert torch.equal(mixed.labels.sum(0), batch.labels.sum(0))
        areas.append((mixed.labels != number).float().mean().item())
    assert np.mean(areas) == pytest.approx(0.5, abs=0.07)
    assert CutMix(0.0)(batch, np.random.default_rng(0)) is batch


def test_a_field_that_turns_is_a_rigid_motion() -> None:
    """Steps along rows and columns keep their length, their right angle and their sense."""
    for seed in range(5):
        field = Geometry(turn=False, rotate=40, shift=3).field((90, 90), 65, np.random.default_rng(seed)).astype(np.float64)
        down, right = np.diff(field, axis=0)[0, 0], np.diff(field, axis=1)[0, 0]
        assert np.hypot(*down) == pytest.approx(1, abs=1e-4)
        assert np.hypot(*right) == pytest.approx(1, abs=1e-4)
        assert down @ right == pytest.approx(0, abs=1e-4)
        assert down[0] * right[1] - down[1] * right[0] == pytest.approx(1, abs=1e-4)
        assert abs(down[1]) > 0.01
        # The middle of the chip read is that of the chip made, but for the shift.
        assert np.abs(field[32, 32] - 44.5).max() <= 3
