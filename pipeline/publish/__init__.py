"""Publish: what a run leaves for its readers."""
