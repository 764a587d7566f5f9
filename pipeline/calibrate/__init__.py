"""Calibrate: scores of a model that mean what they say."""
