"""Load: results in tables of PostGIS."""
