"""A whole scene: against the script that a user writes, against the network alone, and the pipeline alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Done, Row, Settings, call, fresh, geoseg, in_turn, run, seconds_of, warm
from data import four_bands
from models import integer_unet_resnet18, two_layers, unet_resnet18

NAIVE = Path(__file__).with_name("naive.py")
FLAGS = ("--halo", "64", "--formats", "gpkg", "--no-confidence", "--quiet")
CONFIG = {"grid": {"halo": 64}, "vector": {"formats": ["gpkg"]}, "run": {"confidence": False}}


def _command(scene: Path, model: Path) -> Done:
    return geoseg("segment", scene, "--model", model, "--out", fresh("geoseg"), *FLAGS)


def _after_imports(scene: Path, model: Path) -> Done:
    return call("sides:segment", scene=scene, model=model, out=fresh("geoseg_inside"), config=CONFIG)


def _naive(scene: Path, model: Path) -> Done:
    return run([sys.executable, NAIVE, scene, model, fresh("naive")], json_output=True)


def _forward(scene: Path, model: Path) -> Done:
    return call("sides:forward", scene=scene, model=model, config=CONFIG)


def scene_rows(settings: Settings, *, with_naive: bool = True) -> Iterator[Row]:
    """U-Net on ResNet-18, 4096 x 4096 x 4 in 16 bits: against the naive script and against the network alone."""
    scene, model = four_bands(), unet_resnet18()
    warm(scene, model)
    sides = {
        "geoseg": lambda: _command(scene, model),
        "geoseg after imports": lambda: _after_imports(scene, model),
        "forward only": lambda: _forward(scene, model),
    }
    if with_naive:
        sides["naive"] = lambda: _naive(scene, model)
    done = in_turn(sides, settings.repeat)
    whole, inside = seconds_of(done["geoseg"]), seconds_of(done["geoseg after imports"], "seconds")
    forward = seconds_of(done["forward only"], "seconds")
    facts: dict[str, Any] = {
        "geoseg_s": whole,
        "geoseg_after_imports_s": inside,
        "forward_s": forward,
        "geoseg": done["geoseg after imports"][-1].result,
        "forward": done["forward only"][-1].result,
    }
    if with_naive:
        naive, naive_inside = seconds_of(done["naive"]), seconds_of(done["naive"], "seconds")
        facts |= {"naive_s": naive, "naive_after_imports_s": naive_inside, "naive": done["naive"][-1].result}
        yield Row(
            "scene",
            "4096 x 4096 x 4 uint16, U-Net/ResNet-18, halo 64: `geoseg segment` against the naive script; after imports on "
            "both sides",
            "at least 4x faster; 2.5x",
            f"{naive / whole:.2f}x; {naive_inside / inside:.2f}x",
            naive >= 4 * whole and naive_inside >= 2.5 * inside,
            facts,
        )
    yield Row(
        "forward",
        "the same after imports, classes and GPKG written, against the network alone on the same tiles; as a whole process",
        "at most 1.15x; 1.35x",
        f"{inside / forward:.2f}x; {whole / forward:.2f}x",
        inside <= 1.15 * forward and whole <= 1.35 * forward,
        facts,
    )


def forward_rows(settings: Settings) -> Iterator[Row]:
    """The second row alone, without the naive script."""
    yield from scene_rows(settings, with_naive=False)


def integers_rows(settings: Settings) -> Iterator[Row]:
    """The same with convolutions in 8-bit integers, whole processes; the naive script runs the network in 32 bits."""
    scene, model = four_bands(), unet_resnet18()
    integers = integer_unet_resnet18(scene)
    warm(scene, model)
    warm(scene, integers)
    sides = {
        "integers": lambda: _command(scene, integers),
        "geoseg": lambda: _command(scene, model),
        "naive": lambda: _naive(scene, model),
    }
    seconds = {name: seconds_of(done) for name, done in in_turn(sides, settings.repeat).items()}
    facts = json.loads((integers / "card.json").read_text(encoding="utf-8"))["geoseg"]["quantization"]
    faster, than_itself = seconds["naive"] / seconds["integers"], seconds["geoseg"] / seconds["integers"]
    yield Row(
        "integers",
        "4096 x 4096 x 4 uint16, U-Net/ResNet-18 after `geoseg quantize`, whole process, against the naive script with the "
        "network in 32 bits; against geoseg with that network; share of equal classes",
        "at least 5x faster",
        f"{faster:.2f}x; {than_itself:.2f}x; {facts['agreement']:.2%}",
        faster >= 5,
        {"seconds": seconds, "quantization": facts},
    )


def pipeline_rows(settings: Settings) -> Iterator[Row]:
    """The pipeline alone: a network that costs next to nothing, against GDAL's reading and writing and the network."""
    scene, model = four_bands(), two_layers()
    warm(scene, model)
    made = _after_imports(scene, model)
    kept = fresh("pipeline_made")
    for name in ("classes.tif", "polygons.gpkg"):
        (Path(str(kept).replace("pipeline_made", "geoseg_inside")) / scene.stem / name).replace(kept / name)
    sides = {
        "geoseg after imports": lambda: _after_imports(scene, model),
        "reading and writing": lambda: call("sides:read_and_write", scene=scene, made=kept, out=fresh("read_and_write")),
        "forward only": lambda: _forward(scene, model),
        "forward only, torch": lambda: call("sides:forward_torch", scene=scene, model=model, config=CONFIG),
    }
    done = in_turn(sides, settings.repeat)
    seconds = {name: seconds_of(values, "seconds") for name, values in done.items()}
    inside, files = seconds["geoseg after imports"], seconds["reading and writing"]
    forward = min(seconds["forward only"], seconds["forward only, torch"])
    plain = seconds_of(done["reading and writing"], "seconds_without_overviews")
    ratio, stricter = inside / (files + forward), inside / (plain + forward)
    yield Row(
        "pipeline",
        "two-layer network, 4096 x 4096 x 4 uint16, classes and GPKG, after imports, against GDAL reading and writing the same "
        "files + the network alone",
        "at most 2x",
        f"{ratio:.2f}x ({stricter:.2f}x where GDAL writes no overviews)",
        ratio <= 2,
        {
            "seconds": seconds,
            "geoseg": done["geoseg after imports"][-1].result,
            "files": done["reading and writing"][-1].result,
            "first": made.result,
        },
    )
