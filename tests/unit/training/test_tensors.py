"""Chips as tensors: each gets what it would get one by one, whatever the device; borders likewise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.training.augment.geometry import Geometry  # noqa: E402 - needs torch
from geoseg.training.augment.intensity import Radiometry  # noqa: E402
from geoseg.training.augment.tensors import ChipTensors, expose, move  # noqa: E402
from geoseg.training.data.chips import Chip  # noqa: E402

LIGHT = Radiometry(
    stddev=(30.0, 20.0, 25.0),
    gain=0.1,
    band_gain=0.05,
    offset=0.15,
    band_offset=0.1,
    haze=0.4,
    probability=0.8,
    value_range=(0, 255),
    gamma=0.1,
)


def chips(count: int, side: int, *, gaps: bool) -> list[Chip]:
    """Smooth images with labels, objects and, on request, holes without data."""
    rng, found = np.random.default_rng(side), []
    for k in range(count):
        image = ndimage.gaussian_filter(rng.random((3, side, side), np.float32), (0, 1.5, 1.5)) * 255
        labels = (image[0] > 128).astype(np.uint8)
        objects = ndimage.label(labels)[0].astype(np.int32)
        valid = np.ones((side, side), np.bool_)
        if gaps and k % 3:
            valid[5 : 12 + k, : side // 2] = False
            image[:, ~valid], labels[~valid], objects[~valid] = 0, UNLABELLED, 0
        found.append(Chip(image, valid, labels, objects))
    if gaps:
        nothing = np.zeros((side, side), np.bool_)
        found[-1] = Chip(
            np.zeros_like(found[0].image), nothing, np.full((side, side), UNLABELLED, np.uint8), nothing.astype(np.int32)
        )
    return found


def stacked(parts: list[Chip]) -> ChipTensors:
    return ChipTensors(
        *(torch.from_numpy(np.stack([getattr(c, f) for c in parts])) for f in ("image", "valid", "labels", "objects"))
    )


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "geometry",
    [Geometry(), Geometry(scale=0.3, rotate=180), Geometry(turn=False, elastic=4, shift=3), Geometry(scale=0.2, elastic=2)],
)
def test_moved_together_chips_are_as_moved_one_by_one(geometry: Geometry, gaps: bool) -> None:
    size = 32
    given = chips(10, size + 2 * geometry.required_margin(size), gaps=gaps)
    moved = move(stacked(given), [geometry.draw(np.random.default_rng(k)) for k in range(10)], size)
    for k, chip in enumerate(given):
        one = geometry.sized(size)(chip, np.random.default_rng(k))
        np.testing.assert_array_equal(moved.valid[k], one.valid)
        # Half-way between two pixels, rounding decides.
        assert (moved.labels[k].numpy() != one.labels).mean() < 2e-3
        assert (moved.objects[k].numpy() != one.objects).mean() < 2e-3
        np.testing.assert_allclose(moved.image[k], one.image, atol=2e-2)
        assert (moved.labels[k].numpy()[~one.valid] == UNLABELLED).all()


@pytest.mark.parametrize("turn", [False, True])
def test_image_labels_and_objects_stay_together(turn: bool) -> None:
    size = 24
    geometry = Geometry(turn=turn)
    numbers = np.arange(1, size * size + 1, dtype=np.int32).reshape(size, size)
    chip = Chip(numbers[None].astype(np.float32), np.ones((size, size), np.bool_), (numbers % 7).astype(np.uint8), numbers)
    poses = [geometry.draw(np.random.default_rng(k)) for k in range(40)]
    moved = move(stacked([chip] * 40), poses, size)
    seen = set()
    for k in range(40):
        at = moved.objects[k].numpy()
        np.testing.assert_array_equal(moved.image[k, 0], at)
        np.testing.assert_array_equal(moved.labels[k], at % 7)
        wanted = np.rot90(numbers, poses[k].turns)
        np.testing.assert_array_equal(at, wanted[:, ::-1] if poses[k].mirror else wanted)
        seen.add(at.tobytes())
    assert len(seen) == (8 if turn else 1)


def exposed(parts: list[Chip], change: Radiometry, seed: int = 0) -> ChipTensors:
    rngs = [np.random.default_rng(k) for k in range(len(parts))]
    drawn = [change.draw(rng, 3) for rng in rngs]
    levels = [change.noise_level(rng) if d is not None and d.noisy else None for rng, d in zip(rngs, drawn, strict=True)]
    return expose(stacked(parts), drawn, levels, change, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("air", [None, (200.0, 210.0, 220.0)])
@pytest.mark.parametrize("gaps", [False, True])
def test_light_changes_as_it_does_one_by_one(gaps: bool, air: tuple[float, ...] | None) -> None:
    from dataclasses import replace

    change = replace(LIGHT, air=air)
    given = chips(24, 96, gaps=gaps)
    together = exposed(given, change)
    same = 0
    for k, chip in enumerate(given):
        one = change(chip, np.random.default_rng(k))
        np.testing.assert_allclose(together.image[k], one.image, atol=1e-3)
        same += int(np.array_equal(together.image[k], chip.image))
    assert 0 < same < 12
    assert together.image.isfinite().all()


def test_noise_has_the_spread_that_was_drawn_and_comes_again() -> None:
    flat = Chip(
        np.full((3, 64, 64), 100, np.float32),
        np.ones((64, 64), np.bool_),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64), np.int32),
    )
    change = Radiometry(stddev=(10.0, 20.0, 40.0), noise=0.5, probability=1.0)
    noisy = exposed([flat] * 40, change)
    drawn = []
    for k in range(40):
        rng = np.random.default_rng(k)
        one = change.draw(rng, 3)
        drawn.append(change.noise_level(rng) if one is not None and one.noisy else np.zeros(3))
    assert 8 < sum(level.any() for level in drawn) < 32
    np.testing.assert_allclose(noisy.image.std((2, 3)), np.stack(drawn), rtol=0.06)
    assert torch.equal(noisy.image, exposed([flat] * 40, change).image)
    assert not torch.equal(noisy.image, exposed([flat] * 40, change, 1).image)


@pytest.mark.parametrize("told", [False, True])
def test_borders_by_shifts_are_those_of_distance_transforms(told: bool) -> None:
    from geoseg.training.losses.borders import border_distances, boundary_maps, distance_maps, near_borders, signed_distances
    from geoseg.training.losses.targets import border_distance

    rng = np.random.default_rng(3)
    labels = (ndimage.gaussian_filter(rng.random((6, 40, 56)), (0, 3, 3)) > 0.5).astype(np.uint8)
    labels[1:4][rng.random((3, 40, 56)) > 0.995] = UNLABELLED
    labels[4] = UNLABELLED
    labels[5] = 1
    numbers = np.stack([ndimage.label(codes == 1)[0] for codes in labels]).astype(np.int32)
    given, objects = torch.from_numpy(labels).long(), torch.from_numpy(numbers) if told else None
    segments = numbers if told else labels
    for reach in (1.5, 6.5, 12.5):
        found = border_distances(torch.from_numpy(segments), given != UNLABELLED, reach)
        wanted = np.stack([border_distance(s, codes != UNLABELLED, reach) for s, codes in zip(segments, labels, strict=True)])
        assert np.isnan(wanted).any()
        assert (wanted > 1.4).any()
        np.testing.assert_array_equal(found, wanted)
    for width in (2.0, 3.0):
        assert torch.equal(near_borders(given, width, objects), boundary_maps(given, width, objects))
    for more in ({}, {"signed": False}, {"foreground": (1,)}):
        torch.testing.assert_close(
            signed_distances(given, 12.0, objects=objects, **more),
            distance_maps(given, 12.0, objects=objects, **more),
            rtol=0,
            atol=0,
            equal_nan=True,
        )
