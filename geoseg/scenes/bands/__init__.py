"""Bands of a scene: which they are, which of them a model takes, and how their values become what it takes."""
