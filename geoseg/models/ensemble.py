"""Several models of the same classes and bands that decide together: their calibrated probabilities are averaged."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.models.card import Card
from geoseg.models.card_values import ReceptiveField
from geoseg.models.model_folder import Model, load_model

__all__ = ["AnyModel", "Ensemble", "load_models"]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Models that are run on the same pixels, in an order that does not depend on how they were named."""

    members: tuple[Model, ...]
    """By their sha256."""

    @classmethod
    def of(cls, models: Sequence[Model]) -> Ensemble:
        """Put models together.

        Raises:
            ConfigError: They have other classes, bands or rules of decision, or one is there twice.
        """
        members = sorted(models, key=lambda model: model.sha256)
        first = members[0].card
        for model, before in zip(members[1:], members, strict=False):
            if model.sha256 == before.sha256:
                raise ConfigError(f"model: {model.path} and {before.path} are the same model; give each once")
            card = model.card
            facts: dict[str, tuple[object, object]] = {
                "classes": ([c.name for c in first.classes], [c.name for c in card.classes]),
                "bands": (first.bands, card.bands),
                "activation": (first.activation, card.activation),
                "thresholds": (first.thresholds, card.thresholds),
            }
            stored = [
                None if c.quantity is None else c.quantity.model_dump(exclude={"slope", "intercept"}) for c in (first, card)
            ]
            facts["quantity"] = (stored[0], stored[1])
            for key, (one, other) in facts.items():
                if one != other:
                    raise ConfigError(
                        f"model: members of an ensemble are to have the same {key}: {first.name} has {one}, {card.name} has "
                        f"{other}"
                    )
        sizes = sorted({model.card.tile for model in members if model.card.tile is not None})
        if len(sizes) > 1:
            raise ConfigError(
                f"model: members of an ensemble see the same tiles, and these take {' and '.join(map(str, sizes))} px only; give "
                "some that go together"
            )
        return cls(tuple(members))

    @property
    def path(self) -> Path:
        """The folder of the first member."""
        return self.members[0].path

    @property
    def sha256(self) -> str:
        """Identity of the ensemble: sha256 over those of its members."""
        return hashlib.sha256("".join(model.sha256 for model in self.members).encode()).hexdigest()

    @property
    def card(self) -> Card:
        """A card of all members together: colours of the first, the largest stride and receptive field."""
        cards = [model.card for model in self.members]
        fields = [card.receptive_field for card in cards]
        sides = ("left", "right", "top", "bottom")
        known = [field for field in fields if field is not None]
        field = ReceptiveField(**{side: max(getattr(f, side) for f in known) for side in sides}) if known == fields else None
        names = [card.name for card in cards]
        licenses = dict.fromkeys(card.license for card in cards)
        return cards[0].model_copy(
            update={
                "name": "-and-".join(dict.fromkeys(names)),
                "version": "-and-".join(dict.fromkeys(card.version for card in cards)),
                "description": f"Ensemble of {', '.join(f'{card.name} {card.version}' for card in cards)}.",
                "license": " AND ".join(licenses),
                "data": tuple(dict.fromkeys(source for card in cards for source in card.data)),
                "architecture": " and ".join(dict.fromkeys(card.architecture for card in cards)),
                "total_parameters": sum(card.total_parameters for card in cards),
                "tile": next((card.tile for card in cards if card.tile is not None), None),
                "stride": math.lcm(*(card.stride for card in cards)),
                "receptive_field": field,
                "global_context": any(card.global_context for card in cards),
                "bytes_per_pixel": sum(card.bytes_per_pixel for card in cards),
                "calibration": None,
                "files": {},
            }
        )


AnyModel = Model | Ensemble


def load_models(names: Sequence[str]) -> AnyModel:
    """Load a model, or several as an ensemble; see ``load_model``.

    Raises:
        ModelError: One is not there or damaged.
        ConfigError: They don't fit together.
    """
    models = [load_model(name) for name in names]
    return models[0] if len(models) == 1 else Ensemble.of(models)
