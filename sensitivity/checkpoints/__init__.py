"""Checkpoints larger than memory, one block at a time."""
