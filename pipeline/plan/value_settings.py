"""What settings ask of classes, polygons and dates, refused for models that regress a quantity."""

from __future__ import annotations

from geoseg.errors import ConfigError
from geoseg.models.card import Card
from pipeline.config.map_sections import VectorConfig
from pipeline.config.sections import Config

__all__ = ["refuse_for_values", "refuse_values"]


def refuse_for_values(config: Config, card: Card) -> None:
    """Refuse settings that values have no use for: their map has neither classes nor polygons.

    Raises:
        ConfigError: One is set; the message names it.
    """
    assert card.quantity is not None
    usual = VectorConfig()
    asked = {
        "infer.task": config.infer.task != "auto",
        "infer.probabilities": config.infer.probabilities,
        "infer.uncertainty": config.infer.uncertainty,
        "area.aoi_cut": config.area.aoi_cut == "exact",
        "vector.formats": config.vector.formats not in ((), usual.formats),
        **{f"vector.{key}": value != getattr(usual, key) for key, value in config.vector if key not in OF_FILES},
    }
    key = next((key for key, is_set in asked.items() if is_set), None)
    if key is not None:
        raise ConfigError(
            f"{key}: is for maps of classes, and {card.name} regresses {card.quantity.title}: its map is values.tif, without "
            "classes and polygons; leave it out"
        )


OF_FILES = ("formats", "max_vertices", "style_table", "simplestyle")
"""Settings of polygons that say how files are written, which those of coverage are, too."""


def refuse_values(card: Card, what: str, cure: str) -> None:
    """Refuse a model that regresses where classes are needed.

    Args:
        card: Of the model.
        what: What needs them: a command or a setting.
        cure: What to do instead.

    Raises:
        ConfigError: It regresses.
    """
    if card.quantity is not None:
        raise ConfigError(f"{what}: needs classes, and {card.name} regresses {card.quantity.title}; {cure}")
