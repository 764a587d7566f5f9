"""Segment: one scene, or many."""
