"""Networks: how they are configured, built, initialized and deployed."""
