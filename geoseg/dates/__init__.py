"""Several dates of one place: stacked, registered, matched, without clouds."""
