"""Answers of the server, a module for each kind: they read a gallery, and write nothing."""
