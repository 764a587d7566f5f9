"""Sample: a probability sample of a map, its interpretation, and the areas that it estimates."""
