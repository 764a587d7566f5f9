"""Review in QGIS: a work file with a form, its project, and what comes back."""
