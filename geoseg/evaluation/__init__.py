"""Measures of a map against a truth, added up piece by piece, with intervals. No torch."""
