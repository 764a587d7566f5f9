"""A map sheet: one page with map, legend, scale bar and provenance."""
