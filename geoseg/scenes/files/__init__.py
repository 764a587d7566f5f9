"""One file of a scene: what it says of its bands, layout and place."""
