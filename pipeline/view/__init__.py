"""Maps in a browser: what a folder holds, its tiles, a server on loopback, and the same as a static folder."""
