"""``run.json``: the record that a run publishes about itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from geoseg.documents import Json
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.manifest import StageRecord
from pipeline.files.version import code_version
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan
from pipeline.publish.report import areas_by_class, chunk_warnings, failed_chunks, hidden_facts
from pipeline.publish.value_facts import value_document

__all__ = ["result_identity", "run_document"]

MOST_TEXT = 200
"""Characters of an area of interest that is given as WKT."""


def run_document(
    plan: Plan,
    ref: SceneRef,
    config: Config,
    receipts: Collection[Receipt],
    stitched: StageRecord,
    features: int,
    seconds: Mapping[str, float],
    overlap_s: Mapping[str, float],
) -> dict[str, Json]:
    """The content of ``run.json`` but for the files.

    Args:
        plan: The scene's plan.
        ref: The scene, as it was given.
        config: The settings.
        receipts: Of the chunks, in row order.
        stitched: The record of the stage that puts rasters together.
        features: How many polygons there are.
        seconds: Time by stage.
        overlap_s: How much of it was worked while the network ran, by stage.
    """
    failed, pixels = failed_chunks(plan, receipts), stitched.pixels or {}
    parts = [(pixels, stitched.area_m2 or {})] if pixels else [(receipt.pixels, receipt.area_m2) for receipt in receipts]
    return {
        "geoseg": code_version(),
        "scene": plan.scene.name,
        "status": "partial" if failed else "done",
        "reason": f"{len(failed)} of {len(plan.active)} chunks are not analysed: {failed[0]['reason']}" if failed else None,
        "source": [shown(path) for path in plan.scene.own_paths],
        "given": _given(ref),
        "acquired": plan.scene.acquired,
        **_of_product(plan.scene),
        "model": {
            "name": plan.card.name,
            "version": plan.card.version,
            "sha256": plan.model_sha256,
            "members": [{"path": member.path, "sha256": member.sha256} for member in plan.members],
        },
        "identity": result_identity(plan, config),
        "config": config.public(),
        "plan": plan.describe(),
        "domain": [check.document() for check in plan.domains],
        **_of_dates(plan),
        **_of_area(plan, config),
        **({} if (clouds := hidden_facts(plan, receipts)) is None else {"clouds": clouds}),
        **({} if not plan.sources else {"mosaic": dict(plan.shared), "scenes": [dict(one) for one in plan.sources]}),
        "warnings": [*plan.warnings, *chunk_warnings(plan, receipts, pixels or None)],
        "classes": list(areas_by_class(plan, parts)),
        **({} if plan.quantity is None else {"values": value_document(plan.quantity, receipts)}),
        "features": features,
        "not_analysed": failed,
        "chunks": _counts(plan, receipts, len(failed)),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "overlap_s": {name: round(value, 3) for name, value in overlap_s.items()},
        "seconds_by_step": _steps(receipts),
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _counts(plan: Plan, receipts: Collection[Receipt], failed: int) -> dict[str, Json]:
    total, tiles = plan.grid.n_chunks, sum(receipt.tiles for receipt in receipts)
    return {"total": total, "empty": total - len(plan.active), "failed": failed, "tiles": tiles}


def result_identity(plan: Plan, config: Config) -> dict[str, Json]:
    """The facts that the published files depend on."""
    facts = {key: value for key, value in plan.identity(config).items() if key not in ("chunk", "config")}
    return {**facts, "config": config.result_hash()}


def _given(ref: SceneRef) -> dict[str, Json]:
    """The scene as it was given, without what signs its addresses."""
    given: dict[str, Json] = {"name": ref.name, "paths": [shown(path) for path in ref.paths]}
    if ref.band_names:
        given["band_names"] = list(ref.band_names)
    if ref.area is not None:
        given["area"] = ref.area
    if ref.told is not None:
        told: dict[str, Json] = asdict(ref.told)
        quality = [{"kind": layer.kind, "path": shown(layer.path)} for layer in ref.told.quality]
        given["told"] = {key: value for key, value in told.items() if key != "quality"} | (
            {"quality": quality} if quality else {}
        )
    if ref.later:
        given["later"] = [_given(later) for later in ref.later]
    return given


def _of_product(scene: Scene) -> dict[str, Json]:
    """What the metadata of a product tell; nothing of other files."""
    return {} if scene.product is None else {"product": scene.product.document()}


def _of_dates(plan: Plan) -> dict[str, Json]:
    """Facts of several dates; none of a single one."""
    if not plan.scene.dates:
        return {}
    return {
        "dates": [
            {
                "acquired": date.acquired,
                "source": [shown(path) for path in date.own_paths],
                "mask": mask and shown(mask),
                **_of_product(date),
            }
            for date, mask in zip(plan.scene.dates, plan.scene.masks, strict=True)
        ],
        "series": plan.series is not None,
        "changes": {str(code): asdict(change) for code, change in plan.changes.items()},
        "registration": [{**asdict(found), "consistent": found.consistent} for found in plan.registrations],
    }


def _of_area(plan: Plan, config: Config) -> dict[str, Json]:
    """Facts of the area of interest; none where the whole scene is mapped."""
    if plan.area is None:
        return {}
    pixels = plan.area.pixels
    return {
        "area_of_interest": {
            "given": shown((config.area.aoi or config.mosaic.within or "")[:MOST_TEXT]),
            "sha256": plan.area.digest,
            "pixels": pixels,
            "outside_pixels": plan.grid.scene.pixels - pixels,
        }
    }


def _steps(receipts: Collection[Receipt]) -> dict[str, float]:
    """Time by step, added up over chunks; steps of several chunks run at once."""
    names = {name for receipt in receipts for name in receipt.seconds}
    return {name: round(sum(receipt.seconds.get(name, 0.0) for receipt in receipts), 3) for name in sorted(names)}
