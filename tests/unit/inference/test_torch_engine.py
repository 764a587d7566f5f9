"""torch on the CPU: what it gives is what the network gives tile by tile, whatever threads, batches and chunks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.chunks import Extra, classify_chunk
from geoseg.inference.decision import Curves, Decision
from geoseg.inference.engine import TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.scenes.reader import Pixels

torch = pytest.importorskip("torch")

from geoseg.inference.torch_decision import TorchDecision  # noqa: E402 - needs torch
from geoseg.inference.torch_engine import TorchEngine  # noqa: E402

RNG = np.random.default_rng(11)
HEIGHT, WIDTH, STRIDE, REACH = 150, 170, 4, 24
IMAGE = RNG.integers(0, 4000, (3, HEIGHT, WIDTH)).astype(np.uint16)
VALID = RNG.random((HEIGHT, WIDTH)) < 0.98
VALID[:60, :50] = False
NORMALIZATION = Normalization((0.001,) * 3, (-2.0, -1.5, -1.0), (-2.0,) * 3, (1.5,) * 3)
SOFTMAX = Decision((1.0,) * 4, (0.0,) * 4, None, softmax=True)


class Small(torch.nn.Module):
    """A U-Net of stride 4 that sees fewer than 24 pixels around each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.down = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 12, 3, padding=1)
        self.low, self.last = torch.nn.Conv2d(12, 8, 3, padding=1), torch.nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool, up = torch.nn.functional.max_pool2d, torch.nn.functional.interpolate
        top = torch.relu(self.first(x))
        low = torch.relu(self.low(pool(torch.relu(self.down(pool(top, 2))), 2)))
        return self.last(torch.cat([top, up(low, scale_factor=4)], dim=1)) * 3


def engine(batch: int = 1) -> TorchEngine:
    return TorchEngine(Small().eval(), 4, NORMALIZATION, batch=batch, device="cpu")


def classified(grid: Grid, one: TorchEngine, threads: int = 1, **options: object) -> np.ndarray:
    """Classes, confidence and perhaps probabilities, (layers, h, w)."""
    extra = options.pop("extra", Extra())
    out = np.full((2 + extra.probabilities, grid.height, grid.width), 7, np.uint8)

    def run(index: int) -> None:
        chunk = grid.chunk_at(index)
        data = np.ascontiguousarray(IMAGE[(slice(None), *chunk.window.slices)])
        pixels = Pixels(data, VALID[chunk.window.slices], None)
        layers = classify_chunk(grid, chunk, pixels, [EnsembleMember(one, SOFTMAX)], extra=extra, **options)
        every = [layers.classes[None], layers.confidence[None]]
        out[(slice(None), *chunk.core.slices)] = np.concatenate([*every, layers.probabilities] if extra.probabilities else every)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(grid.n_chunks)))
    return out


def plain(grid: Grid) -> np.ndarray:
    """The same tile by tile: the network itself, then the most probable class. No batch, no loop."""
    out = np.full((2, grid.height, grid.width), 255, np.uint8)
    network = Small().eval().to(memory_format=torch.channels_last)
    scale, shift, low, high = (torch.from_numpy(v).view(1, -1, 1, 1) for v in NORMALIZATION.arrays)
    padding = [(0, grid.extent[0] - grid.height), (0, grid.extent[1] - grid.width)]
    image, valid = np.pad(IMAGE, [(0, 0), *padding], mode="edge"), np.pad(VALID, padding, mode="edge")
    for tile in grid.tiles():
        mask = torch.from_numpy(valid[tile.window.slices].copy())
        raw = torch.from_numpy(image[(slice(None), *tile.window.slices)][None].copy())
        x = raw.to(torch.float32, memory_format=torch.channels_last).mul_(scale).add_(shift)
        x = torch.minimum(torch.maximum(x, low), high).masked_fill_(~mask, 0.0)
        with torch.inference_mode():
            rows, cols = tile.core.slices_in(tile.window)
            scores = network(x)[0, :, rows, cols]
            top, best = scores.max(dim=0)
            sure = 100 * (1 / torch.exp(scores - top).sum(dim=0)) + 0.5
        kept = mask[rows, cols]
        out[(0, *tile.core.slices)] = torch.where(kept, best, 255).numpy()
        out[(1, *tile.core.slices)] = torch.where(kept, sure.to(torch.uint8), 255).numpy()
    return out


def grid_of(chunk: int, **more: object) -> Grid:
    return Grid(HEIGHT, WIDTH, tile=80, halo=REACH, stride=STRIDE, chunk=chunk, **more)


@pytest.mark.parametrize(("batch", "threads", "chunk"), [(1, 1, 300), (1, 4, 32), (4, 1, 64), (5, 4, 32), (3, 3, 300)])
def test_bytes_are_those_of_the_network_tile_by_tile(batch: int, threads: int, chunk: int) -> None:
    np.testing.assert_array_equal(classified(grid_of(chunk), engine(batch), threads), plain(grid_of(chunk)))


@settings(max_examples=12)
@given(st.integers(30, HEIGHT), st.integers(30, WIDTH), st.integers(1, 4), st.sampled_from([56, 60, 80, 96]), st.integers(1, 200))
def test_tiles_of_one_shape_equal_the_whole(height: int, width: int, batch: int, tile: int, chunk: int) -> None:
    one = engine(batch)
    grid = Grid(height, width, tile=tile, halo=REACH, stride=STRIDE, chunk=chunk, one_shape=True)
    whole = classified(Grid(height, width, tile=200, halo=0, stride=STRIDE), one)
    result = classified(grid, one, 3)
    # Sums of other shapes may be ordered otherwise: what is undecided to the last bits may tip over.
    assert (result[0] != whole[0]).sum() <= 2
    assert np.abs(result[1].astype(int) - whole[1]).max() <= 1


@pytest.mark.parametrize("halo", [0, 8, 20])
@pytest.mark.parametrize("blend", [False, True])
def test_of_moved_tiles_neither_chunks_nor_batches_matter(halo: int, blend: bool) -> None:
    grid = Grid(HEIGHT, WIDTH, tile=80, halo=halo, stride=STRIDE, chunk=300, blend=blend, one_shape=True)
    one = classified(grid, engine())
    for chunk, batch, threads in ((40, 3, 4), (120, 8, 2)):
        np.testing.assert_array_equal(classified(replace(grid, chunk=chunk), engine(batch), threads), one)


@pytest.mark.parametrize(
    "options", [{"blend": True}, {"augment": True}, {"extra": Extra(probabilities=4)}], ids=["blend", "augment", "probabilities"]
)
def test_scores_go_the_same_way(options: dict[str, object]) -> None:
    blend = {"blend": True} if options.pop("blend", False) else {}
    grids = [Grid(HEIGHT, WIDTH, tile=80, halo=20, stride=STRIDE, chunk=chunk, **blend) for chunk in (300, 40)]
    one, other = classified(grids[0], engine(), **dict(options)), classified(grids[1], engine(3), 4, **dict(options))
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one[0])) == 5


CURVES = Curves(
    np.tile(np.float32([0, 0.3, 1]), (4, 1)),
    np.tile(np.float32([0, 0.5, 1]), (4, 1)),
    np.tile(np.float32([5 / 3, 5 / 7, 0]), (4, 1)),
)
DECISIONS = {
    "softmax": SOFTMAX,
    "calibrated": Decision((1.5, 0.7, 1.0, 1.0), (0.1, 0.0, -0.2, 0.0), None, softmax=True),
    "thresholds": Decision((1.0,) * 4, (0.0,) * 4, (0.5, 0.2, 0.6, 0.3), softmax=True),
    "sigmoid": Decision((1.0,) * 4, (0.0,) * 4, (0.5, 0.9, 0.6, 0.3), softmax=False),
    "curves": Decision((1.0,) * 4, (0.0,) * 4, None, softmax=True, curves=CURVES),
    "one": Decision((1.0,), (0.0,), (0.4,), softmax=False),
}


@pytest.mark.parametrize("rule", DECISIONS.values(), ids=DECISIONS)
def test_a_batch_is_decided_as_each_tile_alone(rule: Decision) -> None:
    count = len(rule.gain)
    scores = torch.from_numpy(RNG.normal(0, 2, (5, count, 40, 56)).astype(np.float32)).contiguous(
        memory_format=torch.channels_last
    )
    scores[1, 0, 3, 4], scores[4, count - 1, 5, 6] = float("nan"), float("inf")
    valid = torch.from_numpy(RNG.random((5, 40, 56)) < 0.9)
    valid[1, 3, 4] = valid[4, 5, 6] = True
    decide = TorchDecision(rule)
    both, bad = decide(scores, valid)
    for i in range(5):
        alone, own_bad = decide(scores[i : i + 1, :, 8:32, 8:48], valid[i : i + 1, 8:32, 8:48])
        assert torch.equal(both[i, :, 8:32, 8:48], alone[0])
        assert torch.equal(bad[i, 8:32, 8:48], own_bad[0])
        # The other engine's rule, which is not torch's.
        classes, confidence, count_bad = rule.decide(scores[i].contiguous().numpy(), valid[i].numpy())
        finite = ~bad[i].numpy()
        assert int(bad[i].sum()) == count_bad == (i in (1, 4))
        assert (both[i, 0].numpy() != classes)[finite].mean() < 5e-4
        assert np.abs(both[i, 1].numpy().astype(int) - confidence)[finite].max() <= 1


def test_one_engine_counts_only_what_is_kept() -> None:
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([float("inf"), 1.0]).view(2, 1, 1, 1))
    plain_input = Normalization((1.0,), (0.0,), (-np.inf,), (np.inf,))
    one = TorchEngine(network, 2, plain_input, batch=3, device="cpu")
    image = np.ones((1, 8, 8), np.uint8)
    valid = np.ones((8, 8), np.bool_)
    valid[3] = False
    keeps = [(slice(0, 8), slice(0, 8)), (slice(2, 5), slice(1, 3)), (slice(0, 1), slice(0, 1))]
    decision = Decision((1.0,) * 2, (0.0,) * 2, None, softmax=True)
    (tiles,) = one.classify([TileBatch([image] * 3, [valid] * 3, (8, 8), keeps)], decision)
    assert [tile.not_finite for tile in tiles] == [56, 4, 1]
    assert [tile.classes.shape for tile in tiles] == [(8, 8), (3, 2), (1, 1)]
    assert (tiles[1].classes[1] == 255).all()


def test_softmax_is_that_of_scipy() -> None:
    one = engine(2)
    batch = TileBatch([IMAGE[:, :64, 60:124]] * 2, [VALID[:64, 60:124]] * 2, (64, 64), [(slice(0, 64), slice(0, 64))] * 2)
    (tiles,) = one.classify([batch], SOFTMAX)
    p = scipy.special.softmax(one.scores(batch)[1].astype(np.float64), axis=0)
    valid = VALID[:64, 60:124]
    assert np.abs(tiles[1].confidence[valid] - 100 * p.max(axis=0)[valid]).max() <= 0.51
