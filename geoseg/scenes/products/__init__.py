"""Products of archives: folders and archives of files that are one scene, with metadata that say what their pixels mean."""
