"""Networks that geoseg builds itself."""
