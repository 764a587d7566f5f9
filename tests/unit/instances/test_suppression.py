"""Boxes and objects that are dropped, at the shares that are written."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.instances.found import measured
from geoseg.models.card_values import InstanceFacts


@pytest.mark.parametrize(("overlap", "left"), [(0.4, 2), (0.49, 2), (0.51, 1), (0.7, 1)])
def test_the_weaker_of_two_boxes_is_dropped_above_one_half(overlap: float, left: int) -> None:
    torch = pytest.importorskip("torch")
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig

    network = build_network(NetworkConfig("faster-rcnn", "resnet18", 3, 2, {"hidden": 16, "width": 16})).network
    # Two boxes of 100 x 100, one moved to the right: their intersection over union is (100 - d) / (100 + d).
    away = 100 * (1 - overlap) / (1 + overlap)
    boxes = torch.tensor([[20.0, 20.0, 120.0, 120.0], [20.0 + away, 20.0, 120.0 + away, 120.0]])
    logits = torch.tensor([[-4.0, 4.0], [-3.0, 3.0]])
    kept, scores, labels = network.roi_heads.postprocess_detections(logits, torch.zeros(2, 8), [boxes], [(256, 256)])
    assert len(kept[0]) == left
    torch.testing.assert_close(kept[0][0], boxes[0])
    assert labels[0].tolist() == [1] * left
    assert scores[0][0] > 0.99


def test_what_is_known_of_objects_is_that_of_their_pixels() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((30, 30), np.int32)
    labels[2:6, 2:6], labels[10:14, 3:7], labels[20:25, 20:25], labels[28, :3] = 1, 2, 4, 7
    by_class = rng.random((2, 30, 30)).astype(np.float32) * 0.4
    by_class[1, labels == 2] += 0.5
    confidence = rng.random((30, 30)).astype(np.float32)
    facts = InstanceFacts(kind="watershed", largest_px=10, least_px=16, score=0.0)
    numbers, code, score, quantiles = measured(labels, confidence, by_class, np.array([3, 5], np.uint8), facts)
    # That of 3 pixels is too small; 16 are enough.
    assert [numbers[2, 2], numbers[10, 3], numbers[20, 20], numbers[28, 0]] == [1, 2, 3, 0]
    for k, name in enumerate((1, 2, 4)):
        mask = labels == name
        sums = by_class[:, mask].sum(axis=1, dtype=np.float64)
        assert code[k] == (3, 5)[int(sums.argmax())]
        assert score[k] == pytest.approx(sums.sum() / mask.sum(), rel=1e-6)
        ordered = np.sort(confidence[mask])
        expected = [ordered[int(q * (mask.sum() - 1))] for q in (0.1, 0.5, 0.9)]
        assert np.abs(quantiles[k] - 100 * np.array(expected)).max() <= 0.51
    # An object of exactly the least score stays, whatever its size says.
    sure = np.full((30, 30), 0.5, np.float32)
    sure[labels == 4] = 0.25
    for least, left in ((0.25, 3), (0.5, 2), (0.51, 0)):
        facts = InstanceFacts(kind="watershed", largest_px=10, least_px=16, score=least)
        assert len(measured(labels, confidence, by_class, np.array([3, 5], np.uint8), facts, sure)[1]) == left
