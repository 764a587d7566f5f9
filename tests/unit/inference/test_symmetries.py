"""Test-time augmentation: each symmetry of the square undone at its own place, by an engine of which the answer is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from support import patchy

from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.chunks import Extra, classify_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Classified, EngineName, TileBatch
from geoseg.inference.symmetries import SYMMETRIES, extended, turn, turn_back
from geoseg.scenes.reader import Pixels

SIDE = 24


class Slanted:
    """An engine of two classes that sees the pixel to the right of each as well: turned images have other scores."""

    name: EngineName = "onnx"
    device = "cpu"
    batch = 3

    def __init__(self, sharpness: float = 4.0) -> None:
        self._sharpness = sharpness

    def scores(self, batch: TileBatch) -> np.ndarray:
        images = [extended(np.where(v, d[0], 0), batch.shape) for d, v in zip(batch.data, batch.valid, strict=True)]
        return np.stack([self.of(image) for image in images])

    channels = scores

    def of(self, image: np.ndarray) -> np.ndarray:
        """(2, h, w) scores of an image (h, w)."""
        beside = np.concatenate([image[:, 1:], image[:, -1:]], axis=1)
        first = self._sharpness * (0.7 * image + 0.3 * beside - 0.5)
        return np.stack([first, -first]).astype(np.float32)

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        for batch in batches:
            yield [
                Classified(*decision.decide(np.ascontiguousarray(s[:, rows, cols]), v[rows, cols]))
                for s, v, (rows, cols) in zip(self.scores(batch), batch.valid, batch.keep, strict=True)
            ]


DECISION = Decision((1.0, 1.0), (0.0, 0.0), None, softmax=True)


def probability_of_class_0(image: np.ndarray, sharpness: float = 4.0) -> np.ndarray:
    """The mean over the eight symmetries, pixel by pixel: what is to the right is, in turn, each of the four neighbours."""
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    total = np.zeros(image.shape)
    # Each of the four neighbours is the one to the right in one turn, and again in one mirrored turn.
    for row, col in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside = padded[1 + row : 1 + row + image.shape[0], 1 + col : 1 + col + image.shape[1]]
        score = sharpness * (0.7 * image + 0.3 * beside - 0.5)
        total += 2 / (1 + np.exp(-2 * score))
    return total / 8


@pytest.mark.parametrize(("turns", "flip"), SYMMETRIES)
def test_each_symmetry_is_undone(turns: int, flip: bool) -> None:
    image = np.arange(4 * 4, dtype=np.float32).reshape(1, 4, 4)
    turned = turn(image, turns, flip)
    # By hand: a quarter turn takes the last column up to the first row.
    expected = image[0]
    for _ in range(turns):
        expected = expected.T[::-1]
    np.testing.assert_array_equal(turned[0], expected[:, ::-1] if flip else expected)
    np.testing.assert_array_equal(turn_back(turned, turns, flip), image)
    assert len({turn(image, *symmetry).tobytes() for symmetry in SYMMETRIES}) == 8


@pytest.mark.parametrize("blend", [False, True])
def test_probabilities_are_the_mean_over_all_symmetries(blend: bool) -> None:
    image = (patchy(SIDE, SIDE, 5, 1) / 4).astype(np.float32)
    grid = Grid(SIDE, SIDE, tile=32 if blend else 24, halo=4 if blend else 0, stride=4, blend=blend)
    chunk = grid.chunk_at(0)
    pixels = Pixels(image[None], np.ones(image.shape, np.bool_), None)
    layers = classify_chunk(
        grid, chunk, pixels, [EnsembleMember(Slanted(), DECISION)], augment=True, extra=Extra(probabilities=2)
    )
    expected = probability_of_class_0(image)
    assert layers.probabilities is not None
    assert np.abs(layers.probabilities[0] - 100 * expected).max() <= 0.51
    assert np.abs(layers.probabilities[1] - 100 * (1 - expected)).max() <= 0.51
    sure = np.abs(expected - 0.5) > 1e-3
    np.testing.assert_array_equal(layers.classes[sure], (expected < 0.5)[sure])
    # One view alone would give others, so that the test can fail.
    alone = classify_chunk(grid, chunk, pixels, [EnsembleMember(Slanted(), DECISION)], extra=Extra(probabilities=2))
    assert alone.probabilities is not None
    assert np.abs(alone.probabilities[0].astype(int) - layers.probabilities[0]).max() > 5


def test_an_ensemble_is_the_mean_of_its_members_and_disagreement_its_information() -> None:
    image = (patchy(SIDE, SIDE, 5, 2) / 4).astype(np.float32)
    grid = Grid(SIDE, SIDE, tile=24, halo=0, stride=4)
    pixels = Pixels(image[None], np.ones(image.shape, np.bool_), None)
    engines = [Slanted(1.0), Slanted(-3.0), Slanted(6.0)]
    layers = classify_chunk(
        grid,
        grid.chunk_at(0),
        pixels,
        [EnsembleMember(engine, DECISION) for engine in engines],
        extra=Extra(2, uncertainty=True),
    )
    each = np.stack([1 / (1 + np.exp(-2 * engine.of(image)[0].astype(np.float64))) for engine in engines])
    mean = each.mean(axis=0)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

    assert layers.probabilities is not None
    assert layers.uncertainty is not None
    assert np.abs(layers.probabilities[0] - 100 * mean).max() <= 0.51
    assert np.abs(layers.uncertainty - 100 * (entropy(mean) - entropy(each).mean(axis=0))).max() <= 0.52
