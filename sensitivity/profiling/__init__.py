"""Profiles made: from a model, from a recipe, from a folder."""
