"""Checkpoints read without torch."""
