"""Evaluate: maps against reference data."""
