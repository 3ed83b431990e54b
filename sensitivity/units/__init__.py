"""Which rows share one format, and which formats the shape of a row rules out."""
