"""Deliver: a product with tables, layers, a sheet and terms."""
