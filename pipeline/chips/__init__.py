"""Chips: labelled scenes as small images for other tools."""
