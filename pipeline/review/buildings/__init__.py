"""Review of graded buildings: their versions."""
