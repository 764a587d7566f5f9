"""Tiles against one forward pass of the whole scene: how many pixels differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common import Row, Settings, call
from data import four_bands, frontier
from models import trained_unet_resnet18

BAR = 0.005
TILE, HALO = 1024, 64
SIDE = 4096
"""The whole scene passes through the network at once, which takes 330 and 500 bytes a pixel: 6 and 9 GB."""


def seams_rows(settings: Settings) -> Iterator[Row]:
    """The shipped model on the procedural scene, and U-Net on ResNet-18 on the one of 16 bits; nothing here is timed."""
    del settings
    facts: dict[str, Any] = {
        "amazon-forest": call("sides:seams", scene=frontier(4096), model="amazon-forest", side=SIDE, tile=TILE, halo=HALO).result,
        "U-Net/ResNet-18": call(
            "sides:seams", scene=four_bands(), model=trained_unet_resnet18(), side=SIDE, tile=TILE, halo=HALO
        ).result,
    }
    for name, found in facts.items():
        halo, exact = found["halo"], found["exact"]
        yield Row(
            "seams",
            f"pixels that differ from one forward pass, {name}, {found['side']} x {found['side']}, tile {TILE}: halo {HALO}; "
            f"exact ({exact['px']})",
            "under 0.5 %, and the number per km of seam; 0, scores equal to the last bit",
            f"{halo['share']:.4%}, {halo['per_km']:.1f} per km; {exact['differing']}, largest difference "
            f"{exact['largest_difference']:g}",
            halo["share"] < BAR and exact["differing"] == 0 and exact["largest_difference"] == 0,
            found,
        )
