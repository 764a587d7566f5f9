"""Plan: what a run will do, before it does it."""
