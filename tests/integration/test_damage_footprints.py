"""`geoseg damage --footprints` of a name or an address: what lies on the image is fetched once, and where it is from is told."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from faulty_server import serving
from pages import read_page

import geoseg
from geoseg.errors import ConfigError
from tests.support import UTM, damage_by_red

pytest.importorskip("torch")

TRANSFORM = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two images, a model, and footprints of a country in which the images are a spot."""
    for name, year in (("pre", 2020), ("post", 2021)):
        image = np.full((3, 300, 300), 5, np.uint8)
        for k in range(4):
            image[0, 10 + 70 * k : 50 + 70 * k, 20:80] = 50 * (k + 1)
        profile = {"driver": "GTiff", "height": 300, "width": 300, "count": 3, "dtype": "uint8", "crs": UTM, "photometric": "rgb"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=TRANSFORM, **profile) as target:
            target.write(image)
            target.update_tags(ACQUISITION_DATE=f"{year}-06-01")
    rows = []
    for k in range(4):
        x, y = TRANSFORM @ (20, 10 + 70 * k)
        rows.append({"id": f"here{k}", "geometry": shapely.box(x, y - 20, x + 30, y)})
    rng = np.random.default_rng(0)
    for k, (x, y) in enumerate(rng.uniform(2000, 90_000, (3000, 2))):
        rows.append({"id": f"away{k}", "geometry": shapely.box(430_000 + x, 8_930_000 + y, 430_010 + x, 8_930_010 + y)})
    frame = geopandas.GeoDataFrame(rows, crs=UTM).to_crs(4326)
    (tmp_path / "served").mkdir()
    frame.to_parquet(tmp_path / "served" / "release-2026-10-22.parquet", write_covering_bbox=True, row_group_size=200)
    damage_by_red(tmp_path / "model")
    return tmp_path


def grade(place: Path, footprints: str, out: str = "out"):
    return geoseg.grade_damage(
        place / "pre.tif", place / "post.tif", model=place / "model", out=place / out, footprints=footprints
    )


def test_footprints_of_a_name_are_fetched_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(place / "served") as server:
        address = f"{server.url}/release-2026-10-22.parquet"
        monkeypatch.setenv("GEOSEG_FOOTPRINTS_OVERTURE", address)
        done = grade(place, "overture")
        asked = server.requests
        again = grade(place, "overture")
        assert server.requests == asked
        other = grade(place, f"{address}?token=secret", "other")
    assert (done.status, again.status) == ("done", "skipped")
    found = done.polygons().set_index("name")
    assert sorted(found.index) == ["here0", "here1", "here2", "here3"]
    assert found["code"].sort_index().tolist() == [0, 1, 2, 3]
    document = json.loads((done.folder / "damage.json").read_text())
    told = document["footprints_from"]
    assert (told["source"], told["date"], told["licence"], told["features"]) == ("overture", "2026-10-22", "ODbL-1.0", 4)
    assert told["row_groups"] == [1, 16]
    assert "overture" in read_page(done.folder / "report.html").text
    assert "ODbL-1.0" in read_page(done.folder / "report.html").text
    assert "secret" not in (other.folder / "damage.json").read_text()


def test_a_name_without_an_address_and_a_place_without_footprints(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOSEG_FOOTPRINTS_MICROSOFT", raising=False)
    with pytest.raises(ConfigError, match="set GEOSEG_FOOTPRINTS_MICROSOFT"):
        grade(place, "microsoft")
    away = geopandas.read_parquet(place / "served" / "release-2026-10-22.parquet").iloc[4:]
    away.to_parquet(place / "served" / "away.parquet", write_covering_bbox=True)
    (place / "list.txt").write_text(f"# of a country\n{place / 'served' / 'away.parquet'}\n")
    monkeypatch.setenv("GEOSEG_FOOTPRINTS_MICROSOFT", str(place / "list.txt"))
    with pytest.raises(ConfigError, match=r"none of .*away.parquet has a footprint on .*pre.tif; leave footprints out"):
        grade(place, "microsoft")
