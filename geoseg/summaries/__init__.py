"""Summaries of point-like features on metric grids: counts, shares and densities."""
