"""The command line: quick to answer, clear about mistakes, free of torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, ROOT, WriteRaster, call_cli, patchy

from geoseg.models.model_folder import Model

NO_TORCH = """
import sys
from pipeline.cli import run
code = run(sys.argv[1:])
heavy = {"torch", "torchvision", "segmentation_models_pytorch", "prefect", "distributed", "scipy"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\nfrom pipeline.cli import run\nassert run(['--help']) == 0\n"
        "heavy = {'numpy', 'rasterio', 'pydantic', 'torch', 'onnxruntime', 'dask', 'shapely', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT, timeout=LIMIT_S)


def test_a_whole_run_without_torch(tmp_path: Path, forest_data: Path) -> None:
    scene = min((forest_data / "val" / "images").glob("*.tif"))
    formats = "geojson,gpkg,fgb,parquet"
    command = [
        sys.executable,
        "-c",
        NO_TORCH,
        "segment",
        str(scene),
        "-m",
        "amazon-forest",
        "-o",
        str(tmp_path),
        "--formats",
        formats,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert {p.suffix for p in (tmp_path / scene.stem).glob("polygons.*")} == {".geojson", ".gpkg", ".fgb", ".parquet", ".qml"}


AT_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize(
    ("package", "module"), [("pipeline", "click"), ("geoseg", "pipeline.cli.streams"), ("pipeline", "numpy")]
)
def test_ctrl_c_while_modules_are_imported_leaves_no_trace(tmp_path: Path, package: str, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    done = subprocess.run(
        [sys.executable, "-m", package, "inspect", "amazon-forest"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": module},
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip().startswith("geoseg: stopped")
    assert done.stderr.strip().count("\n") == 0
    assert not done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tile", "1000"], "grid.tile: 1000 is not a multiple of the network's stride 16; use 992"),
        (["--tile", "128", "--halo", "64"], "halo"),
        (["--min-area", "5 furlongs"], "vector.min_area"),
        (["--classes", "forest,swamp"], "'swamp' is none of 0 non-forest, 1 forest"),
        (["--rescale", "9,2"], "scene.rescale"),
        (["--formats", "shp"], "vector.formats"),
        (["--memory", "10MB"], "200MB is the least"),
        (["--no-such-option"], "No such option"),
        (["--engine", "tensorflow"], "--engine"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, write_raster: WriteRaster, args: list[str], words: str) -> None:
    path = write_raster(np.ones((3, 70, 80), np.uint8), photometric="rgb")
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", tmp_path / "out", *args])
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*/classes.tif"))


def test_unknown_keys_of_the_file_are_named(tmp_path: Path, write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((3, 70, 80), np.uint8), photometric="rgb")
    file = tmp_path / "run.toml"
    file.write_text("[grid]\ntile = 512\noverlap = 3\n")
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", tmp_path / "out", "--config", file])
    assert done.returncode == 2
    assert "grid.overlap" in done.stderr


def test_the_file_and_the_options_add_up(tmp_path: Path, write_raster: WriteRaster, identity_model: Model) -> None:
    path = write_raster(patchy(90, 100, 4))
    file = tmp_path / "run.toml"
    file.write_text('[grid]\ntile = 64\nhalo = 8\n[vector]\nformats = ["fgb"]\n')
    args = ["segment", path, "-m", identity_model.path, "-o", tmp_path / "out", "--config", file, "--halo", "4", "--json"]
    done = call_cli(args)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events} == {"folder", "plan", "chunk", "stage", "scene"}
    config = json.loads((tmp_path / "out" / "scene" / "run.json").read_text())["config"]
    assert (config["grid"]["tile"], config["grid"]["halo"], config["vector"]["formats"]) == (64, 4, ["fgb"])


def test_dry_run_computes_nothing(tmp_path: Path, write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((3, 700, 800), np.uint8), photometric="rgb")
    done = call_cli(
        ["segment", path, "-m", "amazon-forest", "-o", tmp_path / "out", "--dry-run", "--tile", "256", "--halo", "exact"]
    )
    assert done.returncode == 2
    done = call_cli(
        ["segment", path, "-m", "amazon-forest", "-o", tmp_path / "out", "--dry-run", "--tile", "512", "--halo", "exact"]
    )
    assert done.returncode == 0, done.stderr
    for word in ("chunks", "halo 224 px", "engine", "memory", "disk", "network"):
        assert word in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["file", "unwritable"])
def test_output_that_can_not_be_used(tmp_path: Path, write_raster: WriteRaster, what: str) -> None:
    path = write_raster(np.ones((3, 70, 80), np.uint8), photometric="rgb")
    out = tmp_path / "out"
    if what == "file":
        out.write_text("x")
    else:
        out = Path("/proc/nowhere")
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", out])
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_inputs_of_all_kinds(tmp_path: Path, write_raster: WriteRaster, identity_model: Model) -> None:
    image = patchy(70, 80, 3)
    for name in ("a/one.tif", "a/b/two 'quoted' ünï.tif", "c.tif", "-d.tif"):
        write_raster(image, name)
    folder = tmp_path / "in"
    (folder / "more.txt").write_text("# a list\nc.tif\n\n-d.tif\n")
    (folder / "a" / "notes.zip").write_bytes(b"PK")
    out = tmp_path / "out"
    done = call_cli(
        ["segment", folder / "a", f"{folder}/c*.tif", folder / "more.txt", "-m", identity_model.path, "-o", out, "-q"]
    )
    assert done.returncode == 0, done.stderr
    index = json.loads((out / "index.json").read_text())
    statuses = {entry["scene"]: entry["status"] for entry in index["scenes"]}
    assert {Path(name).name for name, status in statuses.items() if status == "done"} == {"one", "two 'quoted' ünï", "c", "-d"}
    assert [status for name, status in statuses.items() if name.endswith(".zip")] == ["skipped"]
    assert (out / "b" / "two 'quoted' ünï" / "classes.tif").is_file()
    assert len(json.loads((out / "collection.json").read_text())["links"]) == 4
    # All four show the same ground, which is said.
    assert len(index["warnings"]) == 6
    assert call_cli(["segment", tmp_path / "nothing*.tif", "-m", identity_model.path, "-o", out]).returncode == 2


def test_band_files_of_one_scene(tmp_path: Path, write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(0)
    bands = {"B04": 47, "B03": 56, "B02": 59}
    planes = {name: rng.normal(mean, 10, (80, 90)).clip(1, 255).astype(np.uint8) for name, mean in bands.items()}
    for name, plane in planes.items():
        write_raster(plane, f"S2A_20230714T140051_T20LMR_{name}_10m.tif")
    done = call_cli(["segment", tmp_path / "in", "-m", "amazon-forest", "-o", tmp_path / "out", "-q"])
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    stacked = write_raster(np.stack(list(planes.values())), "stack.tif", photometric="rgb")
    assert call_cli(["segment", stacked, "-m", "amazon-forest", "-o", tmp_path / "out2", "-q"]).returncode == 0
    with rasterio.open(folder / "classes.tif") as one, rasterio.open(tmp_path / "out2" / "stack" / "classes.tif") as other:
        np.testing.assert_array_equal(one.read(1), other.read(1))
    assert json.loads((folder / "run.json").read_text())["acquired"].startswith("2023-07-14")


def test_inspect(shared: Path) -> None:
    facts = json.loads(call_cli(["inspect", "amazon-forest", "--json"]).stdout)
    assert "exact halo 224" in facts["receptive field"]
    done = call_cli(["inspect", shared / "data" / "awkward" / "rasterio_RGB2.byte.tif"])
    assert done.returncode == 0, done.stderr
    assert "valid by" in done.stdout
    missing = call_cli(["inspect", "no-such-model"])
    assert missing.returncode == 2
    assert "amazon-forest" in missing.stderr


@pytest.mark.slow
def test_vectorize_any_class_raster(shared: Path, tmp_path: Path) -> None:
    import geopandas
    import rasterio.features

    source = shared / "data" / "prodes_labels" / "PRODES_up2018.tif"
    outs = [tmp_path / f"p{suffix}" for suffix in (".gpkg", ".geojson", ".fgb", ".parquet")]
    done = call_cli(["vectorize", source, *(part for out in outs for part in ("-o", out))])
    assert done.returncode == 0, done.stderr
    frames = [
        geopandas.read_parquet(out)
        if out.suffix == ".parquet"
        else geopandas.read_file(out, layer="polygons" if out.suffix == ".gpkg" else None)
        for out in outs
    ]
    assert len({len(frame) for frame in frames}) == 1
    assert len({round(frame["area_m2"].sum(), 1) for frame in frames}) == 1
    with rasterio.open(source) as dataset:
        codes, mask = dataset.read(1), dataset.dataset_mask() > 0
        back = np.full(codes.shape, -1, np.int32)
        shapes = list(zip(frames[0].geometry, frames[0]["code"].astype(int), strict=True))
        rasterio.features.rasterize(shapes, out=back, transform=dataset.transform)
    np.testing.assert_array_equal(back[mask], codes[mask].astype(np.int32))
    again = call_cli(["vectorize", source, "-o", outs[0]])
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


@pytest.mark.slow
def test_demo_is_the_same_each_time(tmp_path: Path) -> None:
    done = call_cli(["demo", "--out", tmp_path, "--size", "700"])
    assert done.returncode == 0, done.stderr
    assert "Agreement with the truth" in done.stdout
    share = float(done.stdout.split("left out: ")[1].split("%")[0])
    assert share > 95
    again = call_cli(["demo", "--out", tmp_path, "--size", "700"])
    assert again.returncode == 0
    assert again.stdout == done.stdout


def test_python_m_geoseg_is_geoseg(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = [sys.executable, "-m", "geoseg", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(code, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert run("--version").stdout.startswith("geoseg, version")
    assert run("segment", "none.tif", "-m", "amazon-forest", "-o", "out").returncode == 2
    # A stranger's folder of that name is not run.
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('run')")
    done = run("--version")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "hides geoseg's own package" in done.stderr
