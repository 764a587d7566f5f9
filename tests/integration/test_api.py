"""From Python: the verbs do what the commands do, with the same settings and sentences."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import front_doors
import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity
from support import LIMIT_S, ROOT, TRANSFORM, UTM, call_cli, contents, damage_by_red, patchy

import geoseg
from geoseg.errors import ConfigError, DtypeError, GeosegError, NotARasterError, OutputError, SceneError
from geoseg.procedural import Frontier

MODEL = "amazon-forest"
SETTINGS = {"min_area": "0.5ha", "smooth": 1, "tile": 256, "formats": ["geojson", "gpkg"]}
OPTIONS = ["--min-area", "0.5ha", "--smooth", "1", "--tile", "256", "--formats", "geojson,gpkg"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    Frontier(300, 400).write(folder / "scene.tif", folder / "truth.tif")
    return folder / "scene.tif"


@pytest.fixture(scope="module")
def maps(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return geoseg.segment(scene, model=MODEL, out=tmp_path_factory.mktemp("maps"), **SETTINGS)


def run(*args: str | Path) -> str:
    done = call_cli(args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_segment_gives_the_bytes_of_the_command(scene: Path, maps: Any, tmp_path: Path) -> None:
    run("segment", scene, "--model", MODEL, "--out", tmp_path, "--quiet", *OPTIONS)
    (one,) = maps
    assert (one.name, one.status, one.reason) == ("scene", "done", None)
    assert contents(one.folder) == contents(tmp_path / "scene")
    report = json.loads((tmp_path / "scene" / "run.json").read_text())
    assert one.report["classes"] == report["classes"]
    assert one.areas == {entry["name"]: entry["area_m2"] for entry in report["classes"]}
    again = geoseg.segment([scene], model=[MODEL], out=one.folder.parent, **SETTINGS)
    assert [m.status for m in again] == ["skipped"]
    assert again[0].areas == one.areas


def test_vectorize_gives_the_bytes_of_the_command(maps: Any, tmp_path: Path) -> None:
    raster, names = maps[0].folder / "classes.tif", {0: "open", 1: "wood, dense"}
    files = [tmp_path / f"api.{ending}" for ending in ("gpkg", "geojson", "fgb")]
    made = geoseg.vectorize(raster, out=files, names=names, min_area="1ha", classes=["wood, dense"])
    for file in files:
        other = tmp_path / "cli" / file.name
        other.parent.mkdir(exist_ok=True)
        options = ["--names", '0=open,1="wood, dense"', "--min-area", "1ha", "--classes", '"wood, dense"']
        run("vectorize", raster, "--out", other, *options)
        assert file.read_bytes() == other.read_bytes()
    assert made.count == len(made.polygons()) > 0


def test_a_map_can_be_opened_and_shown(maps: Any, scene: Path) -> None:
    one = maps[0]
    frame = one.polygons()
    with one.classes() as classes, one.raster("confidence") as confidence, rasterio.open(scene) as image:
        assert (classes.shape, confidence.shape) == (image.shape, image.shape)
        assert (classes.crs, frame.crs) == (image.crs, image.crs)
        burnt = rasterio.features.rasterize(
            zip(frame.geometry, frame["code"], strict=True), classes.shape, fill=255, transform=image.transform
        )
        codes = classes.read(1)
    # Smoothed, sieved polygons differ from the raster along borders and in small patches only.
    assert (burnt == codes)[codes < 254].mean() > 0.9
    html = maps._repr_html_()
    assert 'src="data:image/png;base64,iVBOR' in html
    assert "scene" in html
    assert len(repr(one)) < 300


def test_an_array_is_mapped_in_memory_as_its_file_is(scene: Path, maps: Any, tmp_path: Path, monkeypatch: Any) -> None:
    with rasterio.open(scene) as image:
        array, transform, crs = image.read(masked=True), image.transform, image.crs
    assert array.mask.any()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    one = geoseg.segment(array, transform=transform, crs=crs, model=MODEL, **SETTINGS)
    assert list(tmp_path.iterdir()) == []
    with one.classes() as found, maps[0].classes() as expected:
        np.testing.assert_array_equal(found.read(), expected.read())
        assert (found.crs, found.transform) == (expected.crs, expected.transform)
    assert one.areas == maps[0].areas
    ours, theirs = one.polygons(), maps[0].polygons()
    assert ours.geometry.equals(theirs.geometry)
    assert ours.drop(columns=["scene", "acquired", "geometry"]).equals(theirs.drop(columns=["scene", "acquired", "geometry"]))
    assert len(repr(one)) < 300
    assert "data:image/png" in one._repr_html_()
    with pytest.raises(ConfigError, match="was mapped in memory and has no folder"):
        _ = one.folder
    # Plain arrays, and the value of no data as it is given to files.
    plain = geoseg.segment(np.asarray(array.filled(0)), transform=tuple(transform)[:6], crs="EPSG:32720", model=MODEL, nodata="0")
    with plain.classes() as found, maps[0].classes() as expected:
        assert (found.read() == expected.read()).mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "options", "kind"),
    [
        ({"tile": 1000}, ["--tile", "1000"], ConfigError),
        ({"min_area": "3 acres"}, ["--min-area", "3 acres"], ConfigError),
        ({"rescale": "5,1"}, ["--rescale", "5,1"], ConfigError),
        ({"model": "no-such-model"}, ["--model", "no-such-model"], GeosegError),
        ({"out": "{scene}"}, ["--out", "{scene}"], OutputError),
        ({"scenes": "{out}/no.tif"}, ["{out}/no.tif"], ConfigError),
        ({"config": "{out}/no.toml"}, ["--config", "{out}/no.toml"], ConfigError),
    ],
)
def test_mistakes_are_told_in_the_same_sentence(
    scene: Path, tmp_path: Path, settings: dict[str, Any], options: list[str], kind: type[GeosegError]
) -> None:
    def at(text: object) -> Any:
        return text.format(scene=scene, out=tmp_path) if isinstance(text, str) else text

    given = {"scenes": scene, "model": MODEL, "out": tmp_path / "maps"} | {key: at(value) for key, value in settings.items()}
    words = [at(word) for word in options]
    base = [] if "scenes" in settings else [scene]
    for key in ("model", "out"):
        words += [] if key in settings else [f"--{key}", str(given[key])]
    with pytest.raises(kind) as error:
        geoseg.segment(given.pop("scenes"), **given)
    done = call_cli(["segment", *base, *words, "--quiet"])
    assert done.returncode != 0
    assert str(error.value) in done.stderr


def test_a_scene_that_fails_does_not_stop_the_others(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_bytes(b"no raster")
    both = geoseg.segment([tmp_path / "bad.tif", scene], model=MODEL, out=tmp_path / "maps", **SETTINGS)
    states = {one.name: one.status for one in both}
    assert states == {"bad": "failed", "scene": "done"}
    bad = next(one for one in both if one.name == "bad")
    for ask in (bad.polygons, bad.classes, lambda: bad.areas, lambda: bad.report):
        with pytest.raises(SceneError) as error:
            ask()
        assert str(error.value) == bad.reason
    assert "bad.tif" in bad._repr_html_()
    with pytest.raises(SceneError, match=r"bad\.tif"):
        geoseg.segment(tmp_path / "bad.tif", model=MODEL, out=tmp_path / "maps")


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: geoseg.segment("a.tif", model=MODEL, out="o", tiles=3),
            ConfigError,
            "tiles: no such setting; did you mean tile",
        ),
        (lambda: geoseg.vectorize("a.tif", out="o.gpkg", bands=["1"]), ConfigError, "bands: no such setting"),
        (lambda: geoseg.match("a", "b", sizes=["3 acres"]), ConfigError, "'3 acres' is not an area"),
        (lambda: geoseg.segment("a.tif", model=MODEL), ConfigError, "out: is missing"),
        (lambda: geoseg.segment("a.tif", model=MODEL, out="o", crs=UTM), ConfigError, "are those of an array"),
        (lambda: geoseg.segment(None, model=MODEL, out="o"), ConfigError, "is a NoneType; give a path"),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "c8"), model=MODEL), DtypeError, "an image is (bands, h, w)"),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "f2"), model=MODEL), DtypeError, "of float16"),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "u1"), model=MODEL, out="o"), ConfigError, "an array is mapped in memory"),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "u1"), model=MODEL, crs="EPSG:1"), ConfigError, "crs: "),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "u1"), model=MODEL, transform=[1, 2]), ConfigError, "no affine transform"),
        (lambda: geoseg.segment(np.zeros((3, 9, 9), "u1"), model=MODEL, transform=[0] * 6), ConfigError, "gives pixels no area"),
        (lambda: geoseg.segment(np.ones((3, 99, 99), "u1"), model=MODEL), SceneError, "array: "),
        (lambda: geoseg.polygonize(np.zeros((2, 9, 9), "u1"), TRANSFORM, UTM), DtypeError, "a class raster is (h, w)"),
        (lambda: geoseg.polygonize(np.full((9, 9), 300), TRANSFORM, UTM), DtypeError, "values from 300 to 300"),
        (lambda: geoseg.polygonize(np.zeros((9, 9)), TRANSFORM, UTM), DtypeError, "is of float64"),
        (lambda: geoseg.estimate_area([0, 0, 0.5], [0, 1, 1], [9]), ConfigError, "whole numbers"),
        (lambda: geoseg.estimate_area([0, 0, 1], [0, 1, 1], [9]), ConfigError, "there are 1 strata"),
        (lambda: geoseg.open_scene(__file__), NotARasterError, "test_api.py"),
        (lambda: geoseg.area("a.tif", "s.gpkg", column="x"), ConfigError, "say how --reference is read"),
        (lambda: geoseg.sample("a.tif", out="s.shp"), ConfigError, "does not end in .gpkg"),
        (lambda: geoseg.deliver("a", out="b", event="x", cell="9"), ConfigError, "--cell: '9' is not a distance"),
        (lambda: geoseg.load("a", skema="x"), ConfigError, "skema: no such setting; did you mean schema"),
        (lambda: geoseg.review("a"), ConfigError, "holds neither a map"),
        (lambda: geoseg.train({"loop": 3}, out="m", set={"loop.steps": 3}), ConfigError, "loop is not a table"),
    ],
)
def test_what_cannot_work_is_told(call: Any, kind: type[GeosegError], words: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)
    assert "geoseg-" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_importing_loads_nothing_heavy() -> None:
    code = """
import sys
import geoseg
ours = {"geoseg", "geoseg.addresses", "geoseg.errors", "geoseg.grid", "geoseg.redaction", "geoseg.windows"}
more = {m for m in sys.modules if m.split(".")[0] not in sys.stdlib_module_names and m != "__main__"} - ours
heavy = ("geoseg", "pipeline", "numpy", "rasterio", "torch", "dask", "click", "pydantic")
print(sorted(m for m in more if m.split(".")[0] in heavy))
assert not hasattr(geoseg, "segments")
assert set(dir(geoseg)) == set(geoseg.__all__)
verb = geoseg.segment
print(sorted({"numpy", "rasterio", "torch", "dask", "click", "pydantic"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S, check=True)
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("form", ["pipeline.py", "pipeline/__init__.py"])
def test_a_file_that_hides_the_package_is_told_and_not_run(tmp_path: Path, form: str) -> None:
    (tmp_path / form).parent.mkdir(exist_ok=True)
    (tmp_path / form).write_text("raise SystemExit('the stranger was run')")
    code = (
        "import geoseg\nprint(geoseg.polygonize.__name__)\ntry:\n    geoseg.segment\n"
        "except geoseg.GeosegError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=LIMIT_S, check=True)
    first, second = done.stdout.splitlines()
    assert first == "polygonize"
    assert second == (
        f"{tmp_path / form}: hides geoseg's own package 'pipeline', since Python finds it first; rename it, or start Python in "
        "another folder"
    )


def test_geopandas_is_asked_for_where_it_is_missing(maps: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "geopandas", None)
    for call in (maps[0].polygons, lambda: geoseg.polygonize(np.zeros((3, 3), "u1"), TRANSFORM, UTM)):
        with pytest.raises(ConfigError, match=r"^polygons as a GeoDataFrame need geopandas; pip install 'geoseg\[notebook\]'$"):
            call()


def test_keywords_are_those_of_the_commands() -> None:
    assert front_doors.TARGET.read_text(encoding="utf-8") == front_doors.source()
    verbs = set(geoseg.__all__) - {"Chunk", "GeosegError", "Grid", "Tile", "Window", "__version__"}
    assert verbs - {"estimate_area", "load_model", "open_scene", "polygonize"} == set(front_doors.VERBS) | front_doors.GROUPS
    from pipeline.config.sections import Config

    sections = ("scene", "area", "stac", "grid", "infer", "vector", "mosaic", "run")
    fields = {key for name in sections for key in type(getattr(Config(), name)).model_fields}
    assert set(front_doors.keywords("segment")) == fields | {"config", "mosaic", "composite", "best", "period", "least"}


DEFAULTS = [
    ("damage", "pipeline.damage.settings:CountOptions", {"cell_m": "cell_m", "tolerance_m": "tolerance_m"}),
    ("evaluate", "pipeline.evaluate.settings:TruthOptions", {"outside": "outside", "plain": "plain", "column": "column"}),
    ("evaluate", "pipeline.evaluate.run:evaluate", {"allow_unpaired": "allow_unpaired"}),
    ("evaluate", "pipeline.evaluate.settings:MeasureOptions", {"seed": "seed", "boundary": "boundary"}),
    ("match", "pipeline.evaluate.settings:MatchOptions", {"iou": "iou", "sizes": "sizes", "score": "score"}),
    (
        "calibrate",
        "pipeline.calibrate.calibrate_settings:CalibrationSettings",
        {"method": "method", "holdout": "holdout", "seed": "seed"},
    ),
    (
        "quantize",
        "pipeline.calibrate.calibrate_settings:QuantizationSettings",
        {"crops": "crops", "column": "column", "seed": "seed"},
    ),
    (
        "sample",
        "pipeline.sample.settings:SampleSettings",
        {"target_se": "target_se", "allocation": "allocation", "least": "least", "buffer_m": "buffer_m", "blocks": "block"},
    ),
    ("area", "pipeline.sample.estimate:estimate_areas", {"correction": "correction"}),
    ("deliver", "pipeline.deliver.terms:Terms", {"cell": "cell_m", "radius": "radius_m", "interest": "interest", "code": "code"}),
    ("load", "pipeline.load.run:load", {"schema": "schema", "project": "project", "crs": "crs"}),
    ("screen", "pipeline.screen.settings:ScreenOptions", {"at_least": "at_least"}),
]


@pytest.mark.parametrize(("command", "place", "names"), DEFAULTS, ids=[f"{c}-{p.split(':')[1]}" for c, p, _ in DEFAULTS])
def test_defaults_of_functions_are_those_of_their_commands(command: str, place: str, names: dict[str, str]) -> None:
    module, _, name = place.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    options = {p.name: p.default for p in importlib.import_module(f"pipeline.cli.{command}").command.params}
    for option, parameter in names.items():
        here, there = options[option], parameters[parameter].default
        if isinstance(here, str) and isinstance(there, float):
            here = float(here.removesuffix("m"))
        if isinstance(there, tuple):
            here = tuple(type(there[0])(part.removesuffix("m2") if option == "sizes" else part) for part in here.split(","))
        given = None if str(here) == "Sentinel.UNSET" else here
        assert (bool(given) if isinstance(there, bool) else given) == there, option


def where(region: tuple[int, Any]) -> tuple[float, ...]:
    return region[0], *region[1].bounds, region[1].area


def test_polygons_of_an_array_cover_it() -> None:
    classes = patchy(70, 90, 4)
    classes[10:20, 10:20] = 255
    classes[30:40, 30:40] = 254
    frame = geoseg.polygonize(classes, TRANSFORM, UTM)
    expected = rasterio.features.shapes(classes, mask=classes < 254, transform=TRANSFORM)
    theirs = sorted(((int(value), shapely.geometry.shape(one)) for one, value in expected), key=where)
    ours = sorted(zip(frame["code"], frame.geometry, strict=True), key=where)
    assert [code for code, _ in ours] == [code for code, _ in theirs]
    # The same points; rings may be wound together otherwise where regions touch themselves at a corner.
    assert all(a.equals(b) for (_, a), (_, b) in zip(ours, theirs, strict=True))
    assert frame["pixels"].sum() == (classes < 254).sum()
    np.testing.assert_allclose(frame.geometry.area, frame["pixels"] * 100.0)
    # The scale of UTM is between 0.9996 and 1.001.
    assert frame["area_m2"].to_numpy() == pytest.approx(frame.geometry.area.to_numpy(), rel=2e-3)
    assert geoseg.polygonize(classes, TRANSFORM, None)["area_m2"].isna().all()
    assert set(geoseg.polygonize(classes, TRANSFORM, UTM, classes=[2])["code"]) == {2}


def test_areas_are_those_of_olofsson_and_others() -> None:
    # Olofsson et al. 2014, tables 8 and 9: rows are classes of the map, columns of the reference.
    counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    stratum, reference = (np.repeat(k.ravel(), counts.ravel()) for k in np.indices(counts.shape))
    size = [200_000, 150_000, 3_200_000, 6_450_000]
    found = geoseg.estimate_area(stratum, reference, size, total=sum(size) * 0.09, correction=False)
    assert found[0].value == pytest.approx(21_158, abs=1)
    assert 1.96 * found[0].se == pytest.approx(6_158, abs=2)
    assert sum(one.value for one in found) == pytest.approx(sum(size) * 0.09)


def test_open_scene_and_load_model_stand_alone(scene: Path) -> None:
    opened = geoseg.open_scene(scene)
    assert (opened.name, opened.height, opened.width, len(opened.bands)) == ("scene", 300, 400, 3)
    assert geoseg.load_model(MODEL).card.name == MODEL


def test_maps_are_read_as_the_commands_read_them(scene: Path, maps: Any, tmp_path: Path) -> None:
    folder, truth = maps[0].folder, scene.parent / "truth.tif"
    classes = folder / "classes.tif"
    measured = geoseg.evaluate(folder, truth, boundary=["2px"], map={"254": "unlabelled"}, seed=3)
    options = ["--boundary", "2px", "--map", "254=unlabelled", "--seed", "3"]
    run("evaluate", "--pred", folder, "--truth", truth, "--out", tmp_path / "evaluation", *options)
    document = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert json.loads(json.dumps(measured.document)) == document

    matched = geoseg.match(folder, folder / "polygons.gpkg", sizes=["1ha"], out=tmp_path / "a.json", pairs=tmp_path / "a.csv")
    run("match", folder, folder / "polygons.gpkg", "--sizes", "1ha", "--out", tmp_path / "b.json", "--pairs", tmp_path / "b.csv")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert matched.document["figures"]["f1"] == 1

    drawn = geoseg.sample(classes, out=tmp_path / "a.gpkg", size=60, least=20, seed=5)
    run("sample", classes, "--out", tmp_path / "b.gpkg", "--size", "60", "--least", "20", "--seed", "5")
    assert drawn["units"] == 60
    estimated = geoseg.area(classes, tmp_path / "a.gpkg", reference=str(truth), nonresponse="drop", table=tmp_path / "a_area.csv")
    options = ["--reference", truth, "--nonresponse", "drop", "--table", tmp_path / "b_area.csv", "--out", tmp_path / "area.json"]
    run("area", "--map", classes, "--sample", tmp_path / "b.gpkg", *options)
    assert (tmp_path / "a_area.csv").read_bytes() == (tmp_path / "b_area.csv").read_bytes()
    assert json.loads((tmp_path / "area.json").read_text())["by_class"] == json.loads(json.dumps(estimated["by_class"]))

    screened = geoseg.screen(folder, "forest", out=tmp_path / "a.geojson", at_least=0.2)
    run("screen", folder, "--class", "forest", "--out", tmp_path / "b.geojson", "--at-least", "0.2")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert 0 < screened.cells <= screened.seen

    given = {"event": "A frontier", "code": "T1", "date": "2024-01-01", "interest": ["forest"]}
    delivered = geoseg.deliver(folder, out=tmp_path / "one", **given)
    options = [word for key, text in given.items() for word in (f"--{key}", text if isinstance(text, str) else text[0])]
    run("deliver", folder, "--out", tmp_path / "two", *options)
    sums = {line for one in ("one", "two") for line in next((tmp_path / one).glob("*.sha256")).read_text().splitlines()}
    assert len(sums) == len(next((tmp_path / "one").glob("*.sha256")).read_text().splitlines())
    assert dataclasses.is_dataclass(delivered)


def test_reviews_are_those_of_the_command(maps: Any, tmp_path: Path) -> None:
    """The same decisions by the methods and by the commands make the same version."""
    folders = [tmp_path / name / "scene" for name in ("api", "cli")]
    for folder in folders:
        shutil.copytree(maps[0].folder, folder)
    table = maps[0].polygons()
    first, second = (int(table.loc[table["code"] == code, "id"].iloc[0]) for code in (0, 1))
    review = geoseg.review(folders[0], name="ann")
    with pytest.raises(ConfigError, match="polygon 999999 of version 0 is not on this map"):
        review.decide({"action": "accept", "polygon": first}, {"action": "accept", "polygon": 999_999})
    with pytest.raises(ConfigError, match="class 9 is none of 0, 1"):
        review.decide({"action": "class", "polygon": first, "class": 9})
    assert review.decide() == 0
    assert (
        review.decide({"action": "class", "polygon": first, "class": 1}, {"action": "reject", "polygon": second, "reason": "x"})
        == 2
    )
    # What was decided goes through a work file into the copy.
    assert review.export(tmp_path / "work.gpkg").done == 2
    run("review", "import", tmp_path / "work.gpkg", folders[1], "--as", "ann")
    made = review.apply()
    run("review", "apply", folders[1])
    assert made.is_new
    assert made.folder == folders[0] / "reviews" / "1"
    assert not review.apply().is_new
    ours, theirs = (rasterio.open(folder / "reviews" / "1" / "classes.tif").read(1) for folder in folders)
    assert (ours == theirs).all()
    assert (ours != rasterio.open(folders[0] / "classes.tif").read(1)).any()
    again = geoseg.review(made.folder)
    assert again.import_work(again.export(tmp_path / "again.gpkg").project.with_suffix(".gpkg")).recorded == 0


def test_changes_are_those_of_the_command(scene: Path, tmp_path: Path) -> None:
    Frontier(300, 400, years=9, acquired="2032-07-14").write(tmp_path / "later.tif")
    dates = [scene, tmp_path / "later.tif"]
    found = geoseg.deforestation(dates, model=MODEL, out=tmp_path / "a", min_area="0.5ha")
    run("deforestation", *dates, "--model", MODEL, "--out", tmp_path / "b", "--min-area", "0.5ha", "--quiet")
    assert found.status == "done"
    assert contents(found.folder) == contents(tmp_path / "b" / found.folder.name)
    assert found.document("changes.json")["classes"]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: Any) -> None:
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            # What a machine has put out is not kept.
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert names["found"].document["figures"]["miou"] > 0.7
    assert len(names["polygons"]) > 5
    # The figures of the formulas of a stratified sample.
    count = names["classes"]
    assert names["forest"].value == pytest.approx(0.1 * (count == 0).sum() + 0.95 * (count == 1).sum())


@pytest.mark.slow
def test_models_are_made_as_the_commands_make_them(scene: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("images", "labels")]
    for folder, name in zip(folders, ("scene.tif", "truth.tif"), strict=True):
        folder.mkdir()
        (folder / "scene.tif").write_bytes((scene.parent / name).read_bytes())
    images, labels = folders
    made = geoseg.calibrate(MODEL, images=images, labels=labels, out=tmp_path / "a", method="temperature", tile=256)
    options = ["--method", "temperature", "--tile", "256", "--out", tmp_path / "b"]
    run("calibrate", MODEL, "--images", images, "--labels", labels, *options)
    assert (tmp_path / "a" / "card.json").read_bytes() == (tmp_path / "b" / "card.json").read_bytes()
    assert made.method in ("temperature", "before")


@pytest.mark.slow
def test_damage_is_graded_as_the_command_grades_it(tmp_path: Path) -> None:
    damage_by_red(tmp_path / "model")
    image = np.full((3, 120, 160), 60, np.uint8)
    image[0, 20:60, 30:70], image[0, 70:100, 80:140] = 100, 200
    for name, pixels in (("pre", np.full_like(image, 60)), ("post", image)):
        profile = {"driver": "GTiff", "height": 120, "width": 160, "count": 3, "dtype": "uint8"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", crs=UTM, transform=TRANSFORM, photometric="RGB", **profile) as file:
            file.write(pixels)
    boxes = [shapely.box(30, 20, 70, 60), shapely.box(80, 70, 140, 100)]
    placed = [shapely.affinity.affine_transform(box, [10, 0, 0, -10, TRANSFORM.c, TRANSFORM.f]) for box in boxes]
    geopandas.GeoSeries(placed, crs=UTM).to_file(tmp_path / "houses.gpkg")
    found = geoseg.grade_damage(
        tmp_path / "pre.tif",
        tmp_path / "post.tif",
        model=tmp_path / "model",
        out=tmp_path / "a",
        footprints=tmp_path / "houses.gpkg",
    )
    options = ["--footprints", tmp_path / "houses.gpkg", "--quiet"]
    run("damage", tmp_path / "pre.tif", tmp_path / "post.tif", "--model", tmp_path / "model", "--out", tmp_path / "b", *options)
    other = tmp_path / "b" / found.folder.name
    assert (found.status, found.files) == ("done", tuple(sorted(path.name for path in other.iterdir() if path.is_file())))
    assert (found.folder / "buildings.gpkg").read_bytes() == (other / "buildings.gpkg").read_bytes()
    assert len(found.polygons()) == 2


@pytest.mark.slow
def test_a_recipe_is_trained_from_a_dictionary(scene: Path, tmp_path: Path, monkeypatch: Any) -> None:
    text = """
name = "forest"
description = "Forest and the rest"
bands = ["red", "green", "blue"]
classes = [{name = "other", color = "#e8d8a0"}, {name = "forest", color = "#1a7837"}]
data = [{images = ["scene.tif"], labels = "truth.tif"}]
split = {by = "block", val = 0.3, block = 128}
sample = {chip = 64, batch = 2}
loop = {steps = 500, check = 2}
"""
    (scene.parent / "train.toml").write_text(text)
    recipe = tomllib.loads(text)
    with pytest.raises(ConfigError, match="stepps"):
        geoseg.train(recipe, out=tmp_path / "no", set={"loop.stepps": 3})
    monkeypatch.chdir(scene.parent)
    made = geoseg.train(recipe, out=tmp_path / "a", set={"loop.steps": 2})
    run("train", scene.parent / "train.toml", "--out", tmp_path / "b", "--set", "loop.steps=2", "--quiet")
    assert (made.card.name, made.path) == ("forest", tmp_path / "a")
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()
    assert recipe["loop"]["steps"] == 500
