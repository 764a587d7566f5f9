"""On a machine with a CUDA device: the same classes as on the CPU, and batches that shrink when memory ends."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.inference.choice import gpu_count, open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import TileBatch
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
