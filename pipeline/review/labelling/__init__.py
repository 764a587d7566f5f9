"""Buildings labelled in the browser: for a model of their event, or those of a sample."""
