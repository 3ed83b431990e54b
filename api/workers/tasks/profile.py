"""Validate a profile that is to be stored."""

from __future__ import annotations

import gzip
from typing import Any

from allocator import Fault, InvalidInputError, Profile
from api.workers.cache import TaskContext
from api.workers.json_body import parsed
from api.workers.tasks import Answer

#: Quick rather than small: tables of numbers hardly shrink further.
_LEVEL = 1


def run(context: TaskContext) -> Answer:
    """Parse, validate and digest a profile.

    Args:
        context: Its body is the profile; the option ``sha256`` is the digest that it has to have.

    Returns:
        Digest, size and summary; the canonical JSON, gzipped.

    Raises:
        InvalidInputError: The profile breaks its contract, or has another digest.
    """
    profile = parsed(Profile, context.body, context.limits)
    sha256, expected = profile.digest(), context.options.get("sha256")
    if expected is not None and expected != sha256:
        detail = f"this profile has the digest {sha256}; put it there, or POST it to /v1/profiles"
        raise InvalidInputError(Fault("", detail))
    canonical = profile.model_dump_json().encode()
    context.profiles.keep(sha256, profile)
    facts = {"sha256": sha256, "size_bytes": len(canonical), "summary": summary(profile)}
    return facts, [gzip.compress(canonical, _LEVEL, mtime=0)]


def summary(profile: Profile) -> dict[str, Any]:
    """Return what a profile holds: model, counts and names."""
    return {
        "model": profile.model,
        "layers": len(profile.layers),
        "formats": list(profile.formats),
        "costs": list(profile.costs),
        "resources": list(profile.resources),
    }
