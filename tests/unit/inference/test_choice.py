"""Whether a network leaves the cores to others."""

from __future__ import annotations

import pytest

from geoseg.inference import choice
from geoseg.inference.choice import uses_gpu


@pytest.mark.parametrize("count", [0, 1, 4])
def test_only_torch_uses_a_gpu_and_auto_where_there_is_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "gpu_count", lambda: count)
    named = ("cuda", "cuda:0", "cuda:3", "cuda:all")
    assert all(uses_gpu("torch", device) for device in named)
    assert uses_gpu("torch", "auto") == (count > 0)
    assert not uses_gpu("torch", "cpu")
    assert not any(uses_gpu("onnx", device) for device in (*named, "auto", "cpu"))
