"""What training makes small: losses, their weights, their targets, and how they are balanced."""
