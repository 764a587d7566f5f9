"""Chips to learn from: sources, splits, samplers, loaders."""
