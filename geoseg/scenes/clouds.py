"""What says where clouds and their shadows hide the ground of a scene. Values; ``geoseg.clouds`` reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.stac.signer import Signer

if TYPE_CHECKING:
    from geoseg.scenes.bands.value_map import ValueMap

__all__ = ["CloudFile", "CloudLayer", "CloudNetwork", "CloudTrees", "Clouds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFile:
    """A raster or a file of polygons, on any grid."""

    path: str
    """The file, or an address."""
    values: tuple[int, ...] = ()
    """Values of a raster that hide the ground; all but 0 where none are given."""
    band: str | None = None
    """Number or name of the band of a raster; None where it has one, or its names tell."""
    signer: Signer | None = None
    """How its address is signed when it is opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLayer:
    """A quality layer of the scene's product, or of its STAC item."""

    layer: QualityLayer
    classes: tuple[str, ...] = ()
    """What of it hides the ground, by name or number; those of its kind where none are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudNetwork:
    """A model that maps clouds."""

    path: str
    """Its folder."""
    sha256: str
    """Its identity."""
    bands: tuple[int, ...]
    """Indices into the scene's bands, in its order."""
    values: ValueMap
    """How pixels become what it takes."""
    codes: tuple[int, ...]
    """Its classes that hide the ground."""
    engine: str
    """What runs it: onnx or torch."""
    device: str
    threads: int
    tile: int
    """Pixels along each side of a tile, halo included."""
    halo: int
    """Context around the core of a tile in pixels."""
    memory_bytes: int
    """Memory of one tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTrees:
    """The pixel classifier of s2cloudless, which takes ten bands of Sentinel-2 L1C."""

    version: str
    """Of the package."""
    bands: tuple[int, ...]
    """Indices into the scene's bands, in its order."""
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    """By band: ``reflectance = pixel * scale + offset``."""
    threads: int = 0
    """CPU threads; 0 for all."""


CloudSource = CloudFile | CloudLayer | CloudNetwork | CloudTrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """What hides the ground of a scene."""

    source: CloudSource
    name: str
    """For people: ``scl``, the file, or the model."""
    buffer: tuple[float, float] = (0.0, 0.0)
    """How far what is hidden grows, in rows and cols: the half axes of an ellipse, a circle where pixels are square."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files beside those of the scene that say it."""
        match self.source:
            case CloudFile(path=path):
                return (path,)
            case CloudLayer(layer=layer):
                return (layer.path,)
            case _:
                return ()

    @property
    def signers(self) -> dict[str, Signer | None]:
        """How the addresses of these are signed."""
        match self.source:
            case CloudFile(path=path, signer=signer):
                return {path: signer}
            case CloudLayer(layer=layer):
                return {layer.path: layer.signer}
            case _:
                return {}

    def with_paths(self, path: Callable[[str], str]) -> Clouds:
        """The same with other paths of its files, and of the folder of its model."""
        match self.source:
            case CloudFile() as file:
                return replace(self, source=replace(file, path=path(file.path)))
            case CloudLayer(layer=layer) as own:
                return replace(self, source=replace(own, layer=replace(layer, path=path(layer.path))))
            case CloudNetwork() as network:
                return replace(self, source=replace(network, path=path(network.path)))
            case _:
                return self

    def with_network(self, change: Callable[[CloudNetwork], CloudNetwork]) -> Clouds:
        """The same with a change to its network, where it has one."""
        return replace(self, source=change(self.source)) if isinstance(self.source, CloudNetwork) else self

    def with_threads(self, threads: int) -> Clouds:
        """The same with another number of CPU threads, where a model finds it."""
        match self.source:
            case CloudNetwork() | CloudTrees() as source:
                return replace(self, source=replace(source, threads=threads))
            case _:
                return self

    @property
    def identity(self) -> str | None:
        """Identity of what is no file: a model, or a package."""
        match self.source:
            case CloudNetwork(sha256=sha256):
                return sha256
            case CloudTrees(version=version):
                return f"s2cloudless {version}"
            case _:
                return None
