"""Parts of files on HTTP servers: many asked for at once, over connections that are kept."""
