"""ONNX files of one size that can't be opened: run at that size where that gives one answer, refused in a sentence elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from strange_networks import export, network
from torch import nn

from geoseg.adoption.from_onnx import adopt_onnx
from geoseg.adoption.network_facts import ANY_SIZE, Told
from geoseg.errors import ModelError
from geoseg.models.receptive_field import measure_receptive_field

TOLD = Told(bands=("a", "b", "c"), classes=("x", "y", "z"), gsd=ANY_SIZE, scale=255, activation="softmax")


def test_the_field_is_that_of_the_same_network_for_all_sizes(tmp_path: Path) -> None:
    path = export(network(3, side=96), tmp_path / "n.onnx", fixed=96)
    made = adopt_onnx(path, TOLD, tmp_path)
    card = made.model.card
    assert (card.tile, card.stride, card.global_context) == (96, 4, False)
    assert card.receptive_field == measure_receptive_field(network(3), 3, 4)
    image = np.random.default_rng(0).standard_normal((1, 3, 96, 96)).astype(np.float32)
    with torch.inference_mode():
        wanted = torch.softmax(network(3)(torch.from_numpy(image)), 1).numpy()
    np.testing.assert_allclose(made.original(image), wanted, atol=1e-6)


class Placed(nn.Module):
    """Adds to each pixel what only its place in the image tells."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 3, side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.place


@pytest.mark.parametrize(
    ("module", "halo", "why"),
    [
        (network(3, side=96, squeeze=True), None, "every output pixel sees an edge of the image; where you know better, tell"),
        (network(3, side=96, squeeze=True), 24, "scores that differ by up to"),
        (network(3, Placed(96).eval(), side=96), None, "as of networks that know places; with a halo of 16 px"),
        # 4 px less than it sees.
        (network(3, side=96), 8, "scores that differ by up to"),
        (network(3, side=96), 60, "no room for a core between two halos of 60 px"),
    ],
)
def test_what_gives_no_one_answer_is_refused(tmp_path: Path, module: nn.Module, halo: int | None, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        adopt_onnx(export(module, tmp_path / "n.onnx", fixed=96), TOLD, tmp_path, halo=halo)


def test_a_small_size_leaves_no_core(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"sees an edge of the image|no room for a core"):
        adopt_onnx(export(network(3, side=32), tmp_path / "n.onnx", fixed=32), TOLD, tmp_path)
