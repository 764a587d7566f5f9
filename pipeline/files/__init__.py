"""Files that commands write and read: whole or not at all, and in nobody's place."""
