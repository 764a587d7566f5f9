"""``geoseg screen``: scores of a coarse grid against whole arrays, and those of a patch classifier against a sliding window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from shapely.geometry import shape

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, OutputError
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.sliding import slide
from geoseg.models.saving import save_model
from geoseg.procedural import Frontier
from geoseg.windows import Window
from pipeline.cli import run
from pipeline.screen.run import screen
from pipeline.screen.settings import ScreenOptions

TRANSFORM = rasterio.Affine(10, 0, 600000, 0, -10, 9700000)


def write(path: Path, values: np.ndarray, **changes: Any) -> str:
    layers = values if values.ndim == 3 else values[None]
    profile = {
        "driver": "GTiff",
        "count": len(layers),
        "dtype": "uint8",
        "height": layers.shape[1],
        "width": layers.shape[2],
        "crs": "EPSG:32721",
        "transform": TRANSFORM,
        "nodata": NODATA,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **(profile | changes)) as dataset:
        dataset.write(layers)
        dataset.update_tags(geoseg_scene=path.stem)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A map of three classes with its probabilities, as segment has them."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet((3, 2, 1), (130, 210)).transpose(2, 0, 1)
    codes = p.argmax(axis=0).astype(np.uint8)
    codes[:64, :64], codes[64:100, 10:90], codes[110:, 200:] = NODATA, NOT_ANALYSED, NOT_ANALYSED
    percents = np.where(codes < 3, np.rint(100 * p), NODATA).astype(np.uint8)
    write(tmp_path / "map" / "classes.tif", codes)
    write(tmp_path / "map" / "probabilities.tif", percents)
    write(tmp_path / "map" / "confidence.tif", percents.max(axis=0, where=codes < 3, initial=0).astype(np.uint8))
    return tmp_path / "map"


def cells_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["features"])


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(band))


def test_scores_are_means_over_what_was_analysed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.geojson"
    found = screen([str(folder)], "2", "32px", out)
    codes, percents = read(folder / "classes.tif"), read(folder / "probabilities.tif", 3) / 100
    cells = cells_of(out)
    wanted = {}
    for part in Window.of((130, 210)).parts(32):
        here = codes[part.slices] < 3
        if here.any():
            p = percents[part.slices][here]
            wanted[part.row_off, part.col_off] = (p.mean(), p.max(), (codes[part.slices][here] == 2).mean(), here.mean())
    assert {(c["properties"]["row"], c["properties"]["col"]) for c in cells} == set(wanted)
    for cell in cells:
        values = cell["properties"]
        expected = wanted[values["row"], values["col"]]
        assert [values[k] for k in ("score", "highest", "share", "analysed")] == pytest.approx(expected, abs=1e-6)
        assert values["measure"] == "probability"
    # Four cells have no data at all; some have data, but nothing was analysed: none of them is 0.
    assert found.seen == 5 * 7 - 4
    assert found.not_analysed == found.seen - len(cells) > 0
    scores = [c["properties"]["score"] for c in cells]
    assert scores == sorted(scores, reverse=True)
    assert [c["properties"]["rank"] for c in cells] == list(range(1, len(cells) + 1))


def test_cells_lie_where_their_pixels_are(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.geojson"
    screen([str(folder)], "1", "320m", out)
    with rasterio.open(folder / "classes.tif") as dataset:
        for cell in cells_of(out):
            polygon, values = shape(cell["geometry"]), cell["properties"]
            assert polygon.is_valid
            assert polygon.exterior.is_ccw
            xs, ys = rasterio.warp.transform("OGC:CRS84", dataset.crs, *map(list, polygon.exterior.xy))
            height, width = min(32, 130 - values["row"]), min(32, 210 - values["col"])
            left, top = dataset.transform @ (values["col"], values["row"])
            assert (min(xs), max(ys)) == pytest.approx((left, top), abs=0.1)
            assert (max(xs) - min(xs), max(ys) - min(ys)) == pytest.approx((10 * width, 10 * height), abs=0.1)
            assert values["area_m2"] == pytest.approx(100 * width * height, rel=2e-3)


def test_what_is_left_out_is_the_rest(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    everything, best, above = (tmp_path / f"{name}.geojson" for name in ("all", "best", "above"))
    screen([str(folder)], "0", "8px", everything)
    screen([str(folder)], "0", "8px", best, kept=ScreenOptions(top=7))
    screen([str(folder)], "0", "8px", above, kept=ScreenOptions(at_least=0.503))
    cells = cells_of(everything)
    assert cells_of(best) == cells[:7]
    assert cells_of(above) == [c for c in cells if c["properties"]["score"] >= 0.503]
    # Of three classes, the confidence says nothing of the others: shares are what is left, and it says so.
    (folder / "probabilities.tif").unlink()
    share = tmp_path / "share.geojson"
    assert run(["screen", str(folder), "--class", "0", "--cell", "8px", "--out", str(share)]) == 0
    assert "score: share" in capfd.readouterr().err
    assert all(c["properties"]["score"] == c["properties"]["share"] for c in cells_of(share))


def test_the_confidence_of_two_classes_is_the_probability_of_both_and_of_three_it_is_not(tmp_path: Path) -> None:
    """Wider than a window, whose left half holds two of the three classes only."""
    codes = np.zeros((64, 2048), np.uint8)
    codes[:, 100:200] = 1
    confidence = np.full_like(codes, 60)
    write(tmp_path / "map" / "confidence.tif", confidence)
    write(tmp_path / "map" / "classes.tif", codes)
    two, three = tmp_path / "two.geojson", tmp_path / "three.geojson"
    found = screen([str(tmp_path / "map")], "pit", "64px", two, names={0: "other", 1: "pit"})
    assert found.measures == {"map": "probability"}
    assert {c["properties"]["score"] for c in cells_of(two)} >= {0.4, round(0.6 * 28 / 64 + 0.4 * 36 / 64, 6)}
    codes[:, 1500:] = 2
    write(tmp_path / "map" / "classes.tif", codes)
    found = screen([str(tmp_path / "map")], "pit", "64px", three, names={0: "other", 1: "pit", 2: "road"})
    assert found.measures == {"map": "share"}
    assert all(c["properties"]["score"] == c["properties"]["share"] for c in cells_of(three))


def test_several_maps_are_ranked_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # The second one lies across the antimeridian.
    (x,), (y,) = rasterio.warp.transform("OGC:CRS84", "EPSG:32760", [180.0], [-18.0])
    for name, zone in (("a", "EPSG:32721"), ("b", "EPSG:32760"), ("c", "EPSG:4326")):
        transform = {
            "a": TRANSFORM,
            "b": rasterio.Affine(10, 0, x - 1050, 0, -10, y),
            "c": rasterio.Affine(1e-4, 0, -60, 0, -1e-4, -3),
        }[name]
        write(tmp_path / "maps" / f"{name}.tif", rng.integers(0, 2, (64, 200), np.uint8), crs=zone, transform=transform)
    out = tmp_path / "cells.geojson"
    found = screen([str(tmp_path / "maps")], "1", "16px", out)
    cells = cells_of(out)
    assert len(cells) == found.cells == 3 * 4 * 13
    scores = [c["properties"]["score"] for c in cells]
    assert scores == sorted(scores, reverse=True)
    assert {c["properties"]["scene"] for c in cells} == {"a", "b", "c"}
    split = [c for c in cells if c["geometry"]["type"] == "MultiPolygon"]
    assert {c["properties"]["scene"] for c in split} == {"b"}
    for cell in cells:
        west, _, east, _ = shape(cell["geometry"]).bounds
        assert -180 <= west <= east <= 180
        assert all(part.is_valid for part in getattr(shape(cell["geometry"]), "geoms", [shape(cell["geometry"])]))


def test_mistakes_get_one_sentence(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.geojson"
    for arguments, words in [
        (("pit", "64px"), "has no class 'pit'"),
        (("²", "64px"), "has no class '²'"),
        (("1", "64"), "is not a distance"),
        (("1", "1m"), "less than a pixel"),
    ]:
        with pytest.raises(ConfigError, match=words):
            screen([str(folder)], *arguments, out)
    with pytest.raises(ConfigError, match=r"\.geojson"):
        screen([str(folder)], "1", "64px", tmp_path / "cells.gpkg")
    with pytest.raises(ConfigError, match="there is none for code 7"):
        screen([str(folder)], "7", "64px", out)
    assert not out.exists()
    screen([str(folder)], "1", "64px", out)
    with pytest.raises(OutputError, match="--overwrite"):
        screen([str(folder)], "1", "64px", out)


def test_a_patch_classifier_screens_as_its_sliding_window_does(tmp_path: Path) -> None:
    """A network trained on patches, run densely by segment: the cells are means of the windows' probabilities."""
    torch.manual_seed(0)
    config = NetworkConfig("ciresan", "", 3, 2, {"patch": 33, "width": 6, "hidden": 10})
    network = build_network(config).eval()
    facts = {
        "name": "sites",
        "description": "made by a test",
        "license": "Apache-2.0",
        "bands": ("red", "green", "blue"),
        "value_range": (0, 255),
        "scaling": [{"mean": 60.0, "stddev": 20.0}] * 3,
        "classes": [{"value": k, "name": name, "color": "#808080"} for k, name in enumerate(("other", "site"))],
    }
    model = save_model(network, config, tmp_path / "sites", facts, tile=128)
    scene = Frontier(160, 200, collar=False)
    scene.write(tmp_path / "scene.tif")
    arguments = ["segment", str(tmp_path / "scene.tif"), "--model", str(model.path), "--out", str(tmp_path / "maps")]
    assert run([*arguments, "--probabilities", "--halo", "exact", "-q"]) == 0
    screen([str(tmp_path / "maps")], "site", "20px", tmp_path / "cells.geojson")

    image = torch.from_numpy((scene.window(Window.of((160, 200)))[0].astype(np.float32) - 60) / 20)
    p = slide(network, image[None, :, 20:140, 20:180]).softmax(dim=1)[0, 1].numpy()
    # Windows that do not reach over what was cut out, in whole cells.
    inner = {(row, col) for row in range(40, 120, 20) for col in range(40, 160, 20)}
    compared = 0
    for cell in cells_of(tmp_path / "cells.geojson"):
        values = cell["properties"]
        if (values["row"], values["col"]) in inner:
            row, col = values["row"] - 20, values["col"] - 20
            # Probabilities are kept in whole percents.
            assert values["score"] == pytest.approx(p[row : row + 20, col : col + 20].mean(), abs=0.002)
            compared += 1
    assert compared == len(inner)
    assert np.ptp([c["properties"]["score"] for c in cells_of(tmp_path / "cells.geojson")]) > 0.01
