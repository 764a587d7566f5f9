"""The original of an adopted network on the same images: what it gives, and how far off the adopted one is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from geoseg.adoption.network_facts import Activation
from geoseg.adoption.stranger import Stranger
from geoseg.arrays import F32
from geoseg.errors import GeosegError, ModelError
from geoseg.inference.onnx_session import OnnxSession

__all__ = ["Original", "largest_difference", "noise", "probabilities"]

SIDE = 256
"""Of an image for networks that take any size, px."""
SUMS = 1e-3
"""How near to 1 probabilities of all classes add up."""


class Original:
    """A stranger's network as it is, on images in the form of geoseg: (N, C, H, W) float32 to (N, K, H, W) float32."""

    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger
        self._session = OnnxSession(stranger.path)
        self._at = [value.name for value in stranger.model.graph.output].index(stranger.output)

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of an image that it takes."""
        return self._stranger.size or (SIDE, SIDE)

    def run(self, image: F32) -> F32:
        """What it gives for one image.

        Raises:
            ModelError: It fails, or gives no array of four dimensions.
        """
        given, stranger = self._session.inputs[0], self._stranger
        kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(given.type, np.float32)
        fed = image.transpose(0, 2, 3, 1) if stranger.channels_last else image
        try:
            out = self._session.run({given.name: np.ascontiguousarray(fed, dtype=kind)})[self._at]
        except GeosegError:
            raise
        except Exception as error:  # ONNX Runtime raises kinds of its own
            raise ModelError(f"{stranger.path}: can't be run: {(str(error).splitlines() or ['?'])[0]:.200}") from error
        if out.ndim != 4:
            raise ModelError(
                f"{stranger.path}: gives an array of shape {out.shape}; scores of shape (1, classes, rows, columns) are needed: "
                "networks that give boxes are no such"
            )
        plain = out.transpose(0, 3, 1, 2) if stranger.channels_last else out
        return np.ascontiguousarray(plain, dtype=np.float32)


def probabilities(scores: F32, activation: Activation) -> F32:
    """Probabilities of scores (N, K, H, W)."""
    if activation == "none":
        return scores
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * scores.astype(np.float64))), np.float32)
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def are_probabilities(values: F32) -> bool:
    """Whether values (N, K, H, W) lie within 0 to 1 and those of several classes add up to 1."""
    if values.min() < 0 or values.max() > 1:
        return False
    return values.shape[1] == 1 or bool(np.abs(values.sum(axis=1) - 1).max() <= SUMS)


def noise(bands: int, side: tuple[int, int]) -> F32:
    """An image (1, C, H, W) of normal noise, the same each time."""
    return np.random.default_rng(0).standard_normal((1, bands, *side)).astype(np.float32)


def largest_difference(
    original: Callable[[F32], F32], adopted: Path, activation: Activation, images: Iterable[F32], side: Sequence[int]
) -> float:
    """The largest difference of a probability between a network and what was adopted of it.

    Args:
        original: Probabilities (1, K, H, W) of an image.
        adopted: The ONNX file that was written.
        activation: What makes probabilities of its scores.
        images: Images (1, C, h, w); of each its upper left part is taken, repeated where it is too small.
        side: Height and width of the images that the original takes.
    """
    session = OnnxSession(adopted)
    name, worst = session.inputs[0].name, 0.0
    for image in images:
        rows, cols = (np.arange(length) % image.shape[axis] for axis, length in ((2, side[0]), (3, side[1])))
        part = np.ascontiguousarray(image[:, :, rows][:, :, :, cols])
        found = probabilities(session.run({name: part})[0], activation)
        worst = max(worst, float(np.abs(found - original(part)).max()))
    return worst
