"""Real models that tests and benchmarks are run on: trained here from data that is on every machine, one per file.

A model is trained once and then read from the cache folder, see :mod:`benchmarks.models.cache`.
"""
