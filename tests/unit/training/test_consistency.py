"""Consistency: what chooses a checkpoint where there are no labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torchmetrics.classification import MulticlassJaccardIndex  # noqa: E402

from geoseg.training.transfer.consistency import CONSISTENCY, Consistency, agreement  # noqa: E402


def test_agreement_is_mean_iou_over_all_classes() -> None:
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.integers(0, 4, (2, 30, 20))) for _ in range(2))
    second = torch.where(torch.from_numpy(rng.random((2, 30, 20)) < 0.7), first, second)
    assert agreement(first, second, 4) == pytest.approx(float(MulticlassJaccardIndex(4)(first, second)))
    assert agreement(first, first, 4) == 1
    # What is found nowhere speaks against it: one class everywhere is no sign of a good network.
    assert agreement(torch.zeros(5, 5, dtype=torch.long), torch.zeros(5, 5, dtype=torch.long), 4) == 0.25


def measured(network: Any, images: Any, strength: float) -> float:
    """The figure that the callback logs."""
    from geoseg.training.module import Descent, TrainingModule
    from geoseg.training.training_plan import LearningRates

    descent = Descent([{"params": list(network.parameters()), "factor": 1.0}], LearningRates(), 0.0)
    module = TrainingModule(network, network, classes=2, sigmoid=False, loss=lambda s, *_: s.sum(), descent=descent)
    logged: dict[str, float] = {}
    module.log = logged.__setitem__  # type: ignore[method-assign,assignment]  # there is no trainer here
    Consistency([images], strength).on_validation_epoch_end(SimpleNamespace(sanity_checking=False), module)  # type: ignore[arg-type]
    return logged[CONSISTENCY]


def threshold(weights: list[float]) -> Any:
    """A network that tells class 1 by a weighted sum of the bands."""
    network = torch.nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0], weights])[:, :, None, None])
        network.bias.zero_()
    return network


def test_a_network_that_is_led_by_brightness_is_less_steady_than_one_that_is_led_by_contrast() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 2, 32, 32, generator=generator)
    images[:, 1] -= 2 * images[:, 0].sign()
    by_sum, by_difference = threshold([1.0, 1.0]), threshold([1.0, -1.0])
    bright, contrast = measured(by_sum, images, 0.3), measured(by_difference, images, 0.3)
    assert 0.5 < bright < contrast < 1
    # The same changes each time, whatever was drawn before.
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert measured(by_sum, images, 0.3) == bright
    assert torch.equal(torch.get_rng_state(), state)
    assert measured(by_sum, images, 0.05) > bright
