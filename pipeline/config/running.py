"""Settings of a run: where the work is done, and what happens to what is there already."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section

__all__ = ["RunConfig"]


class RunConfig(Section):
    """Settings for spreading the work, and for results that are there already."""

    workers: int = Field(
        0, ge=0, le=4096, description="Dask worker processes on this machine. [default: none, all in this process]"
    )
    max_workers: int = Field(
        0, ge=0, le=4096, description="Let the processes grow from --workers to this many while chunks wait."
    )
    scheduler: str | None = Field(
        None, description="An existing Dask cluster: tcp://host:port, tls://host:port, or a scheduler file."
    )
    tls_ca: str | None = Field(None, description="For a cluster with TLS: file of the authority that its certificates come from.")
    tls_cert: str | None = Field(None, description="For a cluster with TLS: file of this side's certificate.")
    tls_key: str | None = Field(None, description="For a cluster with TLS: file of this side's key.")
    scratch: str | None = Field(
        None,
        description="Keep chunk results at this folder or address (s3://bucket/prefix) that all workers reach. [default: the "
        "output folder]",
    )
    strict: bool = Field(
        default=False,
        description="Stop at the first scene that fails, and take never-written blocks, and scenes far from what the model was "
        "made for, as errors.",
    )
    overwrite: bool = Field(default=False, description="Replace outputs that were made from other inputs or settings.")
    keep: bool = Field(default=False, description="Keep the chunk results after publishing.")
    confidence: bool = Field(default=True, description="Write confidence.tif.")
    date: str | None = Field(None, description="Acquisition date of scenes that don't say it, ISO 8601.")

    @field_validator("scheduler", mode="before")
    @classmethod
    def _check_scheduler(cls, text: object) -> object:
        # What a template makes of a variable that is not set.
        return text or None

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if self.scheduler is not None and (self.workers or self.max_workers):
            raise ValueError("give either a scheduler or a number of workers")
        if self.max_workers and self.max_workers < max(1, self.workers):
            raise ValueError(f"max_workers is {self.max_workers}, which is below workers, {max(1, self.workers)}")
        if any((self.tls_ca, self.tls_cert, self.tls_key)) and not all(
            (self.tls_ca, self.tls_cert, self.tls_key, self.scheduler)
        ):
            raise ValueError("TLS takes tls_ca, tls_cert, tls_key and a scheduler")
        return self

    @field_validator("date")
    @classmethod
    def _check_date(cls, text: str | None) -> str | None:
        from datetime import datetime

        if text is not None:
            datetime.fromisoformat(text)
        return text
