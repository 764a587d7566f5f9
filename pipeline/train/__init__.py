"""Train: from a recipe to a model folder."""
