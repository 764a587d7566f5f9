"""Vector files: which are opened, by which drivers, and what is in them."""
