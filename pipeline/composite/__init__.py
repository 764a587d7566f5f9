"""Composite: many scenes of one area become one image without clouds."""
