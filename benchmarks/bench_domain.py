"""Does the domain check know what the shipped models were made for? Every labelled data set against each of them.

    python benchmarks/bench_domain.py
    python benchmarks/bench_domain.py --rescale

Each image is planned as ``geoseg segment`` plans it. Images without a place on Earth are converted to GeoTIFF first and given
with ``--pixel-coords``; images with a place, of which the pixels have another size than those of the training, are given with
``--resample``, too, so that the values alone are judged. Refused images count as told.

With ``--rescale`` the shipped forest model maps its own test scenes with ``--rescale auto``, in 8 bits and as reflectances
(linear maps of them), and is judged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors

from geoseg.errors import SceneError
from geoseg.models.model_folder import Model, load_model
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, gdal_env
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.plan.make import make_plan
from pipeline.segment.run import segment_scene
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
FOREST, BUILDINGS = "amazon-forest", "buildings"
SETS = {
    "amazon_forest, val": "amazon_forest/val/images/*.tif",
    "amazon_forest, unlabelled": "amazon_forest/unlabelled/*.tif",
    "deepglobe_forest": "deepglobe_forest/chips/*_sat_*.jpg",
    "isbi2012": "isbi2012/image/*.png",
    "banepa_buildings": "banepa_buildings/*/scene.tif",
    "kampala_buildings": "kampala_buildings/scene.tif",
    "buildings_many_cities": "buildings_many_cities/*/images/*",
    "bangladesh_buildings": "bangladesh_buildings/*/images/*.tif",
    "accra_buildings": "accra_buildings/*/images/*.tif",
    "joplin_damage": "joplin_damage/*.tif",
    "joplin_unaligned": "joplin_unaligned/*.tif",
    "xbd_two_events": "xbd_two_events/*/p*/*.jpg",
    "change_pairs, LEVIR": "change_pairs/*LEVIR*/[AB]/*.png",
    "change_pairs, 1024": "change_pairs/levir_1024/[AB]/*.png",
    "change_pairs, DSIFN": "change_pairs/*DSIFN*/[AB]/*.png",
    "oscd_change": "oscd_change/*/[AB]/*.png",
    "sztaki_change": "sztaki_change/*/[AB]/*.jpg",
    "pucallpa_series": "pucallpa_series/*.tif",
    "sentinel2_ocracoke": "sentinel2_ocracoke/scene.tif",
    "clouds": "clouds/*/images/*.tif",
    "multiearth_deforestation": "multiearth_deforestation/*/images/*.tif",
    "prodes_labels": "prodes_labels/*.tif",
    "awkward": "awkward/*.tif",
}
OWN = {FOREST: ("amazon_forest, val", "amazon_forest, unlabelled"), BUILDINGS: ("kampala_buildings, held out",)}
"""What each model was made for; of kampala_buildings the blocks that its recipe holds out."""
MOST = 60
"""Images of a set."""


@dataclass(frozen=True)
class Outcome:
    """What the check says of an image."""

    told: bool
    """Whether it was refused, or found far."""
    refused: bool
    share: float | None
    """Distance as a share of the limit."""
    unsized: bool = False
    """Whether the size of its pixels is not known, which is told, too."""


def outcome_of(path: Path, model: Model) -> Outcome:
    config = {"scene": {"pixel_coords": True}}
    found = _planned(path, model, config)
    if found.refused:
        return found
    resampled = _planned(path, model, {"scene": {"resample": True}})
    return found if resampled.refused or resampled.share is None else resampled


def _planned(path: Path, model: Model, config: dict[str, dict[str, bool]]) -> Outcome:
    try:
        plan = make_plan(SceneRef("scene", (str(path),)), model, Config.parse(config))
    except SceneError:
        return Outcome(told=True, refused=True, share=None)
    check = plan.domain
    assert check is not None
    share = None if check.score is None or check.limit is None else check.score / check.limit
    return Outcome(told=bool(check.reasons), refused=False, share=share, unsized=plan.scene.pixel_size is None)


def as_tiff(path: Path, folder: Path) -> Path:
    """An image of another format as GeoTIFF."""
    if path.suffix == ".tif":
        return path
    target = folder / f"{path.parent.name}_{path.stem}.tif"
    with gdal_env(), rasterio.open(path) as image:
        data = image.read()
        with rasterio.open(
            target, "w", driver="GTiff", count=len(data), height=image.height, width=image.width, dtype=data.dtype
        ) as file:
            file.write(data)
    return target


def held_out(folder: Path) -> Iterator[Path]:
    """The blocks of the buildings recipe that took no part in the training, in its pixel size."""
    recipe = Recipe.read(ROOT / "benchmarks" / "recipes" / "buildings.toml")
    data = open_data(recipe)
    path = DATA / "kampala_buildings" / "scene.tif"
    scene = open_scene([str(path)], "kampala", OpenOptions(resample=recipe.gsd_m))
    with SceneReader(scene, (0, 1, 2)) as reader:
        for number, (_, window) in enumerate(data.areas):
            yield _written(folder / f"block_{number}.tif", reader.read(window).data, scene.georeference.transform, window)


def _written(path: Path, data: np.ndarray, transform: tuple[float, ...], window: Window) -> Path:
    place = rasterio.Affine(*transform) @ rasterio.Affine.translation(window.col_off, window.row_off)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(data),
        height=window.height,
        width=window.width,
        dtype=data.dtype,
        crs="EPSG:3857",
        transform=place,
        photometric="rgb",
    ) as file:
        file.write(data)
    return path


def row_of(name: str, paths: list[Path], models: list[Model]) -> str:
    cells = []
    for model in models:
        found = [outcome_of(path, model) for path in paths]
        shares = sorted(one.share for one in found if one.share is not None)
        span = f"{shares[0]:.2f} to {shares[-1]:.2f}" if shares else "none"
        told, refused, unsized = (sum(values) for values in zip(*((o.told, o.refused, o.unsized) for o in found), strict=True))
        own = " (own)" if name in OWN[model.card.name] else ""
        cells.append(f"{told} of {len(found)} told{own}{f', {refused} refused' if refused else ''}; {span} | {unsized}")
    return f"| {name} | {' | '.join(cells)} |"


def table() -> None:
    models = [load_model(name) for name in (FOREST, BUILDINGS)]
    print(
        "| images | told to amazon-forest; distance as a share of the limit | no pixel size: told | told to buildings; "
        "distance as a share of the limit | no pixel size: told |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, pattern in SETS.items():
            listed = sorted(p for p in DATA.glob(pattern) if p.suffix in (".tif", ".png", ".jpg"))
            paths = []
            for path in listed[:: max(1, len(listed) // MOST)]:
                try:
                    paths.append(as_tiff(path, work))
                except rasterio.errors.RasterioError as error:
                    print(f"{path}: {error}")
            print(row_of(name, paths, models), flush=True)
        print(row_of("kampala_buildings, held out", list(held_out(work)), models), flush=True)


MAPS: dict[str, tuple[str, float, float]] = {
    "8 bits, as they are": ("uint8", 1, 0),
    "reflectances, 255 is 3558": ("uint16", 3558 / 255, 0),
    "reflectances, 255 is 3000": ("uint16", 3000 / 255, 0),
    "reflectances, 255 is 10000": ("uint16", 10000 / 255, 0),
    "reflectances, 255 is 2000, and 1000 added": ("uint16", 2000 / 255, 1000),
    "reflectances of 0 to 0.3558": ("float32", 0.3558 / 255, 0),
    "16 bits, 255 is 65535": ("uint16", 257.0, 0),
}
"""How the scenes are given: data type, gain and offset."""


def rescaled() -> None:
    model = load_model(FOREST)
    images = sorted((DATA / "amazon_forest" / "val" / "images").glob("*.tif"))
    print("| scenes as | `--rescale` | mIoU | by scene |")
    print("|---|---|---|---|")
    for title, (dtype, gain, offset) in MAPS.items():
        options = [None, "auto"] if dtype == "uint8" else ["auto"]
        for option in options:
            every = [_confusion(path, model, dtype, gain, offset, option) for path in images]
            scenes = ", ".join(f"{_miou(one):.3f}" for one in every)
            print(f"| {title} | {option or 'none'} | {_miou(sum(every)):.4f} | {scenes} |", flush=True)


def _confusion(path: Path, model: Model, dtype: str, gain: float, offset: float, option: str | None) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        with rasterio.open(path) as image, rasterio.open(path.parent.parent / "masks" / path.name) as masks:
            data, truth = image.read() * float(gain) + offset, masks.read(1)
            data = data.astype(dtype) if dtype == "float32" else np.rint(data).astype(dtype)
            profile = {**image.profile, "dtype": dtype, "photometric": "rgb"}
        with rasterio.open(scene, "w", **profile) as file:
            file.write(data)
        config = Config.parse({"scene": {"rescale": option}, "vector": {"formats": []}})
        segment_scene(SceneRef("map", (str(scene),)), model, config, Path(folder) / "out")
        with rasterio.open(Path(folder) / "out" / "map" / "classes.tif") as classes:
            codes = classes.read(1)
    labelled = (truth < 2) & (codes < 2)
    return np.bincount(truth[labelled] * 2 + codes[labelled], minlength=4).reshape(2, 2)


def _miou(confusion: np.ndarray) -> float:
    hit = np.diagonal(confusion)
    return float((hit / (confusion.sum(axis=0) + confusion.sum(axis=1) - hit)).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rescale", action="store_true", help="judge --rescale auto instead")
    if parser.parse_args().rescale:
        rescaled()
    else:
        table()
