"""Calibration: probabilities of a model that are frequencies."""
