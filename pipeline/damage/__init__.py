"""Damage: buildings graded from images before and after an event."""
