"""One small image: what starting costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from common import Row, Settings, fresh, geoseg, in_turn, run, seconds_of, warm
from data import crop

IMPORTS = "import rasterio, onnxruntime, pyogrio"
MODEL = "amazon-forest"


def start_rows(settings: Settings) -> Iterator[Row]:
    """``geoseg segment`` of one image of 512 x 512 pixels, against a process that imports and exits."""
    warm(crop())
    sides = {
        "geoseg": lambda: geoseg(
            "segment", crop(), "--model", MODEL, "--engine", "onnx", "--out", fresh("start"), "--quiet", memory=False
        ),
        "imports": lambda: run([sys.executable, "-c", IMPORTS]),
    }
    done = in_turn(sides, max(3, settings.repeat), warm_up=True)
    ours, imports = (seconds_of(values) for values in done.values())
    yield Row(
        "start",
        f"`geoseg segment` of one 512 x 512 image, whole process, against `{IMPORTS}`",
        "under 3x",
        f"{ours / imports:.2f}x",
        ours < 3 * imports,
        {"geoseg_s": ours, "imports_s": imports},
    )
