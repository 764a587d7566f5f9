"""Review: people correct a map polygon by polygon, and their decisions make its next version."""
