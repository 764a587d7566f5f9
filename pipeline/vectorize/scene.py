"""Polygons of a scene's class raster and of its coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from geoseg.codes import COVERAGE, OUTSIDE_AREA
from geoseg.dialect import listed
from geoseg.errors import ConfigError
from geoseg.formats.cog import Turn
from geoseg.parallel import cores
from geoseg.polygons.block_grid import BLOCK
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import FeatureFacts, feature_schema
from geoseg.polygons.origins import Origins
from pipeline.config.sections import VectorConfig
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.plan.plan import Plan
from pipeline.vectorize.block_spool import block_spool
from pipeline.vectorize.exact import RasterGrown, cut_exactly
from pipeline.vectorize.run import vectorize
from pipeline.vectorize.traced import Tracers, VectorOptions

__all__ = [
    "coverage_names",
    "coverage_options",
    "no_polygons",
    "scene_facts",
    "vectorize_coverage",
    "vectorize_scene",
    "wanted_by",
    "wanted_codes",
]

MOST_LISTED = 12
"""Classes that an error names."""


def vectorize_scene(
    plan: Plan,
    raster: ClassRaster,
    config: VectorConfig,
    work: Path,
    should_stop: Callable[[], bool],
    turn: Turn,
    origins: Origins | None = None,
    elsewhere: Tracers | None = None,
) -> FeatureSpool:
    """Polygons of a scene's result, or of a mosaic, with all that is known of it on each; see ``vectorize``.

    ``elsewhere`` has blocks of the raster traced, unless these depend on more than what is stored around them: on regions that
    are too small, on the line of an area, or on the scenes of a mosaic.
    """
    facts = replace(scene_facts(plan, config, has_confidence=raster.has_confidence), origins=origins)
    threads = plan.threads or cores()
    options = VectorOptions.of(config, wanted_by(config, plan), threads)
    if plan.scene.dates:
        # The raster of changes has its minimum mapping unit already.
        options = replace(options, min_area_m2=0.0)
    if plan.area is None or not plan.exact_cut:
        alone = bool(options.min_area_m2) or origins is not None
        return vectorize(raster, facts, options, work, should_stop, turn, None if alone else elsewhere)
    spool = vectorize(RasterGrown(raster, plan.area), facts, options, work, should_stop, turn)
    return cut_exactly(spool, plan.area, plan.scene.georeference)


def no_polygons(work: Path) -> FeatureSpool:
    """The polygons of a map that has none, in a folder of their own."""
    work.mkdir(parents=True, exist_ok=True)
    with block_spool(work / SPOOL, feature_schema()):
        pass
    return FeatureSpool(work / SPOOL, 0)


def wanted_by(config: VectorConfig, plan: Plan) -> tuple[int, ...]:
    """The classes that polygons are wanted of.

    Raises:
        ConfigError: There is no such class, or it has no polygons in this task.
    """
    card = plan.card
    if config.classes is None:
        return tuple(c.value for c in card.classes if not c.background)
    wanted = wanted_codes(config.classes, {style.code: style.name for style in plan.styles})
    other = next((c.name for c in card.classes if c.value in wanted and c.value not in card.object_classes), None)
    if plan.task == "instances" and other is not None:
        raise ConfigError(f"vector.classes: {other!r} has no objects; use --task panoptic, which gives its regions, too")
    return wanted


def scene_facts(plan: Plan, config: VectorConfig, *, has_confidence: bool = True) -> FeatureFacts:
    """Facts that the features of a scene have in common."""
    card = plan.card
    return FeatureFacts(
        georeference=plan.scene.georeference,
        class_names={style.code: style.name for style in plan.styles},
        has_confidence=has_confidence,
        scene=plan.scene.name,
        acquired=plan.scene.acquired,
        model=f"{card.name} {card.version}",
        model_sha256=plan.model_sha256,
        min_area_m2=0.0 if plan.task == "panoptic" else config.min_area_m2,
        changes=plan.changes,
    )


def vectorize_coverage(
    plan: Plan, raster: ClassRaster, work: Path, threads: int, should_stop: Callable[[], bool], turn: Turn
) -> FeatureSpool:
    """Polygons of what was analysed, was not and why, holds no data, and lies outside of the area of interest."""
    facts = FeatureFacts(
        georeference=raster.georeference,
        class_names=coverage_names(within_area=plan.area is not None),
        has_confidence=False,
        scene=plan.scene.name,
        acquired=plan.scene.acquired,
        model=f"{plan.card.name} {plan.card.version}",
        model_sha256=plan.model_sha256,
    )
    return vectorize(raster, facts, coverage_options(facts, threads), work, should_stop, turn)


def coverage_names(*, within_area: bool) -> dict[int, str]:
    """What the codes of coverage mean; of maps of an area of interest, outside of it, too."""
    return {**COVERAGE, **({OUTSIDE_AREA: "outside the area of interest"} if within_area else {})}


def coverage_options(facts: FeatureFacts, threads: int) -> VectorOptions:
    """All of coverage is traced; it is mostly even, over all of the scene: few large blocks."""
    return VectorOptions(wanted=tuple(facts.class_names), max_vertices=VectorConfig().max_vertices, threads=threads, block=BLOCK)


def wanted_codes(classes: Iterable[str], names: Mapping[int, str]) -> tuple[int, ...]:
    """Codes of classes that are given by name or by code.

    Raises:
        ConfigError: There is no such class.
    """
    by_name = {name.casefold(): code for code, name in names.items()}
    found = []
    for text in classes:
        code = by_name.get(text.strip().casefold(), int(text) if text.strip().isdecimal() else None)
        if code is None or code not in names:
            known = [f"{number} {name}" for number, name in sorted(names.items())]
            raise ConfigError(f"vector.classes: {text!r} is none of {listed(known, MOST_LISTED)}")
        found.append(code)
    return tuple(found)
