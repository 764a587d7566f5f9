"""Networks of strangers, exported as strangers do it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

BANDS = 3


class Small(nn.Module):
    """A network of stride 4 with skips, whose decoder takes the sizes of its encoder."""

    def __init__(self, classes: int, *, squeeze: bool = False, side: int = 0) -> None:
        super().__init__()
        self.side = side
        """Of the only images that it takes once it is exported; 0 for all."""
        self.stem = nn.Sequential(nn.Conv2d(BANDS, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 1, 1))
        self.down = nn.Sequential(nn.Conv2d(8, 8, 5, 2, 2), nn.SiLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid()) if squeeze else None
        self.mix = nn.Conv2d(16, 8, 3, 1, 1)
        self.head = nn.Conv2d(8, classes, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = self.stem(image)
        if self.side:
            fine = fine.reshape(1, 8, self.side // 2, self.side // 2)
        coarse = self.down(fine)
        if self.gate is not None:
            coarse = coarse * self.gate(coarse)
        up = nn.functional.interpolate(coarse, size=fine.shape[2:], mode="nearest")
        mixed = nn.functional.leaky_relu(self.mix(torch.cat([up, fine], dim=1)))
        return self.head(nn.functional.interpolate(mixed, size=image.shape[2:], mode="bilinear", align_corners=False))


def network(classes: int = 3, final: nn.Module | None = None, **kind: int) -> nn.Module:
    """The network with weights that spread over its scores, and what ends it."""
    torch.manual_seed(0)
    small = Small(classes, **kind)
    return (nn.Sequential(small, final) if final is not None else small).eval()


def export(module: nn.Module, path: Path, *, fixed: int | None = None, opset: int = 17, **metadata: Any) -> Path:
    """As ``torch.onnx.export`` writes it, for one size or for all, with the metadata of Deepness."""
    axes = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, BANDS, fixed or 64, fixed or 64),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=None if fixed else {"input": axes, "output": axes},
        )
    model = onnx.load(str(path))
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, str(path))
    return path
