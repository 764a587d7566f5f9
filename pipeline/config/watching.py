"""Settings of a watched source, and of the STAC API that it may be."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.config.section import Section
from pipeline.config.units import MAX_DURATION_S, parse_seconds

__all__ = ["StacConfig", "WatchConfig"]


class StacConfig(Section):
    """Filter of STAC items, and of the sources that start with stac+."""

    collections: tuple[str, ...] = Field((), description="Collections to search.")
    bbox: tuple[float, float, float, float] | None = Field(
        None, description="West, south, east, north in degrees that an item touches."
    )
    datetime: str | None = Field(
        None, description="A date or an interval: 2024-06-01/2024-09-30, or 2024-06-01/.. for all since."
    )
    max_cloud_cover: float | None = Field(None, ge=0, le=100, description="Skip items with more clouds, in percent.")
    assets: tuple[str, ...] | None = Field(
        None,
        description="Assets that make a scene: one with all bands, or one a band in the model's order. [default: those that hold "
        "the model's bands; of a watch, visual]",
    )
    max_items: int = Field(
        10_000, gt=0, le=10_000_000, description="Items to take at most.", json_schema_extra={"also": "--limit"}
    )

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, box: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if box is not None and (box[1] > box[3] or max(abs(box[1]), abs(box[3])) > 90 or max(abs(box[0]), abs(box[2])) > 180):
            raise ValueError(f"{','.join(f'{n:g}' for n in box)} is not west,south,east,north in degrees")
        return box


class WatchConfig(Section):
    """Settings for watching a source for new scenes."""

    mosaic: bool = Field(
        default=False,
        description="Keep one map of all scenes up to date, OUT/mosaic, or one a UTM zone, rather than a map of each.",
    )
    at_once: int = Field(1, ge=1, le=64, description="Scenes that are mapped at the same time.")
    settle: str = Field("30s", description="Leave files alone until they have not changed for this long: 30s, 5m, 1h.")
    done_marker: str | None = Field(
        None, description="Take a scene only when a file with this ending lies beside it: .done waits for scene.tif.done."
    )
    scan_timeout: str = Field("5m", description="Longest time that looking at a source may take; what has not answered is away.")
    retry_delay: str = Field(
        "10s", description="First delay before a scene is tried again that failed by what may pass; it doubles each time."
    )
    retry_most: str = Field("1h", description="Longest such delay.")
    repair: bool = Field(default=True, description="Map scenes again whose published files are gone or were changed.")
    max_failures: int = Field(
        3, ge=1, le=1_000_000, description="Attempts before a scene is put in quarantine; failures that may pass do not count."
    )
    webhook: str | None = Field(
        None,
        description="Address that is sent a JSON message when a scene is mapped or has failed, or env:NAME of the variable "
        "that holds it.",
    )

    @field_validator("settle", "scan_timeout", "retry_delay", "retry_most")
    @classmethod
    def _check_duration(cls, text: str) -> str:
        if parse_seconds(text) > MAX_DURATION_S:
            raise ValueError(f"{text!r} is longer than a year")
        return text

    @field_validator("webhook", mode="before")
    @classmethod
    def _check_webhook(cls, text: object) -> object:
        if isinstance(text, str) and text and not text.startswith(("http://", "https://", "env:", "secret:")):
            raise ValueError("neither an http or https address, nor env:NAME, nor secret:NAME")
        # What a template makes of a variable that is not set.
        return text or None

    @property
    def settle_s(self) -> float:
        """Seconds that a file is to rest."""
        return parse_seconds(self.settle)

    @property
    def scan_timeout_s(self) -> float:
        """Longest time of a look at the sources."""
        return parse_seconds(self.scan_timeout)

    @property
    def retry_delay_s(self) -> float:
        """Seconds before the first new attempt after a failure that may pass."""
        return parse_seconds(self.retry_delay)

    @property
    def retry_most_s(self) -> float:
        """Seconds that such a delay is at most."""
        return parse_seconds(self.retry_most)
