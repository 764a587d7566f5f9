"""Changes between ready class maps: the raster is that of mapping both dates in one go, and rules, areas and zones with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from support import TRANSFORM, UTM, call_cli, patchy, save

import geoseg
from geoseg.models.model_folder import Model

SHAPE = 420, 500
WriteDate = Callable[..., Path]
RULES: list[dict[str, Any]] = [
    {},
    {"min_area": "0.5ha"},
    {"least_area": "1ha", "least_width": 40.0, "min_area": "0.2ha"},
    {"aoi": f"{UTM}:431000,8926000,434000,8929000"},
]


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Forest where a pixel is greener than red, without calibration: its probability is half where the two are the same."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[0.05, -0.05, 0.0], [-0.05, 0.05, 0.0]])[:, :, None, None]
        network.bias[:] = torch.tensor([0.01, 0.0])
    classes = [{"value": 0, "name": "other", "color": "#e8d8a0"}, {"value": 1, "name": "forest", "color": "#1a7837"}]
    return save(network, 3, 2, tmp_path_factory.mktemp("models") / "greener", classes=classes)


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two images of one grid with holes without data, in other places."""
    folder, found = tmp_path_factory.mktemp("dates"), []
    for number, year in enumerate((2015, 2020)):
        image = np.stack([patchy(*SHAPE, 200, seed=10 * number + band, size=4) for band in range(3)]) + np.uint8(20)
        image[:, 40 * number : 40 * number + 30, 100:200] = 0
        image[:, 300:340, :60] = 0
        facts: dict[str, Any] = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": UTM, "transform": TRANSFORM, "nodata": 0}
        path = folder / f"scene_{year}-07-01.tif"
        with rasterio.open(path, "w", height=SHAPE[0], width=SHAPE[1], **facts) as file:
            file.write(image)
        found.append(path)
    return found


@pytest.fixture(scope="module")
def maps(dates: list[Path], model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Their class maps."""
    found = geoseg.segment(dates, model=model.path, out=tmp_path_factory.mktemp("maps"), formats=())
    return [one.folder / "classes.tif" for one in found]


@pytest.fixture(scope="module")
def unsure(dates: list[Path], model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same without confidence."""
    found = geoseg.segment(dates, model=model.path, out=tmp_path_factory.mktemp("unsure"), formats=(), confidence=False)
    return [one.folder / "classes.tif" for one in found]


@pytest.mark.parametrize("rules", RULES)
def test_the_raster_is_that_of_mapping_both_dates(
    dates: list[Path], maps: list[Path], model: Model, tmp_path: Path, rules: dict[str, Any]
) -> None:
    whole = geoseg.deforestation(
        dates, model=model.path, out=tmp_path / "whole", coregister="off", change_rate=0.5, formats=("gpkg",), **rules
    )
    ready = geoseg.deforestation(maps, from_classes=True, out=tmp_path / "ready", change_rate=0.5, formats=("gpkg",), **rules)
    ours, theirs = read(ready.folder / "classes.tif"), read(whole.folder / "classes.tif")
    assert (ours == theirs).all()
    assert {0, 1, 2, 3, 254, 255} >= {*np.unique(ours).tolist()} >= {1, 2, 3, 255}
    here, there = (json.loads((one.folder / "changes.json").read_text()) for one in (ready, whole))
    assert here["classes"] == there["classes"]
    assert here["intervals"] == there["intervals"]
    one, other = (some.polygons() for some in (ready, whole))
    same = ["code", "class", "since", "until", "before", "after", "area_ha"]
    assert one[[name for name in same if name in one]].equals(other[[name for name in same if name in other]])
    assert one.geometry.geom_equals(other.geometry).all()
    assert "Area by class" in (ready.folder / "report.html").read_text()
    check_companions(ready.folder, whole.folder)
    # As sure as mapping both, but for what rounding to percents takes from each date.
    sure, wanted = (read(one.folder / "confidence.tif").astype(int) for one in (ready, whole))
    known = ours <= 253
    assert (sure[~known] == ours[~known]).all()
    assert (wanted[~known] == ours[~known]).all()
    assert abs(sure - wanted)[known].max() <= 2
    assert abs(one["confidence"] - other["confidence"]).max() <= 1
    assert abs(one["confidence_p10"] - other["confidence_p10"]).max() <= 2


def check_companions(ready: Path, whole: Path) -> None:
    """What users expect beside a map: coverage and STAC item as of mapped dates, a picture, and which model made the dates."""
    here, there = (geopandas.read_file(folder / "coverage.geojson") for folder in (ready, whole))
    assert sorted(here["class"].unique()) == sorted(there["class"].unique())
    for name in here["class"].unique():
        ours, theirs = (one.geometry[one["class"] == name].union_all() for one in (here, there))
        assert shapely.symmetric_difference(ours, theirs).area < 1e-9 * theirs.area
    item, other = (json.loads((folder / "item.json").read_text()) for folder in (ready, whole))
    for key in ("geometry", "bbox", "stac_version"):
        assert item[key] == other[key]
    files = {asset["href"].removeprefix("./") for asset in item["assets"].values()}
    assert files == {"classes.tif", "confidence.tif", "polygons.gpkg", "coverage.geojson", "preview.png"}
    assert all((ready / name).is_file() for name in files)
    with rasterio.open(ready / "preview.png") as picture:
        assert picture.width > 3 * 100
    made = json.loads((ready / "run.json").read_text())["dates"]
    assert [one["made_by"]["geoseg_scene"] for one in made] == ["scene_2015-07-01", "scene_2020-07-01"]
    assert all("greener" in one["made_by"]["geoseg_model"] for one in made)


def test_confidence_is_there_where_all_maps_have_one(maps: list[Path], unsure: list[Path], tmp_path: Path) -> None:
    """It changes nothing else; the folders of finished maps are taken, too."""
    args = ["deforestation", "--from-classes", "--of", "forest", "-o"]
    runs = {
        "sure": [path.parent for path in maps],
        "none": unsure,
        "one": [maps[0], unsure[1]],
        "untold": [*maps, "--no-confidence"],
        "again": maps,
        "strange": [maps[0], tmp_path / "strange" / "classes.tif"],
    }
    # The confidence of another map beside a map.
    shutil.copytree(unsure[1].parent, tmp_path / "strange")
    shutil.copy(maps[0].with_name("confidence.tif"), tmp_path / "strange")
    found = {}
    for name, given in runs.items():
        done = call_cli([*args, tmp_path / name, *given])
        assert done.returncode == 0, done.stderr
        (found[name],) = (path.parent for path in (tmp_path / name).rglob("run.json") if path.parent.parent == tmp_path / name)
        note = f"{given[1]} has no confidence of its own beside it, as {given[0]} has: the changes have none"
        partly = name in ("one", "strange")
        assert (note in done.stderr) == partly
        record = json.loads((found[name] / "run.json").read_text())
        assert record["warnings"] == [note] * partly
        assert (note in (found[name] / "report.html").read_text()) == partly
        assert (found[name] / "confidence.tif").exists() == (name in ("sure", "again"))
        confidence = geopandas.read_file(found[name] / "polygons.gpkg")["confidence"]
        assert (confidence.between(0, 100) if name in ("sure", "again", "untold") else confidence.isna()).all()
        page = (found[name] / "report.html").read_text()
        assert ("there is no confidence of changes" in page) == (name == "none")
        assert ("Confidence is the probability of what was mapped" in page) == (name in ("sure", "again"))
        assert ("the run was told to write none" in page) == (name == "untold")
    for name, folder in found.items():
        for file in ("classes.tif", "changes.csv", "coverage.geojson", "preview.png", "classes.qml"):
            assert (folder / file).read_bytes() == (found["none"] / file).read_bytes(), (name, file)
    for file in ("confidence.tif", "polygons.gpkg", "report.html", "item.json"):
        assert (found["sure"] / file).read_bytes() == (found["again"] / file).read_bytes()
    told = call_cli(["deforestation", maps[0].parents[1], unsure[1], "--from-classes", "-o", tmp_path / "several"])
    assert (told.returncode, "has 2 class rasters" in told.stderr) == (2, True)
    told = call_cli(["deliver", found["sure"], "-o", tmp_path / "delivery", "--event", "Test"])
    assert told.returncode == 0, told.stderr


def write(path: Path, data: np.ndarray, transform: Any = TRANSFORM, **facts: Any) -> Path:
    given = {"driver": "GTiff", "count": 1, "dtype": data.dtype, "crs": UTM, "transform": transform} | facts
    with rasterio.open(path, "w", height=data.shape[0], width=data.shape[1], **given) as file:
        file.write(data, 1)
    return path


def test_maps_of_other_programs_on_other_grids(tmp_path: Path) -> None:
    before, after = (patchy(200, 240, 3, seed=k, size=6) for k in (1, 2))
    before, after = before * 100 + 54, after * 100 + 54  # 54, 154 and 254, of which the last is the class
    before[:20, :50] = 255
    coarse = np.repeat(np.repeat(after[5:185:2, 10:210:2], 1, 0), 1, 1)
    a = write(tmp_path / "a_2001-01-01.tif", before, nodata=255)
    b = write(tmp_path / "b_2004-01-01.tif", coarse, TRANSFORM @ rasterio.Affine.translation(10, 5) @ rasterio.Affine.scale(2))
    zones = geopandas.GeoDataFrame(geometry=[shapely.box(430_000, 8_928_000, 432_400, 8_930_000)], crs=UTM)
    zones.to_file(tmp_path / "zones.gpkg")
    done = call_cli(
        ["deforestation", a, b, "--from-classes", "--of", "254", "--zones", tmp_path / "zones.gpkg", "-o", tmp_path / "out"]
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    there = np.full((200, 240), -1)
    there[5:185, 10:210] = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    wanted = np.select(
        [(there < 0) & (before == 255), (there < 0) | (before == 255), there == 254],
        [255, 254, np.where(before == 254, 1, 3)],
        np.where(before == 254, 2, 0),
    )
    found = read(folder / "classes.tif")
    assert (found == wanted).all()
    document = json.loads((folder / "changes.json").read_text())
    assert [row["pixels"] for row in document["classes"]][:4] == [int((wanted == k).sum()) for k in range(4)]
    assert document["intervals"][0]["first_loss_ha"] == pytest.approx((wanted == 2).sum() / 100, rel=2e-3)
    assert document["zones"][0]["area_ha"]["class 254 loss"] == pytest.approx((wanted == 2).sum() / 100, rel=2e-3)
    # Done again without zones, or with others, none of the earlier ones are left.
    before = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(("classes", "polygons", "changes.csv"))
    }
    geoseg.deforestation([a, b], out=tmp_path / "out", from_classes=True, of="254")
    assert not list(folder.glob("zones*"))
    assert "zones" not in json.loads((folder / "changes.json").read_text())
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert geoseg.deforestation([a, b], out=tmp_path / "out", from_classes=True, of="254").status == "skipped"
    geoseg.deforestation([a, b], out=tmp_path / "out", from_classes=True, of="254", zones=tmp_path / "zones.gpkg")
    assert json.loads((folder / "changes.json").read_text())["zones"] == document["zones"]
    assert not list(folder.glob("*.kept-*"))


def test_areas_that_are_not_known_are_none(maps: list[Path], tmp_path: Path) -> None:
    """Of no data, and of maps without a place on Earth, of which pixels are told."""
    placed = geoseg.deforestation(maps, out=tmp_path / "placed", from_classes=True, of="forest")
    entries = json.loads((placed.folder / "changes.json").read_text())["classes"]
    counts = {entry["name"]: entry["pixels"] for entry in entries}
    assert counts["no data"] == (read(placed.folder / "classes.tif") == 255).sum() > 0
    assert {entry["name"] for entry in entries if entry["area_ha"] is None} == {"no data"}
    plain = []
    for path in maps:
        plain.append(tmp_path / path.parent.name / "classes.tif")
        plain[-1].parent.mkdir()
        with rasterio.open(path) as source, rasterio.open(plain[-1], "w", **_without_place(source.profile)) as target:
            target.write(source.read())
            target.update_tags(1, **source.tags(1))
    args = ["deforestation", *plain, "--from-classes", "--of", "forest", "--pixel-coords", "--out", tmp_path / "plain"]
    done = call_cli(args)
    assert done.returncode == 0, done.stderr
    assert " ha" not in done.stdout
    for name, pixels in counts.items():
        assert not pixels or f"  {name:40}{pixels:16,} px" in done.stdout
    (path,) = (tmp_path / "plain").rglob("changes.json")
    document = json.loads(path.read_text())
    assert [entry["area_ha"] for entry in document["classes"] if entry["pixels"]] == [None] * sum(map(bool, counts.values()))
    # No losses of zero hectares either.
    assert "intervals" not in document


def _without_place(profile: Any) -> dict[str, Any]:
    return {key: value for key, value in profile.items() if key not in ("crs", "transform")}


def test_a_series_has_the_first_change(tmp_path: Path) -> None:
    states = np.array(np.meshgrid(*[[0, 1, 254]] * 4)).reshape(4, -1)
    paths = [
        write(tmp_path / f"m_{2000 + 5 * t}-01-01.tif", np.repeat(row[None], 4, 0).astype(np.uint8), nodata=255)
        for t, row in enumerate(states)
    ]
    for path in paths:
        with rasterio.open(path, "r+") as file:
            file.update_tags(geoseg_scene=path.stem)
            file.update_tags(1, class_0="other", class_1="forest")
    found = geoseg.deforestation(paths, from_classes=True, out=tmp_path / "out", formats=())
    for state, code in zip(states.T.tolist(), read(found.folder / "classes.tif")[0].tolist(), strict=True):
        known = [(t, s) for t, s in enumerate(state) if s != 254]
        if len(known) < 2:
            assert code == 254
            continue
        change = next((k for k in range(len(known) - 1) if known[k][1] != known[k + 1][1]), None)
        if change is None:
            assert code == known[0][1]
        else:
            first, last = known[change][0], known[change + 1][0]
            steps = range(first, last) if known[change][1] else range(first + 3, last + 3)
            assert code - 2 in steps


def test_a_loss_of_zero_is_told_where_nothing_was_compared(tmp_path: Path) -> None:
    codes = patchy(40, 60, 2, seed=1, size=8)
    facts: dict[str, Any] = {"driver": "GTiff", "count": 1, "crs": UTM, "transform": TRANSFORM, "height": 40, "width": 60}

    def write(name: str, values: np.ndarray, **more: Any) -> Path:
        with rasterio.open(tmp_path / name, "w", dtype=values.dtype.name, **(facts | more)) as file:
            file.write(values, 1)
        return tmp_path / name

    first = write("m_2015-01-01.tif", codes)
    second = write("m_2020-01-01.tif", np.where(np.indices(codes.shape).sum(axis=0) == 0, 1 - codes, codes).astype(np.uint8))
    hidden = write("h_2020-01-01.tif", np.full_like(codes, 9), nodata=9)
    for of, later, said in (
        ("1", hidden, "no pixel is known at two dates, so that nothing was compared"),
        ("7", second, "no pixel of any date is class 7, so that nothing can be lost: --of"),
        ("1", second, None),
    ):
        done = call_cli(["deforestation", first, later, "--from-classes", "--of", of, "-o", tmp_path / "out", "--overwrite"])
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / "out").glob(f"*_to_{later.stem}")
        warnings = json.loads((folder / "changes.json").read_text())["warnings"]
        assert [said in note for note in warnings] == ([True] if said else []), warnings
        assert said is None or (said in done.stderr and said in (folder / "report.html").read_text())
    wide = codes.astype(np.uint16)
    wide[7, 11] = 300
    done = call_cli(
        ["deforestation", first, write("w_2020-01-01.tif", wide), "--from-classes", "--of", "1", "-o", tmp_path / "out"]
    )
    assert "a value of 300 at row 7, column 11; class codes are whole numbers" in done.stderr


def test_what_means_nothing_here_is_one_sentence(maps: list[Path], tmp_path: Path) -> None:
    out = ["-o", tmp_path / "out"]
    for args, said in (
        ([*maps, "--from-classes", "--clouds", "auto"], "scene.clouds: has no meaning for ready class maps"),
        ([*maps, "--from-classes", "--model", "amazon-forest"], "give either a model, or ready class maps"),
        ([*maps], "give either a model, or ready class maps"),
        ([maps[0], "--from-classes"], "1 class map; give at least two"),
        ([*maps, "--from-classes", "--of", "water"], "has no class 'water'; it has 0 other, 1 forest"),
        ([maps[0], maps[0], "--from-classes"], "is given twice; two dates are two files"),
        ([maps[0], maps[0].parent, "--from-classes"], "is given twice; two dates are two files"),
        ([maps[1], maps[0], "--from-classes"], "(2015-07-01) is older than"),
        ([*maps, "--from-classes", "--acquired", "2020-01-01,2019-12-31"], "(2019-12-31) is older than"),
        ([*maps, "--from-classes", "--acquired", "2020-01-01,2020-01-01"], "two of the dates are the same"),
    ):
        done = call_cli(["deforestation", *args, *out])
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert not (tmp_path / "out").exists()
    args = ["deforestation", *maps, "--from-classes", *out]
    assert call_cli(args).returncode == 0
    (folder,) = (tmp_path / "out").iterdir()
    before = (folder / "run.json").stat().st_mtime_ns
    assert call_cli(args).returncode == 0
    assert (folder / "run.json").stat().st_mtime_ns == before
    assert "--overwrite" in call_cli([*args, "--min-area", "1ha"]).stderr
    # A copy of a date is no other date, as of images.
    copy = Path(shutil.copy(maps[0], tmp_path / "copy.tif"))
    for beside in maps[0].parent.glob("classes.tif.*"):
        shutil.copy(beside, tmp_path / f"copy.tif{beside.name.removeprefix('classes.tif')}")
    done = call_cli(["deforestation", maps[0], copy, "--from-classes", "--acquired", "2015,2020", "-o", tmp_path / "copies"])
    assert done.returncode == 0, done.stderr
    assert "holds the same bytes as" in done.stderr
    assert "holds the same bytes as" in next((tmp_path / "copies").rglob("report.html")).read_text()
