"""``geoseg inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import config_from, config_options
from pipeline.cli.output import echo

if TYPE_CHECKING:
    from geoseg.models.card import Card
    from geoseg.scenes.scene import Band, Scene
    from geoseg.scenes.sources import SceneRef
    from pipeline.config.sections import Config

__all__ = ["command"]


@click.command("inspect")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--model", "model", metavar="MODEL", help="Say which bands a model would take of the raster.")
@click.option("--bench", is_flag=True, help="Measure the engines that are installed (models only).")
def command(target: str, as_json: bool, model: str | None, bench: bool, **options: object) -> int:
    """Say what is known of a model (a folder, a shipped name, a name on the hub), of a raster, a product, or STAC items."""
    from geoseg.models.model_folder import shipped_models
    from geoseg.scenes.names import scene_name
    from geoseg.scenes.products.recognizing import is_product, product_at
    from geoseg.scenes.remote import is_remote
    from geoseg.scenes.sources import STAC, SceneRef
    from geoseg.scenes.stac.hrefs import is_document

    path = Path(target)
    is_stac = target.startswith(STAC) or (
        is_document(target) and (is_remote(target) or (path.is_file() and product_at(target) is None))
    )
    is_model = (
        (path.is_dir() and not is_product(target)) or target in shipped_models() or (not path.exists() and not is_remote(target))
    )
    if is_stac:
        facts = _item_facts(target, config_from(options), model)
    elif is_model:
        facts = _model_facts(target)
        if bench:
            facts["bench"] = _bench(target)
    else:
        facts = _raster_facts(SceneRef(scene_name(path.stem), (target,)), config_from(options), model)
    if as_json:
        echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        lines = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        for i, line in enumerate(lines or ["none"]):
            echo(f"{key if i == 0 else '':{width}}  {line}")
    return 0


def _model_facts(name: str) -> dict[str, object]:
    from geoseg.digits import count_text
    from geoseg.models.model_folder import load_model

    model = load_model(name)
    card = model.card
    field = card.receptive_field
    files = sorted(path for path in model.path.iterdir() if path.is_file())
    return {
        "model": f"{card.name} {card.version}: {card.description}",
        "folder": str(model.path),
        "sha256": model.sha256,
        "files": [f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in files],
        "network": f"{card.architecture}, {count_text(card.total_parameters)} parameters, stride {card.stride}"
        + (f", images of {card.tile} px only" if card.tile else ""),
        "receptive field": (
            "all of the tile (global context: tiles are blended)"
            if field is None or card.global_context
            else f"left {field.left}, right {field.right}, top {field.top}, bottom {field.bottom} px; exact halo "
            f"{card.exact_halo} px"
        ),
        "takes": [
            f"{band}: ({card.data_type} - {s.mean:g}) / {s.stddev:g}" for band, s in zip(card.bands, card.scaling, strict=True)
        ],
        "pixels of": f"{card.gsd_m:g} m" if card.gsd_m else "any size",
        "made for": _made_for(card),
        **_gives(card),
        "memory": f"{card.bytes_per_pixel:.0f} bytes a pixel of a tile",
        "trained on": [f"{source.name} ({source.license}) {source.attribution}".strip() for source in card.data],
        "licence": card.license,
    }


def _gives(card: Card) -> dict[str, object]:
    """What its maps hold: classes, or values."""
    quantity = card.quantity
    if quantity is not None:
        least, most = quantity.limits
        return {
            "regresses": quantity.title,
            "maps hold": f"{least:g} to {most:g}{quantity.suffix}, in steps of {quantity.scale:g}{quantity.suffix}",
            "value": f"{quantity.slope:g} * output + {quantity.intercept:g}",
        }
    return {
        "classes": [f"{c.value} {c.name} {c.color}{' (background)' if c.background else ''}" for c in card.classes],
        "decides by": f"{card.activation}, "
        + ("thresholds " + str(card.thresholds) if card.thresholds else "most probable class"),
    }


def _made_for(card: Card) -> list[str] | str:
    """The values of the training, by band."""
    if card.domain is None:
        return "images that the card does not tell of"
    facts = card.domain
    spans = zip(card.bands, facts.quantiles, strict=True)
    return [
        *(
            f"{band} mostly from {values[0]:g} to {values[-1]:g}, {values[len(values) // 2]:g} in the middle"
            for band, values in spans
        ),
        f"distances up to {facts.limit:g}",
    ]


def _item_facts(target: str, config: Config, model: str | None) -> dict[str, object]:
    """The scenes of items as they tell of them, nothing opened; of a single one what its files say."""
    from geoseg.scenes.sources import list_scenes
    from pipeline.plan.options import stac_search

    found, refused = list_scenes([target], search=stac_search(config, config.scene.bands or ()))
    reasons = [item.reason for item in refused]
    if len(found) == 1 and not refused:
        return _raster_facts(found[0], config, model)
    return {"scenes": [_line_of(ref) for ref in found], **({"refused": reasons} if reasons else {})}


def _line_of(ref: SceneRef) -> str:
    """A scene in a line, as its item tells of it."""
    from geoseg.scenes.remote import shown

    told = ref.told
    facts = [ref.name]
    if told is not None:
        first = told.files[0]
        facts += [told.acquired or "no date", *([told.platform] if told.platform else [])]
        facts += [f"{told.cloud_cover:g} % clouds"] if told.cloud_cover is not None else []
        facts += ["{} x {} px".format(*first.shape)] if first.shape else []
        facts += [first.crs] if first.crs else []
    return ", ".join((*facts, *(f"{name}: {shown(path)}" if name else shown(path) for name, path in _files(ref))))


def _files(ref: SceneRef) -> list[tuple[str, str]]:
    return list(zip(ref.band_names or ("",) * len(ref.paths), ref.paths, strict=True))


def _raster_facts(ref: SceneRef, config: Config, model: str | None) -> dict[str, object]:
    from geoseg.scenes.legend import legend_of
    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.scene import OpenOptions, open_dataset
    from geoseg.scenes.stac.signing import signed

    options = OpenOptions(
        allow_vrt=config.scene.allow_vrt,
        assume_crs=config.scene.assume_crs,
        pixel_coords=config.scene.pixel_coords,
        gcps=config.scene.gcps,
        sign=config.scene.sign,
    )
    scene = open_scene(ref.paths, ref.name, options, band_names=ref.band_names, told=ref.told)
    file = scene.files[0]
    with open_dataset(signed(file.path, file.signer), file.driver) as dataset:
        names = legend_of(dataset, file.path).names
    validity = {"all": "NaN and infinity only", "nodata": "nodata value", "mask": "mask", "alpha": f"alpha band {file.alpha}"}[
        file.validity
    ]
    return {
        "raster": scene.path,
        **_product_facts(scene),
        "size": f"{scene.height} x {scene.width} px",
        "bands": [_band_line(scene, number, band) for number, band in enumerate(scene.bands, 1)],
        **({} if model is None else {f"bands of {model}": _bands_met(scene, model)}),
        "placed by": f"{scene.georeference.name}, transform {scene.georeference.transform}",
        "pixels of": f"{scene.pixel_size:.4g} m" if scene.pixel_size else "no size",
        "corners": [f"{x:.3f}, {y:.3f}" for x, y in scene.georeference.corners(scene.height, scene.width).tolist()],
        "valid by": validity,
        "blocks": f"{file.block_shape[0]} x {file.block_shape[1]} px, {'pixel' if file.interleaved else 'band'} interleaved",
        **({"classes": [f"{code} {name}" for code, name in sorted(names.items())]} if names else {}),
        "acquired": scene.acquired or "not known",
        "fingerprint": scene.fingerprint,
        "warnings": list(scene.warnings),
    }


def _product_facts(scene: Scene) -> dict[str, object]:
    """What the metadata of a product tell."""
    if scene.product is None:
        return {}
    facts = scene.product.document()
    units = {"cloud_cover": " %", "sun_azimuth": "°", "sun_elevation": "°", "off_nadir": "°", "view_azimuth": "°"}
    known = {
        key.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else f"{value}{units.get(key, '')}"
        for key, value in facts.items()
        if key not in ("name", "acquired", "absent")
    }
    absent = {"absent": [f"{band.name}: {band.reason}" for band in scene.product.absent]} if scene.product.absent else {}
    quality = {"quality": [f"{layer.kind} {layer.path}" for layer in scene.quality]} if scene.quality else {}
    return {"product": scene.product.name, **known, **absent, **quality}


def _band_line(scene: Scene, number: int, band: Band) -> str:
    """A band in one line: its number for ``--bands``, names, values and how it is brought to the grid."""
    resampling = scene.files[band.file].resampling
    return (
        f"{number} {band.label} {band.dtype}"
        + (f" ({band.role})" if band.role not in (None, band.label) else "")
        + (f" {band.wavelength:g} µm" if band.wavelength is not None else "")
        + (f" nodata {band.nodata:g}" if band.nodata is not None else "")
        + (f" scale {band.scale:g} offset {band.offset:g}" if (band.scale, band.offset) != (1.0, 0.0) else "")
        + (f" {band.quantity}" if band.quantity is not None else "")
        + (f", resampled ({resampling})" if resampling is not None else "")
    )


def _bands_met(scene: Scene, name: str) -> list[str]:
    """The bands that a model would take, or why it can't."""
    from geoseg.errors import SceneError
    from geoseg.models.model_folder import load_model
    from geoseg.scenes.bands.choosing import choose_bands
    from pipeline.plan.rescale import values_of

    card = load_model(name).card
    try:
        bands, notes = choose_bands(scene, card.bands, None)
        found = [f"{wanted}: {i + 1} {scene.bands[i].label}" for wanted, i in zip(card.bands, bands, strict=True)]
        values = values_of(scene, bands, card, None)
    except SceneError as error:
        return [str(error)]
    return [*found, *notes, *([values.note] if values.note is not None else [])]


def _bench(name: str) -> list[str]:
    """Time of one tile of 1024 px on each engine that can run the model here."""
    import time

    import numpy as np

    from geoseg.errors import GeosegError
    from geoseg.inference.choice import choose_engine, open_engine
    from geoseg.inference.engine import TileBatch
    from geoseg.inference.normalization import Normalization
    from geoseg.models.model_folder import load_model

    model = load_model(name)
    bands, side = len(model.card.bands), model.card.tile or 1024
    shift = tuple(-s.mean / s.stddev for s in model.card.scaling)
    ends = (-1e9,) * bands, (1e9,) * bands
    normalization = Normalization(tuple(1 / s.stddev for s in model.card.scaling), shift, *ends)
    data = np.random.default_rng(0).integers(0, 255, (bands, side, side), np.uint8)
    batch = TileBatch([data], [np.ones((side, side), np.bool_)], (side, side), [(slice(0, side), slice(0, side))])
    lines = []
    for engine_name in ("onnx", "torch"):
        try:
            engine = open_engine(choose_engine(model, engine_name), model, normalization)
        except GeosegError as error:
            lines.append(f"{engine_name}: {error}")
            continue
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            engine.scores(batch)
            seconds.append(time.perf_counter() - start)
        lines.append(f"{engine_name} on {engine.device}: {side * side / min(seconds) / 1e6:.2f} Mpx/s")
    return lines


command.params += config_options(
    ("scene", "stac"),
    leave_out=(
        "rescale",
        "resample",
        "target_crs",
        "ignore_nodata",
        "nodata",
        "on_bad_block",
        "clouds",
        "cloud_classes",
        "cloud_band",
        "clouds_buffer",
        "max_pixels",
    ),
)
