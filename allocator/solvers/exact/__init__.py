"""Proved optimum: the dual, the expanding core, and what finishes it."""
