"""Documents by words: embedded, on disk, in PostgreSQL, and over HTTP."""
