"""Sampling: the same chips for the same seed, in the shares that are promised; splits through which nothing leaks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TRANSFORM, UTM, patchy

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.training.data.chips import Chip
from geoseg.training.data.labelled import LabelledImage, LabelledScene, Values
from geoseg.training.data.samplers import ChipRef, HardSampler, make_sampler
from geoseg.training.data.splits import LeakError, Without, check_leaks, held_out_blocks, held_out_scenes
from geoseg.windows import Window

SIZE = 32
KINDS = ("area", "grid", "class", "hard")


@dataclass
class Painted:
    """A source of given labels; its pixels count from 1, so that each says where it is."""

    name: str
    labels: np.ndarray
    georeference: Georeference | None = None
    height: int = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.height, self.width = self.labels.shape

    def read(self, window: Window) -> Chip:
        image, valid = np.zeros((1, *window.shape), np.float32), np.zeros(window.shape, np.bool_)
        labels = np.full(window.shape, UNLABELLED, np.uint8)
        inside = window & Window.of((self.height, self.width))
        if inside is not None:
            there = inside.slices_in(window)
            image[(0, *there)] = 1 + np.arange(self.labels.size).reshape(self.labels.shape)[inside.slices]
            valid[there], labels[there] = True, self.labels[inside.slices]
        return Chip(image, valid, labels)


def sources() -> list[Painted]:
    """A small scene, a larger one of which half is labelled and one hundredth is of a rare class, and one without labels."""
    large = np.full((192, 256), UNLABELLED, np.uint8)
    large[:, :128] = patchy(192, 128, 2, size=5)
    large[60:72, 40:61] = 2
    return [
        Painted("small", patchy(64, 64, 2)),
        Painted("large", large),
        Painted("bare", np.full((128, 128), UNLABELLED, np.uint8)),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_depend_on_seed_and_number_alone(kind: str) -> None:
    """A sampler made anew, asked for a later epoch at once, gives the chips that one asked for all of them gave."""
    one, other, another = (make_sampler(kind, sources(), SIZE, seed, 3) for seed in (7, 7, 8))
    epochs = [list(one.epoch(number, 40)) for number in range(4)]
    assert list(other.epoch(3, 40)) == epochs[3]
    assert epochs[2] != epochs[3]
    assert list(another.epoch(3, 40)) != epochs[3]
    keys = [ref.key for epoch in epochs for ref in epoch]
    assert len({*keys}) == len(keys)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 50, 100])
def test_chips_lie_in_scenes_and_hold_labels(kind: str, size: int) -> None:
    """Only scenes smaller than a chip are left; nothing is drawn where nothing is labelled."""
    scenes = sources()
    for ref in make_sampler(kind, scenes, size, 0, 3).epoch(0, 200):
        scene = scenes[ref.source]
        assert ref.window.shape == (size, size)
        assert ref.window.row_off >= 0
        assert ref.window.row_stop <= max(scene.height, size)
        assert ref.window.col_off >= 0
        assert ref.window.col_stop <= max(scene.width, size)
        assert scene.name != "bare"
        # A block with few labels may be met at its empty end.
        if kind == "grid":
            assert (scene.read(ref.window).labels != UNLABELLED).any()


def test_area_sampler_draws_by_labelled_area() -> None:
    scenes = sources()
    refs = make_sampler("area", scenes, SIZE, 0, 3).epoch(0, 4000)
    areas = np.array([(scene.labels != UNLABELLED).sum() for scene in scenes])
    drawn = np.bincount([ref.source for ref in refs], minlength=3)
    np.testing.assert_allclose(drawn / drawn.sum(), areas / areas.sum(), atol=0.03)
    # Every labelled pixel is met.
    met = np.zeros(scenes[1].labels.shape, np.bool_)
    for ref in refs:
        if ref.source == 1:
            met[ref.window.slices] = True
    assert met[scenes[1].labels != UNLABELLED].all()


def test_class_sampler_shows_rare_classes() -> None:
    """A class of one hundredth is in a third of the chips drawn by class, since a third of them are drawn for it."""
    scenes = sources()

    def holding(kind: str, code: int) -> float:
        refs = make_sampler(kind, scenes, SIZE, 0, 3).epoch(0, 3000)
        return float(np.mean([(scenes[ref.source].read(ref.window).labels == code).any() for ref in refs]))

    assert holding("area", 2) < 0.12
    assert 0.3 < holding("class", 2) < 0.45
    assert min(holding("class", 0), holding("class", 1)) > 0.5


def test_grid_covers_all_labels_before_it_repeats() -> None:
    scenes = sources()
    sampler = make_sampler("grid", scenes, SIZE, 0, 3)
    cells = 2 * 2 + 6 * 4
    refs = [ref for number in range(4) for ref in sampler.epoch(number, cells // 4)]
    assert len({(ref.source, ref.window) for ref in refs}) == cells
    for k, scene in enumerate(scenes):
        met = np.zeros(scene.labels.shape, np.int64)
        for ref in refs:
            if ref.source == k:
                met[ref.window.slices] += 1
        np.testing.assert_array_equal(met > 0, scene.labels != UNLABELLED)
        assert met.max(initial=0) <= 1


def test_hard_sampler_goes_where_the_loss_is() -> None:
    """Chips of the left half of a scene have ten times the loss; its state goes through a checkpoint."""
    scene = Painted("even", patchy(256, 256, 2))
    sampler = make_sampler("hard", [scene], SIZE, 0, 2)
    assert isinstance(sampler, HardSampler)

    def left(refs: list[ChipRef]) -> float:
        return float(np.mean([ref.window.col_off + SIZE // 2 < 128 for ref in refs]))

    before = left(list(sampler.epoch(0, 1000)))
    for number in range(1, 6):
        refs = sampler.epoch(number, 400)
        sampler.update([10.0 if ref.window.col_off + SIZE // 2 < 128 else 1.0 for ref in refs])
    assert abs(before - 0.5) < 0.06
    after = sampler.epoch(6, 1000)
    assert left(list(after)) > 0.75
    again = make_sampler("hard", [scene], SIZE, 0, 2)
    again.load_state_dict(sampler.state_dict())
    assert list(again.epoch(6, 1000)) == list(after)


def test_sampler_refusals() -> None:
    with pytest.raises(ConfigError, match=r"'odd' is not known; choose one of area, grid, class, hard"):
        make_sampler("odd", sources(), SIZE, 0, 3)
    hidden = Without(sources()[0], [Window.of((64, 64))], 0)
    with pytest.raises(ConfigError, match="none of 1 scene has a pixel with data"):
        make_sampler("area", [hidden], SIZE, 0, 3)


@settings(max_examples=40)
@given(
    st.integers(40, 200), st.integers(40, 200), st.integers(16, 64), st.integers(0, 20), st.floats(0.1, 0.5), st.integers(0, 99)
)
def test_blocks_are_never_seen(height: int, width: int, side: int, margin: int, share: float, seed: int) -> None:
    """No pixel of a held-out block or its margin is in any chip of any sampler, nor in any window; all others stay."""
    scene = Painted("scene", patchy(height, width, 2))
    if max(height, width) <= side:
        with pytest.raises(ConfigError, match="single block"):
            held_out_blocks(height, width, share, side, seed)
        return
    blocks = held_out_blocks(height, width, share, side, seed)
    seen = Without(scene, blocks, margin)
    hidden = np.zeros((height, width), np.bool_)
    for block in blocks:
        hidden[
            max(0, block.row_off - margin) : block.row_stop + margin, max(0, block.col_off - margin) : block.col_stop + margin
        ] = True
    whole = seen.read(Window.of((height, width)))
    np.testing.assert_array_equal(whole.valid, ~hidden)
    np.testing.assert_array_equal(whole.labels, np.where(hidden, UNLABELLED, scene.labels))
    secret = {*(1 + np.flatnonzero(hidden)).tolist()}
    if hidden.all():
        return
    for kind in KINDS:
        for ref in make_sampler(kind, [seen], SIZE, seed, 2).epoch(0, 10):
            assert not secret & {*seen.read(ref.window).image.ravel().astype(int).tolist()}
    check_leaks([seen], [scene], {"scene": seen})


def test_scenes_held_out() -> None:
    names = [f"scene {k}" for k in range(10)]
    found = held_out_scenes(names, 0.3, 1)
    assert len(found) == 3
    assert found == held_out_scenes(names, 0.3, 1)
    assert len({held_out_scenes(names, 0.3, seed) for seed in range(20)}) > 5
    assert held_out_scenes(names, ("scene 3", "*[01]"), 0) == {0, 1, 3}
    with pytest.raises(ConfigError, match="no scene is named 'other'"):
        held_out_scenes(names, ("other",), 0)
    with pytest.raises(ConfigError, match="nothing is left to train on"):
        held_out_scenes(names, ("*",), 0)


def placed(name: str, x: float, y: float, crs: str | int = UTM, pixel: float = 10.0, side: int = 200, turn: float = 0) -> Painted:
    transform = rasterio.Affine.translation(x, y) * rasterio.Affine.rotation(turn) * rasterio.Affine.scale(pixel, -pixel)
    wkt = rasterio.crs.CRS.from_user_input(crs).to_wkt()
    return Painted(name, np.zeros((side, side), np.uint8), Georeference(tuple(transform)[:6], wkt))


def in_degrees(name: str, east: float, north: float, side: int = 200) -> Painted:
    """A scene in degrees whose upper left corner is a point of the UTM zone of the tests."""
    (x,), (y,) = rasterio.warp.transform(UTM, 4326, [east], [north])
    return placed(name, x, y, 4326, 1e-4, side)


EAST, NORTH = TRANSFORM.c, TRANSFORM.f


@pytest.mark.parametrize(
    ("held", "overlap_px"),
    [
        (placed("beside", EAST + 2000, NORTH), 0),
        (placed("below", EAST, NORTH - 2000), 0),
        (placed("far", EAST + 1e5, NORTH), 0),
        (placed("one column", EAST + 1990, NORTH), 200),
        (placed("corner", EAST + 1900, NORTH - 1900), 100),
        (placed("finer", EAST + 500, NORTH - 500, pixel=5), 10_000),
        (placed("inside", EAST + 1000, NORTH - 500, pixel=1, turn=30), 400),
        (in_degrees("degrees beside", EAST + 2001, NORTH), 0),
        (in_degrees("degrees inside", EAST + 500, NORTH - 500, 50), 50 * 50 * 11.07 * 10.97 / 100),
        # The next zone, on the same ground.
        (placed("zone", *(v[0] for v in rasterio.warp.transform(UTM, 32721, [EAST + 500], [NORTH - 500])), 32721, side=50), 2500),
    ],
    ids=lambda value: value.name if isinstance(value, Painted) else "",
)
def test_overlap_on_the_ground(held: Painted, overlap_px: float) -> None:
    """Refused in whatever CRS, with names and the right extent; neighbours that share an edge are none."""
    seen = placed("seen", EAST, NORTH)
    if overlap_px == 0:
        check_leaks([seen], [held])
        return
    with pytest.raises(LeakError) as caught:
        check_leaks([placed("elsewhere", EAST - 1e5, NORTH), seen], [held])
    message = str(caught.value)
    assert f"{held.name}, which is validated on, overlaps seen, which is trained on" in message
    px, m2 = (float(re.findall(rf"([\d,]+) {unit}", message)[0].replace(",", "")) for unit in ("px", "m2"))
    np.testing.assert_allclose(px, overlap_px, rtol=0.02)
    np.testing.assert_allclose(m2, px * 100, rtol=0.02)


def test_large_neighbours_in_two_zones() -> None:
    """The edge of a tile is bent in the next zone; that is no overlap."""
    one = placed("one", 700_000, 8_900_020, side=10980)
    (x,), (y,) = rasterio.warp.transform(UTM, 32721, [700_000 + 109_800 + 3000], [8_900_020])
    check_leaks([one], [placed("next", x, y, 32721, side=10980)])
    with pytest.raises(LeakError):
        check_leaks([one], [placed("next", x - 6000, y, 32721, side=10980)])


def test_antimeridian() -> None:
    """A scene that crosses it overlaps what lies on its other side, and nothing around the world."""
    crossing = placed("crossing", 820_000, 1_100_000, 32660, side=4000)
    check_leaks([crossing], [placed("africa", 0, 9.9, 4326, 1e-3)])
    check_leaks([placed("africa", 0, 9.9, 4326, 1e-3)], [crossing])
    east = placed("east", -179.95, 9.9, 4326, 1e-3)
    for seen, held in ((crossing, east), (east, crossing)):
        with pytest.raises(LeakError, match="overlaps"):
            check_leaks([seen], [held])


def test_blocks_against_other_scenes() -> None:
    """What is held out of one scene may not be seen in another one of the same ground."""
    one, again = placed("one", EAST, NORTH), placed("again", EAST, NORTH)
    blocks = [Window.of((100, 100))]
    seen = Without(one, blocks, 10)
    with pytest.raises(LeakError, match=r"one, which is validated on, overlaps again, which is trained on, by 10,000 px"):
        check_leaks([seen, again], [one], {"one": seen})
    both = Without(again, blocks, 10)
    check_leaks([seen, both], [one, again], {"one": seen, "again": both})
    shifted = Without(again, [Window.of((100, 80))], 0)
    with pytest.raises(LeakError, match=r"one, .* overlaps again, .* by 2,000 px"):
        check_leaks([seen, shifted], [one, again], {"one": seen, "again": shifted})


def test_copies_of_images_without_a_place() -> None:
    one, other, copy = (
        Painted(name, np.zeros(shape, np.uint8)) for name, shape in (("one", (9, 9)), ("other", (9, 8)), ("copy", (9, 9)))
    )
    check_leaks([one], [other])
    with pytest.raises(LeakError, match=r"copy, which is validated on, is the same image as one, which is trained on \(81 px\)"):
        check_leaks([one, other], [copy])
    seen = Without(one, [Window.of((4, 9))], 1)
    check_leaks([seen], [one], {"one": seen})
    with pytest.raises(LeakError, match="same image as copy"):
        check_leaks([seen, copy], [one], {"one": seen})


def test_real_data_does_not_leak(shared: Path) -> None:
    """The Amazon scenes for training and validation are apart; so are the chips of another country. Halves of one are not."""
    values = Values(("red", "green", "blue"), "uint8")

    def scenes(part: str) -> list[LabelledScene]:
        files = sorted((shared / "data" / "amazon_forest" / part / "images").glob("*.tif"))
        return [LabelledScene(open_scene([str(f)], f"{part}/{f.stem}", OpenOptions()), None, values) for f in files]

    training, validation = scenes("train"), scenes("val")
    assert len(training) == 30
    assert len(validation) == 8
    check_leaks(training, validation)
    with pytest.raises(LeakError, match="by 262,144 px"):
        check_leaks(training, [*validation, *scenes("train")[4:5]])
    slices = [
        LabelledImage(str(shared / "data" / "isbi2012" / "image" / f"{k}.png"), None, Values(("gray",), "uint8"))
        for k in range(6)
    ]
    check_leaks(slices[:3], slices[3:])
    with pytest.raises(LeakError, match="2, which is validated on, is the same image as 2"):
        check_leaks(slices[:3], slices[2:])
