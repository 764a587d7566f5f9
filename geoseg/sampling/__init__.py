"""Reference samples of maps, and the areas and accuracies that they support."""
