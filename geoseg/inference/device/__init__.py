"""The loop that owns a device: batches of tiles of all chunks, their slots, streams and pass."""
