"""Transfer: from a trained model to other data."""
