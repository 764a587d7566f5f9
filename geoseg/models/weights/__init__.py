"""Weights that trainings begin from: which there are by name, what they were trained on, and how their files are read."""
