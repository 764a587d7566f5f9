"""Calibration: whether probabilities are frequencies, and what makes them so."""
