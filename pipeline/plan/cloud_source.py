"""What hides the ground of a scene, from the settings: a layer of its product, a file, or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.addresses import split_layer
from geoseg.clouds.growing import MOST_PX, pixel_sides
from geoseg.clouds.quality_rules import QUALITY
from geoseg.dialect import setting
from geoseg.errors import BandError, ConfigError, SceneError
from geoseg.georeference import Georeference
from geoseg.grid import round_up
from geoseg.inference.choice import choose_engine
from geoseg.inference.cloud_models import S2CLOUDLESS, trees_of
from geoseg.inference.reading import clouds_of
from geoseg.models.card import Card
from geoseg.models.model_folder import load_model
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.clouds import CloudFile, CloudLayer, CloudNetwork, Clouds, CloudSource
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stac.signer import Signer
from pipeline.config.sections import Config, SceneConfig
from pipeline.config.units import parse_distance
from pipeline.plan.domain import look_at
from pipeline.plan.rescale import rescale_of, values_of
from pipeline.plan.task import HALO
from pipeline.plan.value_settings import refuse_values

__all__ = ["NAME", "name_of_date", "with_clouds"]

WORDS = ("cloud", "shadow", "cirrus")
"""Classes of a model whose names hold one of them hide the ground, where nothing else was asked for."""
NAME = "{name}"
"""Stands in the path of a mask for the name of its scene."""


def with_clouds(scene: Scene, name: str, config: Config, known: Mapping[str, int]) -> tuple[Scene, tuple[str, ...]]:
    """A scene that knows what hides its ground, and notes for the report; the same one where nothing was asked for.

    Args:
        scene: The scene, of one date.
        name: Stands in patterns of files.
        config: The settings.
        known: Indices of the bands of the scene that the map is made from, by their names.

    Raises:
        SceneError: Its product has no such layer; or what was asked for can't be read, or laid over the scene.
        ConfigError: The settings don't fit together.
        ModelError: The model can't be used.
    """
    if config.scene.clouds is None:
        return scene, ()
    source = _source(scene, name, config, known)
    if source is None:
        return scene, ("clouds: the product has no quality layer, so that nothing is hidden",)
    clouds = Clouds(source=source, name=_told(source), buffer=_buffer(scene.georeference, (scene.height, scene.width), config))
    found = replace(scene, clouds=clouds)
    if isinstance(source, CloudFile | CloudLayer):
        # What can't be opened or understood is told before anything is computed.
        note = getattr(clouds_of(replace(found, clouds=replace(clouds, buffer=(0.0, 0.0)))), "note", None)
    else:
        note = None
    return replace(found, fingerprint=found.fingerprint_now()), () if note is None else (str(note),)


def name_of_date(ref: SceneRef) -> str:
    """What stands in patterns of files for a scene that is one of several dates, whose own name is that of all."""
    return Path(shown(ref.paths[0])).stem


def _source(scene: Scene, name: str, config: Config, known: Mapping[str, int]) -> CloudSource | None:
    text, asked = str(config.scene.clouds), config.scene
    if asked.cloud_model is not None:
        return _model(scene, asked.cloud_model, config, known)
    if asked.cloud_file is not None:
        return _file(asked.cloud_file, name, asked, scene)
    layers = [layer for layer in scene.quality if text in ("auto", layer.kind)]
    if not layers and text == "auto":
        return None
    if not layers:
        has = ", ".join(layer.kind for layer in scene.quality)
        raise SceneError(
            f"{scene.path}: its product or item has no quality layer {text!r}{f', but {has}' if has else ''}; give a file, "
            f"{setting('clouds', 'model:NAME')}, or {setting('clouds', 'auto')} for what it has"
        )
    classes = asked.cloud_classes or ()
    QUALITY[layers[0].kind].numbers(classes)
    return CloudLayer(layer=layers[0], classes=classes)


def _file(text: str, name: str, asked: SceneConfig, scene: Scene) -> CloudFile:
    path = text.replace(NAME, name)
    if not is_remote(path) and not split_layer(path)[0].exists():
        if NAME in text:
            raise SceneError(f"{path}: no such file, which {setting('clouds', text)} names for this scene")
        raise ConfigError(f"scene.clouds: {path}: no such file; it is auto, scl, qa, fmask, udm2, a file or model:NAME")
    try:
        values = tuple(int(part) for part in asked.cloud_classes or ())
    except ValueError:
        raise ConfigError(
            f"scene.cloud_classes: {','.join(asked.cloud_classes or ())}: of a file they are values of its pixels; write numbers"
        ) from None
    # A mask is signed as its scene is, by whose collection some services give their tokens.
    own = next((file.signer for file in scene.files if file.signer is not None), None)
    signer = (own or Signer.of(asked.sign, None)) if is_remote(path) else None
    return CloudFile(path=path, values=values, band=asked.cloud_band, signer=signer)


def _model(scene: Scene, name: str, config: Config, known: Mapping[str, int]) -> CloudSource:
    if name == S2CLOUDLESS:
        if config.scene.cloud_classes:
            raise ConfigError(f"scene.cloud_classes: {S2CLOUDLESS} knows clouds only; leave it out")
        return trees_of(scene, config.infer.threads)
    model = load_model(name)
    card = model.card
    refuse_values(card, "scene.clouds", "give a model whose classes are clouds and clear ground")
    if card.tile is not None:
        raise ConfigError(f"scene.clouds: {card.name} takes images of {card.tile} px only; give a model that takes all sizes")
    bands = _bands(scene, card, known)
    looks = look_at(scene, bands, len(bands)) if config.scene.rescale == "auto" else ()
    ranges = rescale_of(scene, bands, config.scene.rescale, card, looks).ranges
    halo = HALO if card.exact_halo is None else card.exact_halo
    # Half of a tile's side is core at least, whatever the tiles of the map are.
    tile = round_up(max(config.grid.tile, 4 * round_up(halo, card.stride)), card.stride)
    return CloudNetwork(
        path=str(model.path),
        sha256=model.sha256,
        bands=bands,
        values=values_of(scene, bands, card, ranges),
        codes=_codes(card, config.scene.cloud_classes),
        engine=choose_engine(model, config.infer.engine),
        device=config.infer.device,
        threads=config.infer.threads,
        tile=tile,
        halo=halo,
        memory_bytes=int(card.bytes_per_pixel * tile**2),
    )


def _bands(scene: Scene, card: Card, known: Mapping[str, int]) -> tuple[int, ...]:
    """Bands of a model of clouds: those of the same names that the map is made from, else as names and wavelengths say."""
    if set(card.bands) <= set(known):
        return tuple(known[name] for name in card.bands)
    try:
        return choose_bands(scene, card.bands, None)[0]
    except BandError as error:
        raise BandError(f"{error} (for the model of clouds, {card.name})") from error


def _codes(card: Card, asked: Sequence[str] | None) -> tuple[int, ...]:
    """The classes of a model that hide the ground."""
    known = {c.name.casefold(): c.value for c in card.classes}
    listed = ", ".join(f"{c.value} {c.name}" for c in card.classes)
    if asked:
        found = [known.get(text.strip().casefold(), int(text) if text.strip().isdecimal() else None) for text in asked]
        for text, code in zip(asked, found, strict=True):
            if code not in known.values():
                raise ConfigError(f"scene.cloud_classes: {text!r} is no class of {card.name}; it has {listed}")
        return tuple(sorted({code for code in found if code is not None}))
    usual = tuple(sorted(code for name, code in known.items() if any(word in name for word in WORDS)))
    if not usual:
        raise ConfigError(
            f"scene.clouds: {card.name} has no class named after clouds or shadows ({listed}); say which hide the ground with "
            f"{setting('cloud_classes')}"
        )
    return usual


def _told(source: CloudSource) -> str:
    """What hides the ground, for people."""
    match source:
        case CloudLayer(layer=layer):
            numbers = QUALITY[layer.kind].numbers(source.classes)
            names = {number: name for name, number in QUALITY[layer.kind].names}
            return f"{layer.kind}: {', '.join(names.get(number, 'all that is not clear') for number in numbers)}"
        case CloudFile(path=path):
            return shown(path)
        case CloudNetwork(path=path):
            return f"model {Path(path).name}"
        case _:
            return f"model {S2CLOUDLESS}"


def _buffer(place: Georeference, shape: tuple[int, int], config: Config) -> tuple[float, float]:
    """How far clouds grow, in rows and cols."""
    text = config.scene.clouds_buffer
    if text is None:
        return 0.0, 0.0
    length, unit = parse_distance(text)
    if length == 0:
        return 0.0, 0.0
    reach = (length, length)
    if unit == "m":
        if place.crs is None:
            raise ConfigError(f"scene.clouds_buffer: {text}: the image has no CRS, so that pixels have no size; write it in px")
        rows, cols = pixel_sides(place, shape)
        reach = (length / rows, length / cols)
    if max(reach) > MOST_PX:
        raise ConfigError(f"scene.clouds_buffer: {text} is {max(reach):.0f} px; {MOST_PX:.0f} px is the most")
    return reach
