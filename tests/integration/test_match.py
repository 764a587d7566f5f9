"""`geoseg match`: polygons of any file and CRS against others, one to one, near and far from seams."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from pipeline.evaluate.match import match_files
from tests.support import call_cli


def houses(rng: np.random.Generator, count: int) -> NDArray[Any]:
    """Turned rectangles around a place in Kampala, in metres of UTM 36N."""
    center = rng.uniform(0, 400, (count, 2)) + np.array([453_000, 35_000])
    size, angle = rng.uniform(4, 14, (count, 2)), rng.uniform(0, np.pi, count)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2 * size[:, None]
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
    return np.asarray(shapely.polygons(np.einsum("nij,nkj->nki", turn, corners) + center[:, None]))


@pytest.fixture(scope="module")
def frames() -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame]:
    rng = np.random.default_rng(2)
    truth = houses(rng, 400)
    found = shapely.transform(truth[:330], lambda xy: xy + rng.normal(0, 0.6, 2))
    found = np.concatenate([found, houses(rng, 60)])
    score = np.round(rng.uniform(0, 1, len(found)), 2)
    columns = {"id": np.arange(1000, 1000 + len(found)), "score": score, "class": "building"}
    return (
        geopandas.GeoDataFrame(columns, geometry=found, crs="EPSG:32636"),
        geopandas.GeoDataFrame({"id": np.arange(len(truth))}, geometry=truth, crs="EPSG:32636"),
    )


def greedy(found: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, least: float) -> set[tuple[int, int]]:
    """Pairs by a search over all of them."""
    a, b = found.geometry.to_numpy()[:, None], truth.geometry.to_numpy()[None]
    common = shapely.area(shapely.intersection(a, b))
    iou = common / (shapely.area(a) + shapely.area(b) - common)
    pairs, taken = set(), set()
    for k in np.argsort(-found["score"].to_numpy(), kind="stable"):
        best = max((j for j in range(len(truth)) if j not in taken), key=lambda j: iou[k, j])
        if iou[k, best] >= least:
            taken.add(best)
            pairs.add((int(found["id"][k]), int(truth["id"][best])))
    return pairs


def test_matches_are_those_of_a_search_over_all_pairs_in_any_format(
    frames: tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame], tmp_path: Path
) -> None:
    found, truth = frames
    expected = greedy(found, truth, 0.5)
    found.to_file(tmp_path / "found.gpkg", layer="polygons")
    found.to_parquet(tmp_path / "found.parquet")
    truth.to_crs(4326).to_file(tmp_path / "truth.geojson")
    truth.to_crs(3857).to_file(tmp_path / "truth.shp")
    (tmp_path / "run" / "map").mkdir(parents=True)
    truth.to_file(tmp_path / "run" / "map" / "polygons.fgb")
    first: dict[str, Any] | None = None
    for left, right, at_once in (
        ("gpkg", "truth.geojson", 20_000),
        ("parquet", "truth.geojson", 20),
        ("gpkg", "truth.shp", 50),
        # Another map, and a run over one scene.
        ("gpkg", "run/map", 20_000),
        ("gpkg", "run", 20_000),
    ):
        result = match_files(str(tmp_path / f"found.{left}"), str(tmp_path / right), at_once=at_once)
        assert {(a, b) for a, b, _ in result.pairs} == expected
        first = first or result.document
        assert result.document["figures"] == pytest.approx(first["figures"], abs=1e-6)
    assert first is not None
    figures = first["figures"]
    assert figures["f1"] == pytest.approx(2 * len(expected) / (len(found) + len(truth)), abs=1e-6)
    assert 0.5 < figures["f1"] < 0.9
    assert sum(row["truth"] for row in first["sizes"]) == len(truth)
    assert sum(row["matched"] for row in first["sizes"]) == len(expected)


def test_what_lies_where_nothing_is_known_does_not_count(
    frames: tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame], tmp_path: Path
) -> None:
    found, truth = frames
    area = shapely.box(453_050, 35_050, 453_250, 35_300)
    geopandas.GeoSeries([area], crs="EPSG:32636").to_crs(4326).to_file(tmp_path / "area.geojson")
    found.to_file(tmp_path / "found.fgb")
    truth.to_file(tmp_path / "truth.gpkg")
    done = call_cli(
        [
            "match",
            tmp_path / "found.fgb",
            tmp_path / "truth.gpkg",
            "--within",
            tmp_path / "area.geojson",
            "--pairs",
            tmp_path / "pairs.csv",
            "--out",
            tmp_path / "match.json",
            "--sizes",
            "60m2",
        ]
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "match.json").read_text())
    inside = [frame[frame.intersection(area).area >= frame.area / 2].reset_index(drop=True) for frame in (found, truth)]
    expected = greedy(*inside, 0.5)
    with (tmp_path / "pairs.csv").open() as file:
        pairs = {(int(row["found"]), int(row["truth"])) for row in csv.DictReader(file)}
    assert document["figures"]["truth"] == len(inside[1])
    # At the rim, what overlaps an object that does not count does not count either.
    assert len(pairs ^ expected) <= 2
    assert abs(document["figures"]["found"] - len(inside[0])) <= 3


def test_nothing_found_and_what_can_not_be_matched(
    frames: tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame], tmp_path: Path
) -> None:
    found, truth = frames
    truth.to_file(tmp_path / "truth.gpkg")
    truth.set_crs(None, allow_override=True).to_file(tmp_path / "nowhere.gpkg")
    found.iloc[:0].to_file(tmp_path / "none.gpkg")
    found.assign(geometry=found.centroid).to_file(tmp_path / "points.gpkg")
    truth.assign(geometry=shapely.box(-1e300, 0, 1e300, 1)).to_file(tmp_path / "beyond.gpkg")
    truth.assign(geometry=shapely.Polygon([(0, 0), (np.nan, 1), (1, 1)])).to_file(tmp_path / "nan.gpkg")
    for name, words in (
        (("none.gpkg", "truth.gpkg"), "0 of 0 found and 400 in the truth match"),
        (("points.gpkg", "truth.gpkg"), "0 of 0 found"),
        (("truth.gpkg", "none.gpkg"), "0 of 400 found and 0 in the truth match"),
    ):
        done = call_cli(["match", *(tmp_path / one for one in name)])
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        assert "f1 0.0000" in done.stdout
    for left, right, words in (
        ("nowhere.gpkg", "truth.gpkg", "has no CRS"),
        ("missing.gpkg", "truth.gpkg", "no such file"),
        (".", "truth.gpkg", "holds no polygons ("),
        ("nan.gpkg", "truth.gpkg", "feature 1 has a coordinate that is no finite number"),
        ("beyond.gpkg", "truth.gpkg", "lie beyond the Earth, of which its CRS (WGS 84 / UTM zone 36N) is a map"),
    ):
        done = call_cli(["match", tmp_path / left, tmp_path / right])
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    done = call_cli(["match", tmp_path / "nowhere.gpkg", tmp_path / "truth.gpkg", "--assume-crs", "EPSG:32636"])
    assert "400 of 400 found" in done.stdout, done.stderr
