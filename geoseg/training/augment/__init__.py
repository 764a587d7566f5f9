"""Augmentation: geometry, radiometry and style of chips."""
