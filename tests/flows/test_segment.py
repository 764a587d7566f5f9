"""The flow runs on a real, temporary Prefect server on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster

from geoseg.models.folder import Model

pytest.importorskip("prefect")


def test_flow_does_what_the_command_does(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from flows.segment import segment
    from pipeline.config import Config

    path = write_raster(np.ones((70, 80), np.uint8))
    config = Config.parse({"vector": {"formats": ["fgb"]}})
    with prefect_test_harness(server_startup_timeout=120):
        entries = segment([str(path)], str(identity_model.path), str(tmp_path / "out"), config)
    assert [entry["status"] for entry in entries] == ["done"]
    assert json.loads((tmp_path / "out" / "index.json").read_text())["scenes"][0]["scene"] == "scene"
    assert (tmp_path / "out" / "scene" / "polygons.fgb").is_file()
