"""The scenes of a mosaic: what is known of each before it is mapped, and where it lies on the lattice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from geoseg.crs import crs_of
from geoseg.dialect import number_of
from geoseg.documents import Json
from geoseg.errors import ConfigError, GeoreferenceError, OutsideAreaError, SceneError
from geoseg.georeference import Georeference
from geoseg.models.card import Card
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.fingerprint import FileState
from geoseg.scenes.inset import with_margin
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Scene, View
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.given_area import GivenArea
from geoseg.windows import Window
from pipeline.config.mosaicking import Order
from pipeline.config.sections import Config
from pipeline.mosaic.cut import mosaic_area
from pipeline.mosaic.lattice import Lattice, natively
from pipeline.plan.cloud_source import with_clouds
from pipeline.plan.options import open_options

__all__ = ["Given", "LeaveOut", "PlacedScene", "base_of", "in_area", "in_order", "named", "refuse_mixed", "survey"]

LeaveOut = Callable[[SceneRef, Exception], None]
"""Is told of a scene that can't be used, and of why; the mosaic is then made without it, unless this raises."""
COARSER = 1.5
"""Pixels that are so many times finer than the lattice's are averaged."""
NAMED = 3
"""Names in a message."""


@dataclass(frozen=True, slots=True)
class Given:
    """A scene as it is, opened once."""

    ref: SceneRef
    scene: Scene
    states: tuple[FileState, ...] = ()
    """Its files as an earlier run has looked at them, where it was not opened again: then nothing is known of its bands."""

    @property
    def name(self) -> str:
        """Its name, unique in the mosaic."""
        return self.ref.name


def survey(
    refs: Sequence[SceneRef],
    config: Config,
    card: Card | None,
    left_out: LeaveOut | None = None,
    known: Callable[[SceneRef], Given | None] = lambda _: None,
) -> tuple[Given, ...]:
    """Open scenes as they are, in the order of their names; no file stays open.

    Args:
        refs: The scenes.
        config: The settings.
        card: The model's; None where no model is run.
        left_out: Is told of scenes that can't be used; without it the first of them is raised.
        known: Gives scenes that are as an earlier run has looked at them, and need not be opened.

    Raises:
        SceneError: One can't be read or placed, or none can.
        ConfigError: There is none.
    """
    if not refs:
        raise ConfigError("mosaic: there is no scene; give files, folders or addresses of at least one")
    found, first = [], None
    for ref in sorted(refs, key=lambda ref: ref.name):
        try:
            found.append(known(ref) or Given(ref, _opened(ref, config, card)))
        except Exception as error:  # whatever a scene raises, the others go on where somebody is told
            if left_out is None:
                raise
            left_out(ref, error)
            first = first or error
    if not found and first is not None:
        raise SceneError(f"mosaic: none of {number_of(len(refs), 'scene')} can be used: {first}") from first
    return tuple(found)


def _opened(ref: SceneRef, config: Config, card: Card | None) -> Scene:
    """A scene as it is, which has a place, with its date; for a model, which has its bands, with what hides its ground."""
    options = open_options(natively(config, ref), card)
    scene = open_scene(ref.paths, ref.name, options, band_names=ref.band_names, told=ref.told)
    if config.run.date is not None and scene.acquired is None:
        scene = replace(scene, acquired=config.run.date)
    if scene.georeference.crs is None:
        raise GeoreferenceError(f"{scene.path}: no CRS; a mosaic needs to know where its scenes lie")
    if card is None:
        return scene
    bands, _ = choose_bands(scene, card.bands, config.scene.bands)
    return with_clouds(scene, ref.name, config, dict(zip(card.bands, bands, strict=True)))[0]


def in_area(given: Sequence[Given], areas: Sequence[GivenArea]) -> tuple[tuple[Given, ...], tuple[str, ...]]:
    """The scenes of which a pixel lies in the area of interest, if there is one, and names of the others.

    Raises:
        OutsideAreaError: There is none.
        ConfigError: An area has no CRS.
    """
    near, far, told = [], [], None
    for one in given:
        try:
            mosaic_area(one.scene, areas)
        except OutsideAreaError as error:
            far.append(one.name)
            told = error
        else:
            near.append(one)
    if not near and told is not None:
        raise OutsideAreaError(str(told) if len(given) == 1 else f"{told}; nor does any other of the {len(given):,} scenes")
    return tuple(near), tuple(far)


def base_of(given: Sequence[Given], near: Sequence[Given], config: Config) -> Given:
    """The scene that the pixels of a mosaic follow: the first by name.

    Args:
        given: All scenes, by name.
        near: Those in the area.
        config: The settings. For one map of several, that of a UTM zone, it is the first scene of that zone.
    """
    if config.mosaic.within is None or config.scene.target_crs is None:
        return near[0]
    wanted = crs_of(config.scene.target_crs)
    return next((one for one in given if crs_of(str(one.scene.georeference.crs)) == wanted), near[0])


def refuse_mixed(given: Sequence[Given], config: Config) -> None:
    """Refuse scenes of several CRSs where no CRS was asked for.

    Raises:
        GeoreferenceError: There are several.
    """
    if config.scene.target_crs is not None:
        return
    groups: dict[int, list[Given]] = defaultdict(list)
    known: list[object] = []
    for one in given:
        crs = crs_of(str(one.scene.georeference.crs))
        if crs not in known:
            known.append(crs)
        groups[known.index(crs)].append(one)
    if len(groups) > 1:
        told = "; ".join(f"{some[0].scene.georeference.name}: {named([o.name for o in some])}" for some in groups.values())
        raise GeoreferenceError(
            f"mosaic: scenes of {len(groups)} coordinate reference systems ({told}); name one for all by --target-crs, or make a "
            "mosaic of each group"
        )


def named(names: Sequence[str]) -> str:
    """Names in a message, the first few of many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


@dataclass(frozen=True, slots=True)
class PlacedScene:
    """A scene on the lattice of a mosaic."""

    ref: SceneRef
    acquired: str | None
    fingerprint: str
    place: Georeference
    """Where its own pixels lie."""
    shape: tuple[int, int]
    """Rows and columns of its own pixels."""
    image: Window
    """The window of the lattice that it fills, or that is around it."""
    direct: bool
    """Whether its pixels are pixels of the lattice, so that it is not resampled."""
    window: Window
    """The same from a multiple of the network's stride on: what is mapped."""
    states: tuple[FileState, ...] = ()
    """Its files as an earlier run has looked at them; see ``Given``."""

    @classmethod
    def on(cls, lattice: Lattice, given: Given, stride: int) -> PlacedScene:
        """Lay a scene on a lattice.

        Raises:
            GeoreferenceError: It has no place there.
        """
        scene = given.scene
        place, shape = scene.georeference, (scene.height, scene.width)
        try:
            image = lattice.window(place, shape)
        except GeoreferenceError as error:
            raise GeoreferenceError(f"{scene.path}: {error}") from error
        row, col = image.row_off // stride * stride, image.col_off // stride * stride
        window = Window.between(row, image.row_stop, col, image.col_stop)
        direct = scene.view is None and lattice.holds(place, shape)
        return cls(given.ref, scene.acquired, scene.fingerprint, place, shape, image, direct, window, given.states)

    @property
    def name(self) -> str:
        """Its name, unique in the mosaic."""
        return self.ref.name

    def document(self) -> dict[str, Json]:
        """Its entry in the record of the mosaic."""
        return {
            "name": self.name,
            "acquired": self.acquired,
            "fingerprint": self.fingerprint,
            "resampled": not self.direct,
            "window": [self.image.row_off, self.image.col_off, self.image.height, self.image.width],
        }

    def laid(self, scene: Scene, lattice: Lattice) -> Scene:
        """The opened scene as it is read on the lattice, from the first pixel of ``window`` on.

        Raises:
            SceneError: It is another than the one that was laid there.
        """
        if (scene.georeference, (scene.height, scene.width)) != (self.place, self.shape):
            raise SceneError(f"{scene.path}: changed while it was read; run again when it is complete")
        window, image = self.window, self.image
        if self.direct:
            there = replace(scene, georeference=lattice.georeference(image.row_off, image.col_off))
            return with_margin(there, image.row_off - window.row_off, image.col_off - window.col_off)
        placed = lattice.georeference(window.row_off, window.col_off)
        size = placed.pixel_size(*window.shape), scene.pixel_size
        assert size[0] is not None
        assert size[1] is not None
        view = View(
            crs=lattice.crs,
            transform=placed.transform,
            height=window.height,
            width=window.width,
            resampling="average" if size[0] > COARSER * size[1] else "bilinear",
            source_crs=scene.view.source_crs if scene.view is not None else scene.georeference.crs,
        )
        clouds, scale = scene.clouds, size[1] / size[0]
        if clouds is not None:
            clouds = replace(clouds, buffer=(clouds.buffer[0] * scale, clouds.buffer[1] * scale))
        return replace(scene, view=view, clouds=clouds, georeference=placed, height=window.height, width=window.width)


def in_order(scenes: Sequence[PlacedScene], order: Order) -> list[PlacedScene]:
    """Scenes in the order in which they are preferred; those of one rank by their names. Edges decide pixel by pixel."""
    found = sorted(scenes, key=lambda scene: scene.name)
    if order == "date":
        found.sort(key=lambda scene: scene.acquired or "", reverse=True)
    return found
