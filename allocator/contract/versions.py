"""Versions of installed distributions, for the record of who computed an answer."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache  # reading a distribution's metadata takes as long as a solve
def installed_version(distribution: str) -> str:
    """Look up the version of a distribution.

    Returns:
        The version, or ``"unknown"`` when running from a tree that is not installed.

    Example:
        >>> installed_version("no-such-distribution")
        'unknown'
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
