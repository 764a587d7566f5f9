"""Likeness of images to those that a model was made for: statistics of windows, and their distance to the model's card."""
