"""Labels that a damage model is trained on, and its name; the command line takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LabelledFootprints", "ModelName"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFootprints:
    """Footprints with a class each."""

    labels: str
    """A vector file."""
    column: str = "damage"
    """Its column of classes, as xBD writes them; other values are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """Name and licence of a model."""

    name: str = "damage"
    license_name: str = "LicenseRef-unknown"
    """Of the weights, which follows from the data."""
