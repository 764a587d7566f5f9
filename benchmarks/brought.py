"""What comes home of trainings: a tar file a training, in parts small enough to be carried; and back into folders."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from geoseg.errors import ConfigError
from geoseg.models.model_folder import CARD, CONFIG, ONNX, README, WEIGHTS
from geoseg.training.loop import BEST, LAST
from pipeline.files.run_folder import RunFolder
from pipeline.train.run import CHECKPOINTS

PART = 16 << 20
"""Bytes of the largest file."""
FILES, TOGETHER = 8, 64 << 20
"""How many files come home, and how large they may be together; one of them is the report."""
REPORT = "report.json"
REPORT_BYTES = 1 << 20
TRAINING = ("recipe.json", "state.json", "curve.csv", "pace.csv", "validation.json")
NAME = re.compile(r"^(?P<name>.+)\.tar(?:\.(?P<part>\d))?$")


def bring(folders: Sequence[Path], home: Path) -> dict[str, list[str]]:
    """Write trainings into ``home``, the first first, as far as the limits allow; says which files each became.

    A finished one is its model folder, one that is not is what it goes on from.
    """
    home.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {}
    files, left = FILES - 1, TOGETHER - REPORT_BYTES
    for folder in folders:
        data = packed(folder)
        parts = -(-len(data) // PART)
        if parts > files or len(data) > left:
            found[folder.name] = []
            continue
        files, left = files - parts, left - len(data)
        names = [f"{folder.name}.tar" + (f".{k}" if parts > 1 else "") for k in range(parts)]
        for k, name in enumerate(names):
            (home / name).write_bytes(data[k * PART : (k + 1) * PART])
        found[folder.name] = names
    kept = {name for names in found.values() for name in names}
    for old in home.iterdir():
        match = NAME.match(old.name)
        if match and match["name"] in found and old.name not in kept:
            old.unlink()
    return found


def packed(folder: Path) -> bytes:
    """The tar file of a training."""
    finished = (folder / CARD).is_file()
    # What is under way lies in a folder of its own, with the manifest by which the next run knows it.
    under_way = folder if finished else RunFolder(folder).work
    base = under_way.relative_to(folder).as_posix()
    if finished:
        files = {name: folder / name for name in (CONFIG, WEIGHTS, ONNX, README, CARD)}
    else:
        names = (RunFolder(folder).manifest.name, f"{CHECKPOINTS}/{LAST}")
        files = {f"{base}/{name}": under_way / name for name in names}
    files |= {f"{base}/training/{name}": under_way / "training" / name for name in TRAINING}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, path in files.items():
            if path.is_file():
                archive.add(path, f"{folder.name}/{name}")
        if not finished and (under_way / CHECKPOINTS / BEST).is_file():
            best = weights_alone(under_way / CHECKPOINTS / BEST)
            entry = tarfile.TarInfo(f"{folder.name}/{base}/{CHECKPOINTS}/{BEST}")
            entry.size = len(best)
            archive.addfile(entry, io.BytesIO(best))
    return file.getvalue()


def weights_alone(checkpoint: Path) -> bytes:
    """The best checkpoint as far as it is ever read: training goes on from the last."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    file = io.BytesIO()
    torch.save({"state_dict": state}, file)
    return file.getvalue()


def unpack(files: Iterable[Path], out: Path) -> list[str]:
    """Put trainings that were brought home back into their folders.

    Raises:
        ConfigError: A file is no part of one, or a part is missing.
    """
    parts: dict[str, dict[int, bytes]] = {}
    for path in files:
        match = NAME.match(path.name)
        if match is None:
            raise ConfigError(f"{path}: is not NAME.tar, nor NAME.tar.0, as this script writes them")
        parts.setdefault(match["name"], {})[int(match["part"] or 0)] = path.read_bytes()
    for name, found in parts.items():
        if sorted(found) != list(range(len(found))):
            raise ConfigError(f"{name}.tar: parts {sorted(found)} are there; give all from 0 on")
        try:
            with tarfile.open(fileobj=io.BytesIO(b"".join(found[k] for k in sorted(found)))) as archive:
                archive.extractall(out, filter="data")
        except tarfile.TarError as error:
            raise ConfigError(f"{name}.tar: can't be unpacked: {error}; is its last part missing?") from error
    return list(parts)
