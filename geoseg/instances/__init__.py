"""Instances: objects that are told apart one by one, each once and whole, across any seam."""
