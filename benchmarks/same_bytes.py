"""Compare what two checkouts write: every command on the same input, and the SHA-256 of every file.

    python benchmarks/same_bytes.py BEFORE AFTER [--only NAME,...] [--keep FOLDER]

BEFORE and AFTER are checkouts whose compiled modules are built. What a run says of itself (the version and hash of the code,
seconds, when it ended, folders) is left aside in JSON and TOML; all else is to be equal. Exit code 1 where something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.windows
import shapely

ASIDE = re.compile(
    r"(geoseg|code|key|digest|seconds.*|.*_s|finished|started|created|updated|written|heartbeat|pid|host|memory.*|peak.*)"
)
"""Keys of documents that say when, where and by which code something was made."""
DOCUMENTS = (".json", ".html", ".md", ".csv")
"""Files whose own hash follows from what is left aside in them; they are compared themselves."""
PASSING = {".lock", ".log"}
"""Endings of files that are no results; neither are the checkpoints of a training."""
TOWN, SIDE = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0), 400
DAMAGE = ("none", "minor", "major", "destroyed")
RECIPE = """
name = "toy"
description = "Forest and non-forest"
license = "CC-BY-4.0"
bands = ["red", "green", "blue"]
value_range = [0, 255]
gsd_m = 10.0
classes = [{{ name = "non-forest", color = "#e8d8a0" }}, {{ name = "forest", color = "#1a7837" }}]
data = [
    {{ images = ["{inputs}/west.tif"], labels = "{inputs}/halves", role = "train" }},
    {{ images = ["{inputs}/east.tif"], labels = "{inputs}/halves", role = "val" }},
]
network = {{ architecture = "unet", encoder = "tu-tf_mobilenetv3_small_minimal_100" }}
sample = {{ chip = 128, batch = 4 }}
augment = {{ scale = 0.3, gain = 0.06, noise = 0.05, haze = 0.15 }}
loop = {{ steps = 20, check = 10 }}

[loss.terms]
cross-entropy = 1.0
jaccard = 1.0
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command: its name, its arguments with ``{inputs}`` and ``{out}`` for the two folders."""

    name: str
    arguments: str


FOREST = "--model amazon-forest"
STEPS = (
    Step("inspect", "inspect {inputs}/before.tif --json"),
    Step("segment", f"segment {{inputs}}/before.tif {FOREST} --out {{out}}/segment --formats geojson,gpkg,fgb,parquet"),
    Step("chunks", f"segment {{inputs}}/before.tif {FOREST} --out {{out}}/chunks --chunk 512 --workers 2 --keep"),
    Step("exact", f"segment {{inputs}}/before.tif {FOREST} --out {{out}}/exact --halo exact --tile 512 --probabilities"),
    Step("d4", f"segment {{inputs}}/after.tif {FOREST} --out {{out}}/d4 --tta d4 --min-area 0.5ha --simplify 1 --smooth 1"),
    Step("ensemble", f"segment {{inputs}}/after.tif {FOREST} --model {{out}}/train --out {{out}}/ensemble --uncertainty"),
    Step("instances", "segment {inputs}/post.tif --model buildings --out {out}/instances --task instances --resample"),
    Step("panoptic", "segment {inputs}/post.tif --model buildings --out {out}/panoptic --task panoptic --resample"),
    Step("verify", "verify {out}/segment --recompute 2 --seed 1"),
    Step("vectorize", "vectorize {inputs}/before_truth.tif --out {out}/v.gpkg --out {out}/v.parquet --min-area 1ha"),
    Step("evaluate", "evaluate --pred {out}/segment --truth {inputs}/before_truth.tif --out {out}/evaluate --boundary 2px"),
    Step("screen", "screen {out}/segment --class non-forest --cell 64px --out {out}/screen.geojson"),
    Step("chips", "chips --images {inputs}/before.tif --labels {inputs}/before_truth.tif --out {out}/chips"),
    Step(
        "calibrate",
        "calibrate amazon-forest --images {inputs}/before.tif --images {inputs}/after.tif --images {inputs}/third.tif"
        " --labels {inputs}/labels --out {out}/calibrated",
    ),
    Step(
        "dates",
        f"deforestation {{inputs}}/before.tif {{inputs}}/after.tif {FOREST} --of forest --out {{out}}/dates"
        " --zones {inputs}/zones.gpkg --acquired 2020-07-01,2021-07-01",
    ),
    Step(
        "series",
        f"deforestation {{inputs}}/before.tif {{inputs}}/after.tif {{inputs}}/third.tif {FOREST} --of forest"
        " --out {out}/series --acquired 2020-07-01,2021-07-01,2022-07-01 --least-area 0.5ha",
    ),
    Step("sample", "sample {out}/segment/before/classes.tif --size 120 --seed 3 --out {out}/sample.gpkg"),
    Step(
        "area",
        "area --map {out}/segment/before/classes.tif --sample {out}/sample.gpkg --reference {inputs}/before_truth.tif"
        " --out {out}/area.json --table {out}/area.csv",
    ),
    Step(
        "train-damage",
        "train-damage {inputs}/pre.tif {inputs}/post.tif --labels {inputs}/town.geojson --folds 2 --views 2"
        " --encoder tu-mobilenetv3_small_050 --out {out}/grades",
    ),
    Step(
        "damage",
        "damage {inputs}/pre.tif {inputs}/post.tif --footprints {inputs}/town.geojson --model {out}/grades"
        " --truth {inputs}/town.geojson --cell 50 --out {out}/damage",
    ),
    Step("deliver", "deliver {out}/damage/pre_to_post --out {out}/delivery --date 2021-02-03 --code T1 --event town"),
    Step(
        "match",
        "match {out}/damage/pre_to_post/buildings.gpkg {inputs}/town.geojson --out {out}/match.json --pairs {out}/pairs.csv",
    ),
)
BEFORE_ALL = Step("train", "train {inputs}/recipe.toml --out {out}/train")


def town(folder: Path) -> None:
    """Two images of a town, and its buildings with the damage of each."""
    rng = np.random.default_rng(1)
    images = [rng.normal(mean, 8, (3, SIDE, SIDE)) for mean in (90, 95)]
    rows = []
    for k in range(36):
        top, left = (12 + 62 * n for n in divmod(k, 6))
        height, width = rng.integers(18, 34, 2)
        part, kind = (slice(None), slice(top, top + height), slice(left, left + width)), int(rng.integers(0, 4))
        roof = rng.uniform(150, 220)
        images[0][part] = roof + rng.normal(0, 5, (3, height, width))
        rubble = rng.random((height, width)) < (0.0, 0.25, 0.6, 1.0)[kind]
        images[1][part] = np.where(rubble, rng.normal(70, 45, (3, height, width)), roof)
        x, y = TOWN @ (left, top)
        rows.append({"uid": f"b{k}", "damage": DAMAGE[kind], "geometry": shapely.box(x, y - height / 2, x + width / 2, y)})
    geopandas.GeoDataFrame(rows, crs="EPSG:32720").to_file(folder / "town.geojson", engine="pyogrio")
    for name, image, date in zip(("pre", "post"), images, ("2020-01-01", "2021-01-01"), strict=True):
        write(folder / f"{name}.tif", np.clip(image, 1, 255).astype(np.uint8), TOWN, date)


def write(path: Path, image: np.ndarray, transform: rasterio.Affine, date: str) -> None:
    """A GeoTIFF in blocks."""
    count, height, width = image.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": "uint8",
        "nodata": 0 if count > 1 else 255,
    }
    place = {"crs": "EPSG:32720", "transform": transform, "tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", **profile, **place) as target:
        target.write(image)
        target.update_tags(ACQUISITION_DATE=date)


def make_inputs(checkout: Path, folder: Path) -> None:
    """The scenes of ``geoseg demo`` with their truth, a third date, zones, a town, and a recipe."""
    folder.mkdir()
    call(checkout, Step("demo", f"demo --out {folder}/demo --size 1024"), folder, folder).check_returncode()
    (folder / "labels").mkdir()
    for later, name in (("", "before"), ("_later", "after")):
        shutil.copy(folder / "demo" / "scene" / f"frontier_1024_7{later}.tif", folder / f"{name}.tif")
        truth = folder / "demo" / "truth" / f"frontier_1024_7{later}.tif"
        shutil.copy(truth, folder / f"{name}_truth.tif")
        shutil.copy(truth, folder / "labels" / f"{name}.tif")
    with rasterio.open(folder / "after.tif") as scene:
        image, transform, bounds, crs = scene.read(), scene.transform, scene.bounds, scene.crs
    rng = np.random.default_rng(2)
    write(folder / "third.tif", np.clip(image + rng.normal(0, 2, image.shape), 1, 255).astype(np.uint8), transform, "2022-07-01")
    shutil.copy(folder / "after_truth.tif", folder / "labels" / "third.tif")
    middle = (bounds.left + bounds.right) / 2
    halves = [shapely.box(bounds.left, bounds.bottom, middle, bounds.top), shapely.box(middle, bounds.bottom, *bounds[2:])]
    geopandas.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs=crs).to_file(folder / "zones.gpkg", engine="pyogrio")
    for name, left in (("west", 0), ("east", 512)):
        part = rasterio.windows.Window(left, 0, 512, 1024)
        for source, target in ((folder / "before.tif", f"{name}.tif"), (folder / "before_truth.tif", f"halves/{name}.tif")):
            with rasterio.open(source) as scene:
                pixels, at = scene.read(window=part), scene.window_transform(part)
            (folder / target).parent.mkdir(exist_ok=True)
            write(folder / target, np.where(pixels == 254, 0, pixels) if "halves" in target else pixels, at, "2020-07-01")
    town(folder)
    (folder / "recipe.toml").write_text(RECIPE.format(inputs=folder))


def call(checkout: Path, step: Step, inputs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run one command of a checkout."""
    words = [word.format(inputs=inputs, out=out) for word in step.arguments.split()]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": tempfile.gettempdir()}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def plain(value: Any, places: dict[str, str]) -> Any:
    """A document without what a run says of itself."""
    if isinstance(value, dict):
        given = {k: v for k, v in value.items() if not ASIDE.fullmatch(k) and not k.startswith("training/")}
        return {k: plain(None if hashed(k, v) else v, places) for k, v in given.items()}
    if isinstance(value, list):
        return [plain(v, places) for v in value if not str(v).startswith("training/")]
    return relative(value, places) if isinstance(value, str) else value


def hashed(name: str, value: Any) -> bool:
    """Whether this is the record of a document's hash and size."""
    return name.endswith(DOCUMENTS) and isinstance(value, dict) and "sha256" in value


def relative(text: str, places: dict[str, str]) -> str:
    """Text without the names of folders."""
    for place, name in places.items():
        text = text.replace(place, name)
    return text


def content(path: Path, places: dict[str, str]) -> bytes:
    """What is to be equal in a file."""
    data = path.read_bytes()
    if path.suffix in {".json", ".geojson"}:
        return json.dumps(plain(json.loads(data), places), sort_keys=True).encode()
    if path.suffix == ".jsonl":  # records in the order of the workers, each with its checksum
        records = [line[: line.rindex("}") + 1] for line in data.decode().splitlines() if "}" in line]
        return "\n".join(sorted(json.dumps(plain(json.loads(r), places)) for r in records)).encode()
    if path.name == "checksums.sha256":
        return b"\n".join(line for line in data.splitlines() if not line.endswith(b".json"))
    if path.suffix in {".html", ".md", ".txt", ".csv", ".toml", ".xml"}:
        return relative(data.decode(), places).encode()
    return data


def digests(out: Path, places: dict[str, str]) -> Iterator[tuple[str, str]]:
    """All files of a folder, with the SHA-256 of what is to be equal in them."""
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.suffix not in PASSING and "training" not in p.parts):
        yield str(path.relative_to(out)), hashlib.sha256(content(path, places)).hexdigest()


def main() -> int:
    """Run all, compare all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--only", default="", help="names of steps, with commas; train comes first in any case")
    parser.add_argument("--keep", type=Path, help="folder for all that is written")
    given = parser.parse_args()
    root = given.keep or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    make_inputs(given.before.resolve(), root / "inputs")
    names = set(given.only.split(",")) if given.only else None
    differing = 0
    seen: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for step in (BEFORE_ALL, *(s for s in STEPS if names is None or s.name in names)):
        codes = []
        for side, checkout, before in zip(("before", "after"), (given.before, given.after), seen, strict=True):
            out = root / side
            out.mkdir(exist_ok=True)
            done = call(checkout.resolve(), step, root / "inputs", out)
            codes.append(done.returncode)
            words = done.stdout.replace(str(out), "OUT")
            before[f"({step.name})"] = hashlib.sha256(re.sub(r"[\d.,]+", "", words).encode()).hexdigest()
            if done.returncode:
                print(f"  {side}: exit code {done.returncode}: {done.stderr.strip()[-600:]}")
        now = [
            dict(digests(root / side, {str(root / side): "OUT", str(checkout.resolve()): "CODE"}))
            for side, checkout in (("before", given.before), ("after", given.after))
        ]
        new = sorted({k for side, old in zip(now, seen, strict=True) for k, v in side.items() if old.get(k) != v})
        unequal = [k for k in new if now[0].get(k) != now[1].get(k)]
        print(f"{step.name:<14} {len(new):>4} files, {len(unequal)} differ {unequal[:8] or ''}", flush=True)
        differing += len(unequal) + (codes[0] != codes[1]) + (codes[0] not in (0, 3))
        seen[0].update(now[0]), seen[1].update(now[1])
    if not given.keep:
        shutil.rmtree(root)
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
