"""Summaries: areas by zone and by grid cell."""
