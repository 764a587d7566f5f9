"""On a machine with a CUDA device: the same classes as on the CPU, and batches that shrink when memory ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from geoseg.inference.choice import gpu_count, open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine, Execution, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model
from geoseg.procedural import Frontier
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.windows import Window

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not gpu_count(), reason="no CUDA device")]


def test_classes_are_those_of_the_cpu(forest: Model) -> None:
    image, _ = Frontier(4096, 4096).window(Window.at((600, 600), (1024, 1024)))
    normalization = Normalization.of(forest.card, ValueMap((1.0,) * 3, (0.0,) * 3))
    batch = TileBatch([image] * 3, [np.ones((1024, 1024), np.bool_)] * 3, (1024, 1024), [(slice(0, 1024), slice(0, 1024))] * 3)
    decision = Decision.of(forest.card)
    (cpu,) = open_engine("onnx", forest, normalization).classify([batch], decision)
    (gpu,) = open_engine("torch", forest, normalization, device="cuda").classify([batch], decision)
    for one, other in zip(cpu, gpu, strict=True):
        # Half precision moves what is undecided.
        assert (one.classes != other.classes).mean() < 0.005


def test_compiled_and_by_many_threads_it_is_the_same(forest: Model) -> None:
    image, _ = Frontier(4096, 4096).window(Window.at((600, 600), (1024, 1024)))
    normalization = Normalization.of(forest.card, ValueMap((1.0,) * 3, (0.0,) * 3))
    decision, core = Decision.of(forest.card), (slice(64, 960), slice(64, 960))
    valid = np.ones((1024, 1024), np.bool_)
    tiles = [np.roll(image, 97 * k, 2) for k in range(12)]

    def mapped(engine: Engine, k: int) -> np.ndarray:
        batches = [TileBatch([tile], [valid], (1024, 1024), [core]) for tile in tiles[k::3]]
        return np.stack([one.classes for (one,) in engine.classify(batches, decision)])

    eager, compiled = (
        open_engine("torch", forest, normalization, device="cuda", execution=Execution(compiled=c)) for c in (False, True)
    )
    alone = [mapped(eager, k) for k in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda k: mapped(eager, k), range(3)))
        other = list(pool.map(lambda k: mapped(compiled, k), range(3)))
    # Whoever fills the batch, and whatever its empty places hold.
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))
    assert (np.stack(other) != np.stack(alone)).mean() < 0.005


def test_batches_shrink_when_memory_ends(forest: Model) -> None:
    import torch

    normalization = Normalization.of(forest.card, ValueMap((1.0,) * 3, (0.0,) * 3))
    engine = open_engine("torch", forest, normalization, device="cuda", batch=64)
    image, valid = np.zeros((3, 1024, 1024), np.uint8), np.ones((1024, 1024), np.bool_)
    batch = TileBatch([image], [valid], (1024, 1024), [(slice(0, 1024), slice(0, 1024))])
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((6 << 30) / total)
    try:
        ((one,),) = engine.classify([batch], Decision.of(forest.card))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert one.not_finite == 0
    assert engine.batch < 64
    assert len(engine.notes) > 0
