"""Data sets are opened in one place each: no other module calls what could open a file that names others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

RASTERS, VECTORS = "geoseg/scenes/gdal.py", "geoseg/vectors/opening.py"
NETWORKS = "geoseg/inference/onnx_session.py"
HOMES: dict[str, set[str]] = {
    "rasterio.open": {RASTERS},
    "MemoryFile": {RASTERS},
    "Image.open": {RASTERS},
    "pyogrio": {VECTORS},
    # It reads whole files; polygons are read in parts, but for those of a map that somebody wants as a GeoDataFrame.
    "geopandas": {"pipeline/api/scene_map.py"},
    "parquet": {
        VECTORS,
        "geoseg/vectors/remote_parquet.py",
        "geoseg/scenes/stac/item_table.py",
        "geoseg/formats/stac_table.py",  # the program's own, after its hash was compared
    },
    "sqlite3": {
        "geoseg/vectors/checks.py",
        "pipeline/watch/ledger.py",  # the program's own
        # Those that finish a GeoPackage that they have just written.
        "geoseg/formats/vector.py",
        "pipeline/summarize/cells.py",
        "pipeline/deliver/layers.py",
        "pipeline/damage/files.py",
        "pipeline/damage/zones.py",
        "pipeline/sample/unit_tables.py",
        "pipeline/review/qgis/work_file.py",
    },
    "InferenceSession": {NETWORKS},
    "onnx.load": {
        # What they have just written.
        "geoseg/models/exporting.py",
        "geoseg/calibration/quantization.py",
        "geoseg/adoption/spreading.py",
        # What was looked through for tensors in other files.
        "geoseg/adoption/stranger.py",
    },
}
"""Kinds of opening, and the modules that may."""
LIBRARIES = {"fiona", "osgeo", "tifffile", "h5py", "netCDF4", "zarr", "xarray", "rioxarray", "imagecodecs", "cv2", "imageio"}
"""They open files, too, and are not used."""


def kind_of(call: ast.Call) -> str | None:  # noqa: PLR0911
    """What kind of opening a call is; None where it is none."""
    name = ast.unparse(call.func)
    last = name.rsplit(".", 1)[-1]
    if name == "rasterio.open":
        mode = call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "mode"), None)
        return None if isinstance(mode, ast.Constant) and str(mode.value).startswith("w") else "rasterio.open"
    if last in ("MemoryFile", "ZipMemoryFile"):
        return "MemoryFile" if call.args or call.keywords else None
    if name.endswith("Image.open"):
        return "Image.open"
    if name.startswith("pyogrio.") and last.startswith(("read", "open", "list_layers")):
        return "pyogrio"
    if name.startswith(("geopandas.", "gpd.")) and last.startswith("read"):
        return "geopandas"
    if last in ("ParquetFile", "ParquetDataset", "read_table") or name == "pq.read_metadata":
        return "parquet"
    if name == "sqlite3.connect":
        return "sqlite3"
    if last == "InferenceSession":
        return "InferenceSession"
    return "onnx.load" if name in ("onnx.load", "onnx.load_model") else None


def openings(source: str) -> Iterator[tuple[int, str]]:
    """Lines and kinds of what opens something in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (kind := kind_of(node)) is not None:
            yield node.lineno, kind
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in LIBRARIES)
        if isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {a.name for a in node.names}
            if module.split(".")[0] in LIBRARIES:
                yield node.lineno, module
            # Imported by name, a call would not show where it comes from.
            if module == "rasterio" and "open" in names:
                yield node.lineno, "rasterio.open"
            if module.startswith("pyogrio") and any(n.startswith(("read", "open", "list_layers")) for n in names):
                yield node.lineno, "pyogrio"
            if (module, "connect") == ("sqlite3", next(iter(names), "")):
                yield node.lineno, "sqlite3"


def test_nothing_but_the_openers_opens_a_data_set() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {kind}"
        for package in ("geoseg", "pipeline", "flows")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, kind in openings(path.read_text(encoding="utf-8"))
        if path.relative_to(ROOT).as_posix() not in HOMES.get(kind, set())
    ]
    assert not found, "use geoseg.scenes.gdal or geoseg.vectors.source"


@pytest.mark.parametrize("kind", HOMES)
def test_every_opener_has_its_home(kind: str) -> None:
    used = {home for home in HOMES[kind] if any(kind == k for _, k in openings((ROOT / home).read_text(encoding="utf-8")))}
    assert used == HOMES[kind]


@pytest.mark.parametrize(
    "source",
    [
        "rasterio.open(path)",
        "rasterio.open(path, 'r+')",
        "rasterio.open(path, mode=mode)",
        "rasterio.MemoryFile(data).open()",
        "PIL.Image.open(path)",
        "pyogrio.raw.read_arrow(path)",
        "geopandas.read_file(path)",
        "pq.ParquetFile(path)",
        "sqlite3.connect(path)",
        "onnxruntime.InferenceSession(path)",
        "onnx.load(path)",
        "from osgeo import gdal",
        "import zarr",
        "from rasterio import open",
        "from pyogrio import read_info",
    ],
)
def test_what_opens_is_found(source: str) -> None:
    assert len(list(openings(source))) == 1


@pytest.mark.parametrize("source", ["rasterio.open(path, 'w', **profile)", "pyogrio.raw.write_arrow(x, path)", "MemoryFile()"])
def test_what_writes_is_not(source: str) -> None:
    assert not list(openings(source))


def test_the_openers_are_there() -> None:
    assert all(Path(ROOT, home).is_file() for homes in HOMES.values() for home in homes)
