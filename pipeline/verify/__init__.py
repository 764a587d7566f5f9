"""Verify: what was published against its records, and chunks computed anew."""
