"""The form in which a network is exported against the network as it was trained, by the processor's time of one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from common import Row, Settings
from models import unet_resnet18

SIDE = 1024


def export_rows(settings: Settings) -> Iterator[Row]:
    """U-Net on ResNet-18 and the shipped models, one tile of 1024, alternating in one process."""
    for name in (str(unet_resnet18()), "amazon-forest", "buildings"):
        yield _row(name, max(3, settings.repeat))


def _row(name: str, repeat: int) -> Row:
    from geoseg.inference.torch_engine import load_network
    from geoseg.models.export_form import export_form
    from geoseg.models.exporting import export
    from geoseg.models.model_folder import load_model
    from geoseg.models.saving import measure_memory

    model = load_model(name)
    card, network = model.card, load_network(model)
    bands = len(card.bands)
    image = np.random.default_rng(0).standard_normal((1, bands, SIDE, SIDE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "trained.onnx", Path(folder) / "exported.onnx"]
        for path, form in zip(paths, (network, export_form(network, bands, card.stride)), strict=True):
            export(form, card, path, half=True)
        sessions = [_session(path) for path in paths]
        scores = [session.run(None, {"image": image})[0] for session in sessions]
        seconds: list[list[float]] = [[], []]
        for _ in range(repeat):
            for session, times in zip(sessions, seconds, strict=True):
                start = time.process_time()
                session.run(None, {"image": image})
                times.append(time.process_time() - start)
        memory = [measure_memory(path, bands, card.stride, SIDE) for path in paths]
    ratio = statistics.median(new / old for old, new in zip(*seconds, strict=True))
    before, now = (statistics.median(times) for times in seconds)
    off = float(np.abs(scores[1] - scores[0]).max() / np.abs(scores[0]).max())
    return Row(
        "export",
        f"{card.name}, one tile of {SIDE} x {SIDE}, one thread, processor's time: as exported against as trained; bytes a pixel; "
        "largest difference of scores",
        "at most 0.95x",
        f"{ratio:.2f}x ({now:.2f} s against {before:.2f} s); {memory[1]:g} against {memory[0]:g}; {off:.0e}",
        ratio <= 0.95,
        {"seconds": seconds, "bytes_per_pixel": memory},
    )


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
