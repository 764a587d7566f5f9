"""The flows that compare dates, on a real, temporary Prefect server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, TRANSFORM, UTM, damage_by_red, patchy, save

pytest.importorskip("prefect")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=LIMIT_S):
        yield


def test_each_scene_of_a_stream_is_compared_with_the_one_before(tmp_path: Path) -> None:
    from flows.change import compare_dates, compare_stream
    from pipeline.config.sections import Config

    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 0.1]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -12.8]))
    classes = [{"value": k, "name": n, "color": f"#{80 * k:02x}8040"} for k, n in enumerate(("non-forest", "forest"))]
    model = save(network, 1, 2, tmp_path / "model", classes=classes)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number, (place, year) in enumerate((("a", 2018), ("a", 2020), ("b", 2019), ("a", 2022), ("a", None))):
        transform = TRANSFORM @ rasterio.Affine.translation(0 if place == "a" else 900, 0)
        profile = {
            "driver": "GTiff",
            "height": 120,
            "width": 140,
            "count": 1,
            "dtype": "uint8",
            "crs": UTM,
            "transform": transform,
        }
        with rasterio.open(inbox / f"s{number}.tif", "w", **profile) as target:
            target.write((60 + 130 * patchy(120, 140, 2, number, 6.0)).astype(np.uint8), 1)
            if year is not None:
                target.update_tags(ACQUISITION_DATE=f"{year}-06-01")
    config, out = Config.parse({"dates": {"coregister": "off"}}), tmp_path / "out"
    found = compare_stream([str(inbox)], str(model.path), str(out), config)
    # The other place has one date only, and one scene does not say when it was.
    assert [one["scene"] for one in found] == ["s0_to_s1", "s1_to_s3"]
    assert {one["status"] for one in found} == {"done"}
    assert len(json.loads((out / "index.json").read_text())["scenes"]) == 2
    assert found[0]["intervals"][0]["first_loss_ha"] > 0
    again = compare_stream([str(inbox)], str(model.path), str(out), config)
    assert {one["status"] for one in again} == {"skipped"}
    assert [one["classes"] for one in again] == [one["classes"] for one in found]
    # Of an area that no pair touches nothing is made, and nothing has failed.
    west, north = TRANSFORM @ (901, 1)
    away = Config.parse({"area": {"aoi": f"{UTM}:{west},{north - 50},{west + 50},{north}"}, "dates": {"coregister": "off"}})
    assert compare_stream([str(inbox)], str(model.path), str(tmp_path / "away"), away) == []
    dates = [str(inbox / f"s{number}.tif") for number in (0, 1)]
    state = compare_dates(dates, str(model.path), str(tmp_path / "away"), away, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Outside")
    assert state.result() == {"scene": "s0_to_s1", "status": "skipped", "reason": state.message}
    assert "area of interest" in state.message


def test_buildings_are_graded_as_a_flow(tmp_path: Path) -> None:
    import geopandas
    import shapely

    from flows.change import grade_damage
    from geoseg.damage.scale import CLASSES
    from pipeline.config.sections import Config

    model = damage_by_red(tmp_path / "model", bands=1)
    rows = []
    for name, year in (("pre", 2020), ("post", 2021)):
        image = np.full((200, 200), 5, np.uint8)
        for k in range(4):
            image[10 + 45 * k : 40 + 45 * k, 20:60] = 50 * (k + 1)
            x, y = TRANSFORM @ (20, 10 + 45 * k)
            rows.append({"id": k, "geometry": shapely.box(x, y - 300, x + 400, y)})
        profile = {
            "driver": "GTiff",
            "height": 200,
            "width": 200,
            "count": 1,
            "dtype": "uint8",
            "crs": UTM,
            "transform": TRANSFORM,
        }
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as target:
            target.write(image, 1)
            target.update_tags(ACQUISITION_DATE=f"{year}-06-01")
    geopandas.GeoDataFrame(rows[:4], crs=UTM).to_file(tmp_path / "footprints.gpkg")
    paths = [str(tmp_path / f"{name}.tif") for name in ("pre", "post")]
    found = grade_damage(*paths, str(model.path), str(tmp_path / "out"), footprints=str(tmp_path / "footprints.gpkg"))
    assert [found["counts"][name] for name in CLASSES] == [1, 1, 1, 1]
    assert (tmp_path / "out" / "pre_to_post" / "buildings.gpkg").is_file()
    # Each feature of a file of areas that the images touch.
    boxes = [row["geometry"].buffer(1) for row in rows[:2]] + [shapely.box(0, 0, 1, 1)]
    geopandas.GeoDataFrame({"label": ["a", "b", "far"]}, geometry=boxes, crs=UTM).to_file(tmp_path / "areas.gpkg")
    config = Config.parse({"area": {"aoi": str(tmp_path / "areas.gpkg"), "aoi_column": "label"}})
    own = {"footprints": str(tmp_path / "footprints.gpkg"), "config": config}
    several = grade_damage(*paths, str(model.path), str(tmp_path / "several"), **own)
    assert [one["buildings"] for one in several] == [1, 1]
    assert [Path(one["folder"]).parent.name for one in several] == ["a", "b"]
    away = Config.parse({"area": {"aoi": f"{UTM}:0,0,1,1"}})
    state = grade_damage(*paths, str(model.path), str(tmp_path / "away"), **(own | {"config": away}), return_state=True)
    assert (state.type.value, state.name, state.result()["status"]) == ("COMPLETED", "Outside", "skipped")


def test_a_flow_of_damage_takes_vrts_where_they_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import geopandas
    import shapely

    from flows.change import grade_damage, grade_event
    from geoseg.errors import ConfigError, NotARasterError
    from pipeline.config.sections import Config

    model = damage_by_red(tmp_path / "model", bands=1)
    for name, year in (("pre", 2020), ("post", 2021)):
        profile = {
            "driver": "GTiff",
            "height": 200,
            "width": 200,
            "count": 1,
            "dtype": "uint8",
            "crs": UTM,
            "transform": TRANSFORM,
        }
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as target:
            target.write(np.full((200, 200), 100, np.uint8), 1)
            target.update_tags(ACQUISITION_DATE=f"{year}-06-01")
        (tmp_path / f"{name}.vrt").write_text(
            f'<VRTDataset rasterXSize="200" rasterYSize="200"><SRS>{UTM}</SRS><GeoTransform>{TRANSFORM.c}, {TRANSFORM.a}, 0, '
            f'{TRANSFORM.f}, 0, {TRANSFORM.e}</GeoTransform><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
            "</VRTRasterBand></VRTDataset>"
        )
    x, y = TRANSFORM @ (20, 20)
    frame = geopandas.GeoDataFrame({"id": [1]}, geometry=[shapely.box(x, y - 300, x + 400, y)], crs=UTM)
    frame.to_file(tmp_path / "footprints.gpkg")
    paths = [str(tmp_path / f"{name}.vrt") for name in ("pre", "post")]
    rest = {"footprints": str(tmp_path / "footprints.gpkg")}
    config = Config.parse({"scene": {"allow_vrt": True}})
    assert grade_damage(*paths, str(model.path), str(tmp_path / "out"), config=config, **rest)["buildings"] == 1
    with pytest.raises(NotARasterError, match="VRT"):
        grade_damage(*paths, str(model.path), str(tmp_path / "other"), **rest)
    # What a name of footprints stands for, and labels, are sources as all others.
    monkeypatch.setenv("GEOSEG_ALLOWED_SOURCES", str(tmp_path))
    monkeypatch.setenv("GEOSEG_ALLOWED_OUT", str(tmp_path))
    monkeypatch.setenv("GEOSEG_ALLOWED_MODELS", str(tmp_path))
    monkeypatch.setenv("GEOSEG_FOOTPRINTS_OVERTURE", "https://maps.example/buildings.parquet")
    tifs = [path.replace(".vrt", ".tif") for path in paths]
    with pytest.raises(ConfigError, match=r"footprints: https://maps.example/buildings.parquet is outside"):
        grade_damage(*tifs, str(model.path), str(tmp_path / "other"), footprints="overture")
    with pytest.raises(ConfigError, match=r"labels: /etc/labels.gpkg is outside"):
        grade_event(*tifs, ["/etc/labels.gpkg"], str(tmp_path / "other"), **rest)
