"""Embeddings of all buildings of a run: computed part by part, so that a run can go on, and kept for the next labels."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from geoseg.arrays import F64, I64
from geoseg.damage.crops import Crop
from geoseg.damage.embedder import Embedded, Embedder, open_embedder
from geoseg.errors import ConfigError
from geoseg.models.card_values import DamageFacts
from geoseg.scenes.bands.value_map import ValueMap
from pipeline.damage.buildings import Building, crops_of
from pipeline.damage.case import Case
from pipeline.damage.grading import PART, ahead
from pipeline.files.atomic import atomic_path
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import RunFolder

__all__ = ["EMBEDDINGS", "Embeddings", "embed_buildings", "key_of", "places_of"]

EMBEDDINGS = "embeddings.npz"
PARTS = "chunks"
"""Their folder below what is under way."""
FIELDS = ("event", "before", "probability", "probability_before")


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Buildings as an encoder sees them, those that a date does not show left out."""

    reason: tuple[str, ...]
    """Why each building is not seen, in the order of the run; empty where it is."""
    embedded: Embedded
    """Of those that are seen."""

    @property
    def seen(self) -> I64:
        """Positions of the buildings that are seen."""
        return np.flatnonzero([not reason for reason in self.reason])

    def write(self, path: Path, key: str) -> None:
        """Write them, with what they depend on; the same bytes for the same values."""
        arrays = {name: values for name in FIELDS if (values := getattr(self.embedded, name)) is not None}
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez(file, key=np.array(key), reason=np.array(self.reason or ("",), np.str_)[: len(self.reason)], **arrays)

    @classmethod
    def read(cls, path: Path, key: str) -> Embeddings | None:
        """Those of a file; None where it is not there, damaged, or depends on something else."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                if str(file["key"]) != key:
                    return None
                arrays = {name: file[name] for name in FIELDS if name in file}
                return cls(tuple(file["reason"].tolist()), Embedded(**arrays))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    @classmethod
    def joined(cls, parts: Sequence[Embeddings]) -> Embeddings:
        """Those of parts, in their order."""
        values = {name: [getattr(part.embedded, name) for part in parts] for name in FIELDS}
        whole = {name: np.concatenate(each) for name, each in values.items() if each[0] is not None}
        return cls(tuple(reason for part in parts for reason in part.reason), Embedded(**whole))


def key_of(identity: Mapping[str, object]) -> str:
    """What tells embeddings of one origin from those of another."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def embed_buildings(
    case: Case, values: ValueMap, weights: str | None, place: RunFolder, manifest: Manifest, tell: Callable[[int], None]
) -> Embeddings:
    """Embed the buildings of a case; what the folder holds of an earlier run over the same buildings and images is used again.

    Args:
        case: The buildings.
        values: How pixels become what the encoder takes.
        weights: A file of weights in the place of the model's encoder.
        place: The folder of the run, which is held.
        manifest: Of this run; its identity is what embeddings depend on.
        tell: Called with the number of buildings of each part that is done.

    Raises:
        ConfigError: The weights can't be used.
        ModelError: The model has no encoder that can be found.
    """
    key = key_of(manifest.identity)
    if (kept := Embeddings.read(place.folder / EMBEDDINGS, key)) is not None:
        tell(len(case.buildings))
        return kept
    parts = [case.buildings[k : k + PART] for k in range(0, len(case.buildings), PART)]
    paths = [place / PARTS / f"embeddings-{number}.npz" for number in range(len(parts))]
    found = [Embeddings.read(path, key) for path in paths]
    missing = [number for number, part in enumerate(found) if part is None]
    if missing:
        embed, facts = _embedder(case, weights)
        (place / PARTS).mkdir(exist_ok=True)
        crops = crops_of([b for number in missing for b in parts[number]], case.opened, facts, values)
        tell(sum(len(part) for part in parts) - sum(len(parts[number]) for number in missing))
        for number, batch in ahead((number, list(islice(crops, len(parts[number])))) for number in missing):
            part = _embedded(embed, [crop for _, crop in batch])
            part.write(paths[number], key)
            found[number] = part
            tell(len(batch))
    return Embeddings.joined([part for part in found if part is not None])


def _embedder(case: Case, weights: str | None) -> tuple[Embedder, DamageFacts]:
    if weights is None:
        return open_embedder(case.model, case.config.infer.threads)
    try:
        from geoseg.damage.pretrained_encoder import PretrainedEncoder
    except ImportError as error:
        raise ConfigError(f"weights: they need torch ({error}); pip install 'geoseg[train]', or leave them out") from error
    return PretrainedEncoder(weights, len(case.model.card.bands)), DamageFacts()


def _embedded(embed: Embedder, crops: Sequence[Crop]) -> Embeddings:
    """Of a part; a part of which nothing is seen is embedded from one blank crop, so that it has as many columns."""
    some = [crop for crop in crops if crop.reason is None]
    shown = some or crops[:1]
    image, mask = np.stack([crop.image for crop in shown]), np.stack([crop.mask for crop in shown])
    found = embed(image, mask)
    reasons = tuple(crop.reason or "" for crop in crops)
    known = {name: values for name in FIELDS if (values := getattr(found, name)) is not None}
    return Embeddings(reasons, found if some else Embedded(**{name: values[:0] for name, values in known.items()}))


def places_of(buildings: Sequence[Building]) -> F64:
    """Rows and columns (N, 2) of buildings on the image."""
    return np.array([[b.shape.centroid.y, b.shape.centroid.x] for b in buildings], np.float64).reshape(-1, 2)
