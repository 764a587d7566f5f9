"""STAC items and searches as scenes: which assets, on which terms, and what a stranger's catalogue can't do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from catalogue import COG, asset, catalogue, item
from support import TRANSFORM, WriteRaster, call_cli

from geoseg.errors import ConfigError, GeosegError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.opening import open_scene
from geoseg.scenes.sources import SceneRef, list_scenes
from geoseg.scenes.stac.assets import choose_assets
from geoseg.scenes.stac.choices import Forms
from geoseg.scenes.stac.hrefs import UnfitError
from geoseg.scenes.stac.search import StacSearch, found_items
from pipeline.config.sections import Config

RGB = ("red", "green", "blue")
SENTINEL = {
    **{
        key: asset(f"https://h/{key}.tif", name)
        for key, name in {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B8A": "nir08"}.items()
    },
    "visual": asset("https://h/visual.tif", *RGB, roles=["visual"]),
    "B04-jp2": asset("https://h/B04.jp2", "red", kind="image/jp2"),
    "thumbnail": asset("https://h/t.tif", *RGB, roles=["thumbnail"]),
    "info": {"href": "https://h/info.xml", "type": "application/xml"},
}


def keys(assets: dict[str, Any], bands: tuple[str, ...], names: tuple[str, ...] | None = None, **facts: Any) -> list[str]:
    return [one.name for one in choose_assets(item("a", assets, **facts), assets, names, bands)]


def test_assets_are_those_that_hold_the_bands() -> None:
    assert keys(SENTINEL, RGB) == ["B04", "B03", "B02"]
    assert keys(SENTINEL, ("nir", "red")) == ["B08", "B04"]
    assert keys(SENTINEL, ("nir08",)) == ["B8A"]
    # The nearest that there is.
    assert keys({k: v for k, v in SENTINEL.items() if k != "B08"}, ("nir", "red")) == ["B8A", "B04"]
    # By the names of the satellite's bands, where nothing says what they show; by the asset's own name, where it has none.
    plain = {key: {"href": f"https://h/{key}.tif", "type": COG} for key in ("B02", "B03", "B04", "SCL")}
    assert keys(plain, RGB, platform="sentinel-2b") == ["B04", "B03", "B02"]
    one = {"image": asset("https://h/a.tif", "blue", "green", "red", "nir"), "visual": asset("https://h/v.tif", *RGB)}
    assert keys(one, ("red", "nir")) == ["image"]
    assert keys(one, RGB) == ["visual"]
    newer = {
        "image": {
            "href": "https://h/a.tif",
            "type": COG,
            "bands": [{"name": f"b{i}", "eo:common_name": n} for i, n in enumerate(RGB)],
        }
    }
    assert keys(newer, ("blue", "red")) == ["image"]
    assert keys(SENTINEL, (), ("visual",)) == ["visual"]
    assert keys({"data": {"href": "https://h/a.tif"}}, RGB) == ["data"]


def test_items_of_one_form_are_chosen_once_and_others_anew() -> None:
    """What is remembered of items is never taken for one that differs in anything but its addresses."""
    changes: dict[str, dict[str, Any]] = {
        "the same": {},
        "other address": {"href": "https://h/other.tif"},
        "no image": {"type": "image/jp2"},
        "untold type": {"type": None},
        "mask": {"roles": ["cloud"]},
        "other band": {"eo:bands": [{"name": "B04", "common_name": "nir"}]},
        "scaled": {"raster:bands": [{"scale": 0.5}]},
        "scaled by 1.1": {"raster:scale": 0.25, "scale": 3},
    }
    forms = Forms(None, RGB)
    for order in (list(changes), list(changes)[::-1]):
        for platform in ("sentinel-2a", "landsat-8"):
            for name in order:
                assets = SENTINEL | {"B04": {k: v for k, v in (SENTINEL["B04"] | changes[name]).items() if v is not None}}
                one = item("a", assets, platform=platform)
                alone = Forms(None, RGB)
                try:
                    expected: Any = alone.of(one, assets)
                except UnfitError as error:
                    with pytest.raises(UnfitError, match=re.escape(str(error))):
                        forms.of(one, assets)
                else:
                    found = forms.of(one, assets)
                    assert (found.chosen, found.bands, found.quality) == (expected.chosen, expected.bands, expected.quality)
                    if name != "untold type":
                        assert forms.of(item("b", assets, platform=platform), assets) is found


@pytest.mark.parametrize(
    ("assets", "bands", "words"),
    [
        ({}, RGB, "no GeoTIFF among its assets; it has none"),
        ({"a": {"href": "https://h/a.jp2"}}, RGB, "no GeoTIFF among its assets; it has a"),
        (
            {"a": asset("https://h/a.tif", "red"), "b": asset("https://h/b.tif", "red")},
            ("red",),
            r"red in several assets \(a, b\)",
        ),
        ({"a": asset("https://h/a.tif", *RGB), "b": asset("https://h/b.tif", *RGB)}, RGB, "in several assets"),
        (
            {"a": asset("https://h/a.tif", "red"), "b": asset("https://h/b.tif", "blue")},
            RGB,
            "which of them hold red, green, blue",
        ),
        ({"a": asset("https://h/a.tif"), "b": asset("https://h/b.tif")}, (), "which of them is meant is not clear"),
    ],
)
def test_what_is_not_clear_is_refused(assets: dict[str, Any], bands: tuple[str, ...], words: str) -> None:
    with pytest.raises(UnfitError, match=words):
        keys(assets, bands)


def scenes_of(path: Path, document: Any, **search: Any) -> list[SceneRef]:
    path.write_text(json.dumps(document))
    found, refused = list_scenes([str(path)], search=StacSearch(**search))
    assert not refused, refused
    return found


def test_an_item_tells_where_its_files_say_nothing(write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster(np.ones((2, 70, 80), np.int16), "a.tif")
    told = asset("in/a.tif", "red", "nir") | {"raster:bands": [{"scale": 0.0001, "offset": -0.1}, {"scale": 0.0002}]}
    facts = {"proj:shape": [70, 80], "proj:transform": list(TRANSFORM), "proj:epsg": 32720, "platform": "x", "eo:cloud_cover": 4}
    (ref,) = scenes_of(tmp_path / "one.json", item("S2/../x", {"data": told}, **facts))
    assert "/" not in ref.name
    assert ref.paths == (str(path),)
    scene = open_scene(ref.paths, ref.name, told=ref.told)
    assert [(b.name, b.role, b.scale, b.offset) for b in scene.bands] == [
        ("red", "red", 0.0001, -0.1),
        ("nir", "nir", 0.0002, 0.0),
    ]
    assert scene.acquired == "2024-01-02T03:04:05Z"
    assert ref.told is not None
    assert (ref.told.platform, ref.told.cloud_cover, ref.told.collection) == ("x", 4.0, "c")
    assert not [note for note in scene.warnings if "STAC" in note]
    # STAC 1.1 has them at the bands, or at the asset for all of them.
    newer = {
        "href": "in/a.tif",
        "type": COG,
        "raster:scale": 0.5,
        "bands": [{"name": "b1"}, {"name": "b2", "raster:scale": 0.25}],
    }
    (ref,) = scenes_of(tmp_path / "two.json", item("b", {"data": newer}))
    assert [band.scale for band in open_scene(ref.paths, told=ref.told).bands] == [0.5, 0.25]


def test_files_come_before_what_an_item_says_and_differences_are_told(write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster(np.ones((70, 80), np.int16), "a.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (1.0,)
    told = asset("in/a.tif", "red") | {"raster:bands": [{"scale": 0.1, "offset": 0}]}
    wrong = {"proj:shape": [7, 8], "proj:transform": [1, 0, 0, 0, -1, 0], "proj:code": "EPSG:4326"}
    (ref,) = scenes_of(tmp_path / "one.json", item("a", {"data": told}, **wrong))
    scene = open_scene(ref.paths, told=ref.told)
    assert (scene.bands[0].scale, scene.bands[0].offset, scene.height) == (0.5, 1.0, 70)
    notes = " | ".join(note for note in scene.warnings if "STAC item" in note)
    for words in ("scale 0.1, offset 0, the file 0.5, 1", "says 7 x 8 px", "proj:transform", "EPSG:4326 (proj:code)"):
        assert words in notes
    odd = {"proj:shape": ["x", -1], "proj:transform": [1, "a"], "proj:epsg": True, "eo:cloud_cover": "many", "datetime": 5}
    bands = {"eo:bands": "x", "raster:bands": [5, {"scale": "x"}]}
    (ref,) = scenes_of(tmp_path / "two.json", item("b", {"data": asset("in/a.tif") | bands}, **odd))
    assert ref.told is not None
    assert (ref.told.files[0].shape, ref.told.files[0].transform, ref.told.files[0].crs, ref.told.acquired) == (None,) * 4


def test_documents_are_items_or_collections_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_SETTINGS", "flags")
    many = {"type": "FeatureCollection", "features": [item(name, {"a": asset(f"https://h/{name}.tif")}) for name in "bac"]}
    assert [ref.name for ref in scenes_of(tmp_path / "many.geojson", many)] == ["a", "b", "c"]
    clear = {"type": "FeatureCollection", "features": [item("a", {"a": asset("https://h/a.tif")}, **{"eo:cloud_cover": 50})]}
    with pytest.raises(ConfigError, match="no item with at most 20 % of clouds"):
        scenes_of(tmp_path / "clear.json", clear, max_cloud_cover=20)
    for document, words in (
        ({"type": "Catalog", "links": []}, r"a STAC catalog, which is no scene.*stac\+https"),
        ({"type": "Collection"}, "a STAC collection, which is no scene.*--collections"),
        ({"type": "Topology"}, "neither a STAC item"),
        ([], "neither a STAC item"),
        (item("a", {"b": asset("https://h/a.jp2", kind="image/jp2")}), "no GeoTIFF among its assets"),
    ):
        with pytest.raises(ConfigError, match=words):
            scenes_of(tmp_path / "x.json", document)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        list_scenes([str(tmp_path / "x.json")])


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd", "/vsicurl/x", "GTIFF_DIR:1:/etc/x.tif", "ftp://h/a.tif"])
def test_items_on_servers_name_no_local_file(href: str, tmp_path: Path) -> None:
    with catalogue(tmp_path) as api:
        (tmp_path / "item.json").write_text(json.dumps(item("a", {"data": asset(href)})))
        found, refused = list_scenes([f"{api.base}/item.json"])
    # A path is one of the item's server.
    paths = [f"{api.base}/etc/passwd"] if href == "/etc/passwd" else []
    assert [path for ref in found for path in ref.paths] == paths
    assert len(refused) == 1 - len(paths)


def test_addresses_of_items_are_read_and_resolved_against_them(tmp_path: Path) -> None:
    own = item("a", {"data": asset("../x/a.tif")}) | {"links": [{"rel": "self", "href": "https://elsewhere/y/item.json"}]}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "item.json").write_text(json.dumps(own))
    with catalogue(tmp_path) as api:
        found, refused = list_scenes([f"{api.base}/deep/item.json", f"{api.base}/gone.json"])
    assert [ref.paths for ref in found] == [(f"{api.base}/x/a.tif",)]
    assert ["404" in item.reason for item in refused] == [True]


def simple(count: int) -> list[Any]:
    return [item(f"s{number:05}", {"visual": asset(f"https://h/{number}.tif")}) for number in range(count)]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_search_goes_through_its_pages(tmp_path: Path, method: str) -> None:
    search = StacSearch(collections=("c", "d e"), bbox=(-62.5, -10.25, -61, -9), datetime="2024-02/2024-03-05", max_items=23)
    with catalogue(tmp_path, simple(30), page=10, methods=(method,)) as api:
        found, refused = list_scenes([f"stac+{api.base}/api"], search=search)
    assert [ref.name for ref in found] == [f"s{number:05}" for number in range(23)]
    assert not refused
    bodies = [body for how, path, body in api.asked if "/search" in path]
    assert len(bodies) == 3
    if method == "POST":
        wanted = {"collections": ["c", "d e"], "bbox": [-62.5, -10.25, -61, -9], "limit": 23}
        wanted["datetime"] = "2024-02-01T00:00:00Z/2024-03-05T23:59:59Z"
        assert bodies[0] == wanted
        assert bodies[2] == wanted | {"token": 20}


@pytest.mark.parametrize(
    ("following", "words"),
    [
        (lambda base, _: {"href": f"{base}/api/search?token=0&limit=5"}, "in a circle"),
        (lambda base, _: {"href": f"{base}/api/search", "method": "POST", "body": {"limit": 5, "token": 0}}, "in a circle"),
        (lambda *_: {"href": "http://elsewhere.example/search"}, "leads elsewhere, to http://elsewhere.example"),
        (lambda *_: {"href": "http://127.0.0.1:9/search"}, "leads elsewhere"),
        (lambda *_: {"href": "file:///etc/passwd"}, "not on a server"),
        (lambda base, number: {"href": f"{base}/api/search?token={1000 + 5 * number}&limit=5"}, "pages without an item"),
    ],
)
def test_next_links_of_strangers_come_to_an_end(
    tmp_path: Path, following: Callable[[str, int], dict[str, Any]], words: str
) -> None:
    with catalogue(tmp_path, simple(5), page=5, following=following) as api, pytest.raises(ReadError, match=words):
        list(found_items(f"{api.base}/api", StacSearch(max_items=10_000)))


def test_what_is_no_api_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with catalogue(tmp_path) as api:
        for address, words in ((f"{api.base}/a.json", "no search link"), (f"{api.base}/gone", "404")):
            with pytest.raises(ReadError, match=words):
                list_scenes([f"stac+{address}"])
        with pytest.raises(ConfigError, match="no item"):
            list_scenes([f"stac+{api.base}/api"])
        assert list_scenes([f"stac+{api.base}/api"], may_be_empty=True) == ([], [])
    with pytest.raises(ConfigError, match="https address"):
        list_scenes(["stac+s3://bucket/x"])


def test_the_box_of_a_search_is_checked() -> None:
    assert Config.parse({"stac": {"bbox": [170, -20, -170, -10]}}).stac.bbox == (170, -20, -170, -10)
    for box in ([0, 10, 1, 5], [0, 0, 1, 95], [-200, 0, 1, 5]):
        with pytest.raises(ConfigError, match="west,south,east,north"):
            Config.parse({"stac": {"bbox": box}})


def test_ten_thousand_items_are_scenes_and_nothing_is_opened(tmp_path: Path) -> None:
    facts = {"proj:epsg": 32721, "proj:shape": [10980, 10980], "proj:transform": [10, 0, 6e5, 0, -10, 9e6], "eo:cloud_cover": 1}
    listed = [
        item(f"S2A_{number}", {key: one | {"href": f"{one['href']}?{number}"} for key, one in SENTINEL.items()}, **facts)
        for number in range(10_000)
    ]
    with catalogue(tmp_path, listed) as api:
        found, _ = list_scenes([f"stac+{api.base}/api"], search=StacSearch(bands=RGB, max_items=10_000))
    assert len(found) == 10_000
    assert found[0].told is not None
    assert [file.shape for file in found[0].told.files] == [(10980, 10980)] * 3


def test_the_command_line_maps_items_and_searches(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    write_raster(np.full((70, 80), 3, np.uint8), "a.tif")
    with catalogue(tmp_path) as api:
        items = [
            item("clear", {"visual": asset(f"{api.base}/in/a.tif")}, **{"eo:cloud_cover": 3}),
            item("cloudy", {"visual": asset(f"{api.base}/in/b.tif")}, **{"eo:cloud_cover": 80}),
        ]
        api.items += items
        (tmp_path / "item.json").write_text(json.dumps(item("local", {"x": asset("in/a.tif")})))
        inputs = [f"stac+{api.base}/api", tmp_path / "item.json"]
        more = ["--max-cloud-cover", "20", "--limit", "7", "--formats", "none"]
        done = call_cli(["segment", *inputs, "-m", identity_model.path, "-o", tmp_path / "out", *more])
        assert done.returncode == 0, done.stderr
        shown = call_cli(["inspect", f"stac+{api.base}/api", "--assets", "visual"])
        assert [line.split(",")[0].split()[-1] for line in shown.stdout.splitlines()] == ["clear", "cloudy"]
    run = json.loads((tmp_path / "out" / "clear" / "run.json").read_text())
    assert run["acquired"] == "2024-01-02T03:04:05Z"
    assert run["given"]["told"]["cloud_cover"] == 3
    assert (tmp_path / "out" / "local" / "classes.tif").is_file()
    assert not (tmp_path / "out" / "cloudy").exists()
    assert call_cli(["inspect", tmp_path / "item.json", "--json"]).stdout.count("in/a.tif") == 1


def test_many_items_are_planned_by_what_they_tell(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    """The servers of the images are not there; sizes, tiles and chunks are those of an opened scene of the same shape."""
    place = {"proj:shape": [700, 900], "proj:transform": list(TRANSFORM), "proj:epsg": 32720}
    told = [item(name, {"x": asset(f"https://images.invalid/{name}.tif")}, **place) for name in ("a", "b")]
    (tmp_path / "items.json").write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [*told, item("c", {"x": asset("https://images.invalid/c.tif")}, **{"eo:cloud_cover": 7})],
            }
        )
    )
    how = ["-m", identity_model.path, "-o", tmp_path / "out", "--dry-run", "--json", "--chunk", "512", "--tile", "128"]
    done = call_cli(["segment", tmp_path / "items.json", *how])
    assert done.returncode == 0, done.stderr
    *scenes, summed = map(json.loads, done.stdout.splitlines())
    opened = call_cli(["segment", write_raster(np.ones((700, 900), np.uint8), "a.tif"), *how])
    plan = json.loads(opened.stdout)
    assert [scene["size"] for scene in scenes] == [[700, 900], [700, 900], None]
    assert plan["size"].startswith("700 x 900 px")
    assert {scene["chunks"] for scene in scenes[:2]} == {int(plan["chunks"].split()[0])}
    assert summed["scenes"] == "3; size not known of 1"
    assert summed["pixels"] == f"{2 * 700 * 900:,}"
    waste = float(re.search(r"([\d.]+)x the pixels", plan["tiles"])[1])  # type: ignore[index]
    assert int(summed["computed"].removesuffix(" px").replace(",", "")) == pytest.approx(2 * 700 * 900 * waste, rel=0.01)
    assert "nothing was opened" in summed["sizes"]
    shown = call_cli(["segment", tmp_path / "items.json", *(word for word in how if word != "--json")])
    assert "c: 2024-01-02T03:04:05Z, size not known, 7 % clouds" in shown.stdout


def test_dates_may_be_items(write_raster: WriteRaster, tmp_path: Path) -> None:
    from pipeline.changes.run import pair_of

    write_raster(np.ones((70, 80), np.uint8), "a.tif")
    for label in ("before", "after"):
        (tmp_path / f"{label}.json").write_text(json.dumps(item(label, {"x": asset(f"in/{label}.tif")})))
    ref = pair_of([str(tmp_path / f"{label}.json") for label in ("before", "after")])
    assert ref.name == "before_to_after"
    assert [one.told is not None for one in (ref, *ref.later)] == [True, True]
    (tmp_path / "two.json").write_text(json.dumps({"type": "FeatureCollection", "features": simple(2)}))
    with pytest.raises(GeosegError, match="STAC item"):
        pair_of([str(tmp_path / "before.json"), str(tmp_path / "two.json")])
