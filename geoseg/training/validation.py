"""Scores of a finished model on labelled scenes, window by window, through the engine that will run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.errors import ModelError
from geoseg.inference.choice import choose_engine, open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.card import Card
from geoseg.models.model_folder import Model
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.training.data.check_windows import seen_window
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.object_sizes import objects_of
from geoseg.windows import Window

__all__ = ["Judged", "compare_engines", "judge", "open_for_chips"]

CONTEXT = 256
"""Most pixels that are read around a window; the reach of most networks is below it."""
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A window of a labelled scene with what the model says of it."""

    source: int
    """Number of the scene."""
    window: Window
    """Its place."""
    scores: NDArray[np.float32]
    """(K, h, w): what the network gave, not calibrated."""
    valid: NDArray[np.bool_]
    """(h, w): where there is data."""
    labels: NDArray[np.uint8]
    """(h, w): class codes, or UNLABELLED."""
    further: NDArray[np.float32]
    """(R, h, w): channels that distinguish objects; R is 0 for models that don't."""
    objects: NDArray[np.int32] | None
    """(h, w): numbers of labelled objects, 0 for none, where the model distinguishes them."""
    numbers: NDArray[np.float32] | None = None
    """(h, w): what the model regresses, as labelled, NaN where that is not known; None for models of classes."""

    def probabilities(self, decision: Decision) -> NDArray[np.float32]:
        """Probabilities of all classes, (classes, h, w), also where the network gives one score."""
        return decision.by_class(decision.probabilities(self.scores))

    def classes(self, decision: Decision) -> NDArray[np.uint8]:
        """Class codes (h, w), 255 where there is no data."""
        return decision.decide(self.scores, self.valid)[0]


def open_for_chips(model: Model, engine: str = "auto", *, threads: int = 0, device: str = "auto") -> Engine:
    """The engine of a model, for values as chips have them."""
    return open_engine(choose_engine(model, engine), model, _normalization(model.card), threads=threads, device=device)


def _normalization(card: Card) -> Normalization:
    bands = len(card.bands)
    return Normalization.of(card, ValueMap((1.0,) * bands, (0.0,) * bands))


def judge(
    engine: Engine,
    card: Card,
    sources: Sequence[ChipSource],
    *,
    areas: Sequence[tuple[int, Window]] | None = None,
    side: int = 1024,
) -> Iterator[Judged]:
    """Run an engine over labelled scenes; windows without labels are left out. Holds one window in memory.

    Args:
        engine: From ``open_for_chips``.
        card: The model's card.
        sources: The scenes.
        areas: Source and window of the parts to judge; by default, all of every scene.
        side: Rows and columns of a window.
    """
    halo = CONTEXT if card.exact_halo is None else min(card.exact_halo, CONTEXT)
    if areas is None:
        areas = [
            (k, window) for k, source in enumerate(sources) for window in Window.of((source.height, source.width)).parts(side)
        ]
    for k, core in areas:
        source = sources[k]
        window = seen_window(core, halo, card.stride, source.height, source.width)
        inside = window & Window.of((source.height, source.width))
        assert inside is not None
        chip = source.read(inside)
        here = core.slices_in(window)
        if not (chip.labels[here] != UNLABELLED).any():
            continue
        channels = engine.channels(TileBatch([chip.image], [chip.valid], window.shape, [here]))[0, :, *here].copy()
        objects = objects_of(chip, card.object_classes)[here] if card.object_classes else None
        scores, further = channels[: card.scores], channels[card.scores :]
        numbers = None if card.quantity is None or chip.rasters is None else chip.rasters[0][here]
        yield Judged(k, core, scores, chip.valid[here], chip.labels[here], further, objects, numbers)


def compare_engines(model: Model, sources: Sequence[ChipSource], *, chips: int = 8, side: int = 256) -> float:
    """The largest difference between the scores of torch and of ONNX Runtime on real chips.

    It is relative to the largest score of each chip where this is above 1.

    Raises:
        ModelError: It is above 1e-4.
    """
    side = max(1, side // model.card.stride) * model.card.stride
    windows = [
        (k, w)
        for k, source in enumerate(sources)
        for w in Window.of((source.height, source.width)).parts(side)
        if w.shape == (side, side)
    ]
    if not windows:
        windows = [(k, Window.of((side, side))) for k in range(len(sources))]
    chosen = [windows[i] for i in np.linspace(0, len(windows) - 1, min(chips, len(windows))).astype(int)]
    # Both on the CPU: it is the export that is judged, not the 16 bits of a GPU.
    onnx, torch = open_for_chips(model, "onnx"), open_for_chips(model, "torch", device="cpu")
    largest = 0.0
    for k, window in chosen:
        chip = sources[k].read(window)
        batch = TileBatch([chip.image], [chip.valid], window.shape, [(slice(None), slice(None))])
        a, b = onnx.channels(batch), torch.channels(batch)
        largest = max(largest, float(np.abs(a - b).max() / max(1.0, np.abs(b).max())))
    if not largest <= TOLERANCE:
        raise ModelError(
            f"{model.path}: ONNX Runtime and torch differ by {largest:.2g} of the largest score on chips of {len(sources)} "
            f"scenes; the limit is {TOLERANCE:g}"
        )
    return largest
