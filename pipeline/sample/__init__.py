"""Sample: a probability sample of a map, its labels, and the areas that it estimates."""
