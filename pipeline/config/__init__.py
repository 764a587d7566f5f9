"""Configuration: sections, units, documents."""
