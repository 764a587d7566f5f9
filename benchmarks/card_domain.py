"""Measure what a shipped model was trained on, and write it into its card: the weights stay as they are.

    python benchmarks/card_domain.py

The card is part of a model's identity, so that its version goes up by one where the facts change. New trainings measure
theirs themselves.
"""

from __future__ import annotations

from pathlib import Path

from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, SHIPPED, load_model
from geoseg.training.data.statistics import domain_facts
from geoseg.windows import Window
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe

RECIPES = Path(__file__).resolve().parent / "recipes"
MODELS = {"amazon-forest": "amazon_forest.toml", "buildings": "buildings.toml"}
"""The recipe of each shipped model."""


def main() -> None:
    for name, recipe in MODELS.items():
        data = open_data(Recipe.read(RECIPES / recipe))
        whole = [(k, Window.of((source.height, source.width))) for k, source in enumerate(data.seen)]
        card = Card.read(SHIPPED / name / CARD)
        facts = domain_facts(data.seen, whole, card.value_range)
        if facts == card.domain:
            print(f"{name}: nothing has changed")
            continue
        major, minor, patch = card.version.split(".")
        changed = card.model_copy(update={"domain": facts, "version": f"{major}.{minor}.{int(patch) + 1}"})
        Card.model_validate(changed.model_dump()).write(SHIPPED / name / CARD)
        model = load_model(name)
        print(f"{name} {model.card.version}: {facts.windows if facts else 0} windows, sha256 {model.sha256[:12]}")


if __name__ == "__main__":
    main()
