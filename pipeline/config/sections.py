"""Settings of a run: one closed class per stage; names, units and defaults stand in this folder only.

The command line, the TOML file and scheduled flows are all made from these classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from geoseg.addresses import host_of, shown, unsigned
from geoseg.dialect import setting
from geoseg.documents import Json
from geoseg.errors import ConfigError
from geoseg.scenes.stac.signer import Signer
from pipeline.config.comparing import DatesConfig
from pipeline.config.compositing import CompositeConfig
from pipeline.config.document import parse_document, read_toml
from pipeline.config.map_sections import AreaConfig, GridConfig, InferConfig, SceneConfig, VectorConfig
from pipeline.config.mosaicking import MosaicConfig
from pipeline.config.running import RunConfig
from pipeline.config.section import Section
from pipeline.config.watching import StacConfig, WatchConfig

__all__ = [
    "AreaConfig",
    "CompositeConfig",
    "Config",
    "DatesConfig",
    "GridConfig",
    "InferConfig",
    "MosaicConfig",
    "RunConfig",
    "SceneConfig",
    "StacConfig",
    "VectorConfig",
    "WatchConfig",
]

CLOUDS = ("clouds", "cloud_classes", "cloud_band", "clouds_buffer")
Settings: TypeAlias = dict[str, dict[str, Json]]
"""Values by section and key."""


class Config(Section):
    """All that a run can be told beside its inputs, its model and its output folder."""

    scene: SceneConfig = SceneConfig()
    area: AreaConfig = AreaConfig()
    grid: GridConfig = GridConfig()
    infer: InferConfig = InferConfig()
    vector: VectorConfig = VectorConfig()
    run: RunConfig = RunConfig()
    watch: WatchConfig = WatchConfig()
    stac: StacConfig = StacConfig()
    dates: DatesConfig = DatesConfig()
    mosaic: MosaicConfig = MosaicConfig()
    composite: CompositeConfig = CompositeConfig()

    @classmethod
    def parse(cls, document: Mapping[str, object]) -> Config:
        """Check a nested document.

        Raises:
            ConfigError: A key is unknown or a value can't work; the message names the key.
        """
        return parse_document(cls, document)

    @classmethod
    def read(cls, path: Path, changes: Mapping[str, Mapping[str, object]] | None = None) -> Config:
        """Read a TOML file with a table per section, then apply changes by section.

        Raises:
            ConfigError: The file can't be read or holds something that can't work.
        """
        document = read_toml(path)
        for section, values in (changes or {}).items():
            table = document.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{path}: {section}: is a value; write [{section}], and its settings below")
            table.update(values)
        return cls.parse(document)

    def public(self) -> Settings:
        """All settings as JSON without secrets: addresses as they may be shown, of the webhook no more than its host."""
        facts = _each_text(self.model_dump(mode="json"), shown)
        if self.watch.webhook is not None:
            facts["watch"]["webhook"] = host_of(self.watch.webhook)
        if self.scene.sign is not None and Signer(self.scene.sign).service is None:
            # A command may hold what it signs with.
            facts["scene"]["sign"] = None
        return facts

    def result_hash(self) -> str:
        """sha256 of all settings that can change the outputs; an address that is signed anew is the same."""
        return _hash(self._of_result())

    def changes_since(self, earlier: object) -> list[str]:
        """Settings that can change the outputs and had other values in an earlier run, with both.

        Args:
            earlier: Its settings, as ``public`` gave them.
        """
        found: list[str] = []
        now = self.public()
        for section, keys in self._of_result().items():
            before = earlier.get(section) if isinstance(earlier, Mapping) else None
            if isinstance(before, Mapping):
                found += [
                    f"{setting(key)} was {_said(before[key])}, is {_said(now[section][key])}"
                    for key in keys
                    if key in before and before[key] != now[section][key]
                ]
        return found

    def _of_result(self) -> Settings:
        facts = _each_text(self.model_dump(mode="json"), unsigned)
        for section, keys in {
            "infer": ("threads", "batch", "memory", "device", "compile", "tile_timeout"),
            "grid": ("chunk",),
        }.items():
            for key in keys:
                del facts[section][key]
        facts["run"] = {key: facts["run"][key] for key in ("date", "confidence", "strict")}
        facts["scene"] = _of_scene(facts["scene"])
        # What finds scenes does not change what becomes of them.
        del facts["watch"], facts["stac"]
        # The area itself stands in the identity of each scene, wherever it was read from.
        facts["area"] = {"aoi_cut": self.area.aoi_cut}
        if self.area.aoi is None or self.area.aoi_cut == "pixels":
            del facts["area"]
        # A mosaic and a composite have theirs in their identities; a map of one scene does not depend on them.
        del facts["mosaic"], facts["composite"]
        return facts

    def chunk_hash(self) -> str:
        """sha256 of the settings that can change chunk results."""
        facts = _each_text(self.model_dump(mode="json", include={"scene", "grid", "infer", "dates"}), unsigned)
        for key in ("least_area", "least_width"):
            del facts["dates"][key]
        facts["scene"] = _of_scene(facts["scene"])
        facts["grid"].pop("chunk")
        facts["infer"] = {key: facts["infer"][key] for key in ("task", "tta", "probabilities", "uncertainty")}
        if facts["infer"]["task"] != "semantic":
            # Chunks of a model that tells objects apart hold both: objects, and what lies between them.
            facts["infer"]["task"] = "auto"
        return _hash(facts)


def _of_scene(facts: Mapping[str, Json]) -> dict[str, Json]:
    """The settings of a scene that can change a result; those of clouds where these are asked for."""
    unused = {"max_pixels", "sign"} if facts["clouds"] is not None else {"max_pixels", "sign", *CLOUDS}
    return {key: value for key, value in facts.items() if key not in unused}


def _each_text(sections: Settings, change: Callable[[str], str]) -> Settings:
    """Settings with each of their texts changed."""
    return {name: {key: _changed(value, change) for key, value in section.items()} for name, section in sections.items()}


def _changed(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _said(value: Json) -> str:
    """A value as a message tells it."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not given" if value is None else str(value)


def _hash(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
