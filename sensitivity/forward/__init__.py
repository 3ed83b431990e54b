"""Forward passes: prefixes that are reused, memory that is followed, outputs as functions of a weight."""
