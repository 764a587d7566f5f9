"""Models: their cards, their folders, and the networks in them."""
