"""Losses, their weights, their targets, and how they are balanced."""
