"""The flow that trains, on a real, temporary Prefect server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import LIMIT_S, patchy

pytest.importorskip("prefect")
pytest.importorskip("lightning")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=LIMIT_S):
        yield


def recipe_of(folder: Path) -> dict[str, Any]:
    """Six small images in which bright is class 1."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for k in range(6):
        codes = patchy(96, 96, 2, seed=k, size=5)
        noise = np.random.default_rng(k).normal(0, 20, codes.shape)
        Image.fromarray(np.clip(80 + 90 * codes + noise, 0, 255).astype(np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray(codes).save(folder / "labels" / f"{k}.png")
    return {
        "name": "bright",
        "description": "made by a test",
        "bands": ["gray"],
        "value_range": [0, 255],
        "classes": [{"name": "dark", "color": "#202020"}, {"name": "bright", "color": "#f0f0f0"}],
        "data": [{"images": [str(folder / "images")], "labels": str(folder / "labels"), "plain": True}],
        "split": {"val": 0.34},
        "network": {
            "architecture": "unet-2015",
            "parameters": {"width": 4, "depth": 2, "padding": "same", "batch_norm": True},
        },
        "sample": {"chip": 48, "batch": 4},
        "loop": {"steps": 40, "check": 20, "rate": 1e-2, "device": "cpu"},
    }


def test_a_recipe_becomes_a_model_with_its_figures_as_artifacts(tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    from flows.train import train_model
    from geoseg.models.model_folder import load_model

    out = tmp_path / "model"
    facts = train_model(recipe_of(tmp_path / "data"), str(out))
    model = load_model(str(out))
    assert facts["sha256"] == model.sha256
    assert facts["miou"] > 0.9
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    (table,) = (json.loads(a.data) for a in artifacts if a.type == "table")
    assert [row["class"] for row in table] == ["dark", "bright"]
    assert any(a.type == "image" for a in artifacts)
    # Again, it is found finished.
    before = (out / "card.json").stat().st_mtime_ns
    again = json.loads((out / "training" / "recipe.json").read_text())
    assert train_model(again, str(out)) == facts
    assert (out / "card.json").stat().st_mtime_ns == before


def test_what_can_not_work_fails_without_another_try(tmp_path: Path) -> None:
    from flows.train import train_model
    from geoseg.errors import ConfigError

    recipe = recipe_of(tmp_path / "data") | {"loss": {"terms": {"huber": 1.0}}}
    with pytest.raises(ConfigError, match="huber is not known"):
        train_model(recipe, str(tmp_path / "model"))
