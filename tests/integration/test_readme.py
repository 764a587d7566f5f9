"""What the README says can be typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from support import LIMIT_S, ROOT

from geoseg.procedural import Frontier

BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_code_blocks_run(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    Frontier(600, 700).write(tmp_path / "scenes" / "frontier.tif")
    Frontier(600, 700, acquired="2014-07-14").write(tmp_path / "before.tif")
    Frontier(600, 700, years=9).write(tmp_path / "after.tif")
    # A drone's image with a bright roof, and its outline.
    image, transform = np.full((3, 260, 260), 90, np.uint8), from_origin(453_000, 35_000, 0.3, 0.3)
    image[:, 100:150, 80:160] = 220
    with rasterio.open(
        tmp_path / "drone.tif",
        "w",
        driver="GTiff",
        height=260,
        width=260,
        count=3,
        dtype="uint8",
        crs="EPSG:32636",
        transform=transform,
        photometric="RGB",
    ) as file:
        file.write(image)
    roof = shapely.box(453_024, 34_955, 453_048, 34_970)
    geopandas.GeoSeries([roof], crs="EPSG:32636").to_crs(4326).to_file(tmp_path / "buildings.geojson")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    for language, code in blocks:
        if code.startswith("make "):
            # These run this test, or what other tests have run; that there are such targets is what is left to show.
            command = ["make", "--dry-run", *code.split()[1:]]
            subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=LIMIT_S)
            continue
        if language == "toml":
            # Its first line names the file; a few steps and small chips show that it works.
            short = re.sub(r"steps = \d+", "steps = 3\ncheck = 3\n[sample]\nchip = 64\nbatch = 2", code)
            assert short != code
            (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(short)
            continue
        command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, code + done.stderr
    assert (tmp_path / "forest.gpkg").is_file()
    assert (tmp_path / "maps" / "index.json").is_file()
    assert (tmp_path / "models" / "forest" / "model.onnx").is_file()


def test_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
