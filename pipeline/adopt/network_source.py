"""Where a network to adopt lies: a file, a folder, or a name on the Hugging Face hub; and in which format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geoseg.adoption.made import Made
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.models.model_folder import CARD, CONFIG, HUB_NAME, PICKLES, WEIGHTS
from pipeline.adopt.settings import AdoptSettings

__all__ = ["Source", "find_source"]

Kind = Literal["onnx", "smp", "weights"]
ENDINGS = {".onnx": "onnx", ".safetensors": "weights"}
OF_WEIGHTS, OF_DETECTORS = ("architecture", "encoder", "preset"), ("largest_object", "norm_eps")
"""Settings that say what a safetensors file does not."""
CURE = "docs/adopting.md has a script that makes safetensors of it in a sandbox"


@dataclass(frozen=True, slots=True)
class Source:
    """A network to adopt."""

    given: str
    """As the user has named it."""
    name: str
    """Of the model, unless another is told."""
    kind: Kind
    file: Path
    """The network, or its weights."""

    @property
    def is_remote(self) -> bool:
        """Whether it comes from the hub."""
        return not Path(self.given).exists()

    def adopt(self, settings: AdoptSettings, folder: Path, halo: int | None = None) -> Made:
        """Make a model folder of it; the halo is of networks that take one size."""
        told = settings.told()
        if self.kind == "onnx":
            self._refuse(settings, (*OF_WEIGHTS, *OF_DETECTORS), "an ONNX file")
            from geoseg.adoption.from_onnx import adopt_onnx

            return adopt_onnx(self.file, told, folder, settings.output, halo)
        from geoseg.adoption.detector_states import is_detector
        from geoseg.adoption.from_weights import adopt_detector, adopt_hub_folder, adopt_weights
        from geoseg.adoption.states import read_state

        self._refuse(settings, ("output",), "weights, which have no outputs by name")
        if self.kind == "smp":
            self._refuse(settings, (*OF_WEIGHTS, *OF_DETECTORS), "a folder of segmentation-models-pytorch")
            return adopt_hub_folder(self.file, told, folder, self.name)
        if is_detector(read_state(self.file)):
            self._refuse(settings, OF_WEIGHTS, "a detector")
            size, eps = settings.largest_object, settings.norm_eps
            return adopt_detector(self.file, told, folder, self.name, largest_px=size, eps=eps)
        self._refuse(settings, OF_DETECTORS, "a network that classifies pixels")
        named = (settings.architecture, settings.encoder)
        return adopt_weights(self.file, told, folder, self.name, named=named, preset=settings.preset)

    def _refuse(self, settings: AdoptSettings, keys: Sequence[str], what: str) -> None:
        """Refuse settings that say nothing of such a network, rather than pass over them."""
        for key in keys:
            if getattr(settings, key) is not None:
                raise ConfigError(f"{self.given}: {setting(key)}: tells nothing of {what}; leave it out")


def find_source(given: str) -> Source:
    """Find a network and tell its format.

    Raises:
        ModelError: It is not there, a pickle, a model folder of geoseg already, or of no known format.
    """
    path = Path(given)
    if path.is_file():
        return _of_file(given, path, path.stem)
    if path.is_dir():
        return _of_folder(given, path, path.resolve().name)
    match = HUB_NAME.match(given)
    if match is not None and ".." not in given:
        from geoseg.models.hub import download

        return _of_folder(given, download(match["repo"], match["revision"]), match["repo"].split("/")[1])
    raise ModelError(f"{given}: no such file or folder, and no owner/name on the Hugging Face hub")


def _of_file(given: str, path: Path, name: str) -> Source:
    if path.suffix in PICKLES:
        raise ModelError(f"{given}: a pickle, which can run code when it is read, and is never opened; {CURE}")
    kind = ENDINGS.get(path.suffix)
    if kind is None:
        raise ModelError(f"{given}: neither an ONNX nor a safetensors file ({', '.join(ENDINGS)})")
    return Source(given, name, "onnx" if kind == "onnx" else "weights", path)


def _of_folder(given: str, folder: Path, name: str) -> Source:
    if (folder / CARD).is_file():
        raise ModelError(f"{given}: is a model folder of geoseg already; use it as it is")
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        return Source(given, name, "smp", folder / WEIGHTS)
    files = sorted(one for one in folder.iterdir() if one.suffix in ENDINGS)
    if len(files) == 1:
        return _of_file(given, files[0], name)
    pickles = sorted(one.name for one in folder.iterdir() if one.suffix in PICKLES)
    if pickles and not files:
        raise ModelError(f"{given}: holds {', '.join(pickles)}: pickles, which are never opened; {CURE}")
    raise ModelError(
        f"{given}: holds {', '.join(one.name for one in files) or 'no network'}; give one ONNX or safetensors file, or a folder "
        "with one"
    )
