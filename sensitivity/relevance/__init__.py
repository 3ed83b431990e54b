"""Relevance, propagated backwards through a model."""
