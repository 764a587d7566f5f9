"""STAC: items and searches become scenes, and what they tell of the files is taken where the files say nothing."""
