"""How good a map is: measures against a truth, added up piece by piece, with intervals. No torch."""
