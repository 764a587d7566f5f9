"""Join: objects and classes across the borders of chunks."""
