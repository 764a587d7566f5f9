"""Screening: cells of a coarse grid, ranked by a class."""
