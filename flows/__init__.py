"""geoseg, the flows: Prefect shells around pipeline calls. No logic."""
