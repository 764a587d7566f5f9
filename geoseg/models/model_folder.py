"""A model as a folder on disk: finding it, checking it, and its identity."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.documents import read_json
from geoseg.errors import ModelError
from geoseg.models.card import Card
from geoseg.models.onnx_scan import refuse_external_data

__all__ = ["Model", "load_model", "shipped_models"]

SHIPPED = Path(__file__).parent / "shipped"
CARD, CONFIG, ONNX, WEIGHTS, README = "card.json", "config.json", "model.onnx", "model.safetensors", "README.md"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".pt2", ".joblib")
HUB_NAME = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model folder."""

    path: Path
    """The folder."""
    card: Card
    """What it takes and gives."""
    sha256: str
    """Its identity: sha256 over the sorted hashes of its files, README aside."""

    @property
    def members(self) -> tuple[Model, ...]:
        """Itself: a model is an ensemble of one."""
        return (self,)

    @property
    def onnx(self) -> Path | None:
        """The network for ONNX Runtime."""
        path = self.path / ONNX
        return path if path.is_file() else None

    @property
    def weights(self) -> Path | None:
        """The weights for torch."""
        path = self.path / WEIGHTS
        return path if path.is_file() else None

    @property
    def config(self) -> dict[str, Any]:
        """The architecture by name and parameters, for torch.

        Raises:
            ModelError: It is missing or damaged.
        """
        try:
            config = read_json(self.path / CONFIG, ModelError)
        except OSError as error:
            raise ModelError(f"{self.path / CONFIG}: can't be read: {error.strerror or error}") from error
        if not isinstance(config, dict):
            raise ModelError(f"{self.path / CONFIG}: not a JSON object")
        return config


def file_hash(path: Path) -> str:
    """sha256 of a file; of a folder, such as a file geodatabase, over the names and hashes of what is in it."""
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file())
        lines = "".join(f"{file_hash(one)}  {one.relative_to(path).as_posix()}\n" for one in inside)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hash(folder: Path) -> str:
    """The identity of a model folder: sha256 over the sorted hashes of its files, README aside."""
    names = [name for name in (CARD, CONFIG, ONNX, WEIGHTS) if (folder / name).is_file()]
    return hashlib.sha256("".join(sorted(file_hash(folder / name) for name in names)).encode()).hexdigest()


def shipped_models() -> tuple[str, ...]:
    """Names of the models in the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}")))


def load_model(name: str) -> Model:
    """Find and check a model: a folder, the name of a shipped one, or ``owner/name[@revision]`` on the Hugging Face hub.

    No pickle is ever read. Every file is compared with the hash in the card.

    Raises:
        ModelError: It is not there, incomplete, damaged, or inconsistent.
    """
    path = Path(name)
    if path.is_dir():
        return _check(path)
    if path.is_file():
        what = "a pickle, which can run code when it is read" if path.suffix in PICKLES else "a file"
        raise ModelError(f"{name}: {what}; pass a model folder ({CARD}, {CONFIG}, {ONNX} or {WEIGHTS})")
    if name in shipped_models():
        return _check(SHIPPED / name)
    match = HUB_NAME.match(name)
    if match is not None and ".." not in name:
        from geoseg.models.hub import download

        return _check(download(match["repo"], match["revision"]))
    raise ModelError(
        f"{name}: no such model; shipped are {', '.join(shipped_models()) or 'none'}; "
        "or pass a folder, or owner/name on the Hugging Face hub"
    )


def _check(folder: Path) -> Model:
    _refuse_links(folder)
    if not (folder / CARD).is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        hint = f"; it holds {', '.join(pickles)}, and pickles are never read" if pickles else ""
        raise ModelError(f"{folder}: no {CARD}, so it is not a model folder{hint}")
    card = Card.read(folder / CARD)
    if not (folder / ONNX).is_file() and not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: no weights; a model folder holds {ONNX} or {WEIGHTS}")
    for name, expected in card.files.items():
        path = folder / name
        if "/" in name or "\\" in name or name not in (CONFIG, ONNX, WEIGHTS):
            raise ModelError(f"{folder / CARD}: files: {name!r} is not a file of a model folder")
        if not path.is_file():
            if name == CONFIG:
                raise ModelError(f"{path}: missing; the card lists it")
            continue
        found = file_hash(path)
        if found != expected:
            raise ModelError(
                f"{path}: sha256 {found[:12]}… is not the {expected[:12]}… of the card: truncated or changed; copy or download "
                "it again"
            )
    if (folder / ONNX).is_file():
        refuse_external_data(folder / ONNX)
    return Model(folder, card, model_hash(folder))


def _refuse_links(folder: Path) -> None:
    """Refuse files of a model folder that are links to somewhere else: an archive could bring any file of its reader so.

    Raises:
        ModelError: There is one.
    """
    within = folder.resolve()
    if within.parent.name == "snapshots":
        # The hub's cache keeps files once and links to them, in one folder a repository.
        within = within.parents[1]
    for path in (folder / name for name in (CARD, CONFIG, ONNX, WEIGHTS, README)):
        if path.is_symlink() and not path.resolve().is_relative_to(within):
            raise ModelError(f"{path}: a link to a file outside of the model's folder, which is not followed; copy the file")
