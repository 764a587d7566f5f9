"""How the memory of a process is divided between the chunks and the stages behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support import WriteRaster

from geoseg.grid import Grid
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.plan.make import make_plan
from pipeline.plan.memory import (
    CHUNK,
    FEW_IN_FLIGHT,
    IN_FLIGHT,
    LARGE_CHUNK,
    LEAST_IN_FLIGHT,
    Share,
    chunk_side,
    share_of,
    share_with_tail,
    tail_bytes,
)

GB = 1 << 30
GRID = Grid(40_000, 40_000, tile=1024, halo=64, chunk=4096)


@pytest.fixture
def divide(write_raster: WriteRaster, identity_model: Model) -> Callable[..., tuple[Share, Share]]:
    """Divides a budget, with a part for the later stages and without."""
    (ref,), _ = list_scenes([str(write_raster(np.ones((640, 640), np.uint8)))])
    scene = make_plan(ref, identity_model, Config.parse({})).scene

    def divided(budget: int, workers: int = 0) -> tuple[Share, Share]:
        config = Config.parse({"infer": {"memory": f"{budget * max(1, workers)}B", "threads": 2}, "run": {"workers": workers}})
        given = scene, GRID, 1, identity_model.card, config, budget
        return share_with_tail(*given), share_of(*given)

    return divided


def test_the_later_stages_have_a_part_where_two_chunks_keep_theirs(divide: Callable[..., tuple[Share, Share]]) -> None:
    tail = tail_bytes(2)
    parts = []
    for budget in range(GB // 4, 6 * GB, GB // 8):
        shared, alone = divide(budget)
        parts.append(shared.tail_bytes)
        if budget - tail < GB // 4:
            assert shared == alone
            continue
        # What is left is divided as if there were no more.
        _, left = divide(budget - tail)
        beside = replace(left, tail_bytes=tail)
        enough = beside.in_flight >= min(alone.in_flight, LEAST_IN_FLIGHT) and beside.total_bytes <= budget
        assert shared == (beside if enough else alone)
    # From some budget on, and not before: no less memory, and then more.
    assert parts == sorted(parts)
    assert set(parts) == {0, tail}


def test_processes_share_one_tail(divide: Callable[..., tuple[Share, Share]]) -> None:
    alone, _ = divide(8 * GB)
    four, _ = divide(8 * GB, workers=4)
    assert four.tail_bytes == alone.tail_bytes // 4 > 0


@pytest.mark.parametrize(
    ("chunk", "cores", "in_flight"),
    [(4096, 8, FEW_IN_FLIGHT), (2048, 8, IN_FLIGHT), (2048, 4, IN_FLIGHT), (2048, 2, FEW_IN_FLIGHT)],
)
def test_of_large_chunks_or_on_few_cores_one_waits_for_the_network(
    chunk: int, cores: int, in_flight: int, divide: Callable[..., tuple[Share, Share]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.GRID", replace(GRID, chunk=chunk))
    monkeypatch.setattr("pipeline.plan.memory.cores", lambda: cores)
    assert divide(16 * GB)[1].in_flight == in_flight


@pytest.mark.parametrize(
    ("settings", "on_device", "side"),
    [
        ({}, False, CHUNK),
        ({}, True, LARGE_CHUNK),
        ({"run": {"workers": 2}}, False, LARGE_CHUNK),
        ({"run": {"scheduler": "tcp://127.0.0.1:8786"}}, False, LARGE_CHUNK),
        ({"grid": {"chunk": 512}}, True, 512),
    ],
)
def test_chunks_are_small_where_the_cores_of_one_process_work(settings: dict[str, object], on_device: bool, side: int) -> None:
    assert chunk_side(Config.parse(settings), on_device=on_device) == side
