"""What changed between dates of one place."""
