"""Notes on an answer, one kind a file."""
