"""Scenes: finding them, opening them, choosing their bands, and reading their pixels."""
